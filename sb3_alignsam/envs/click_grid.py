"""The discrete click grid: which action is which click, and which actions are possible on an image."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.clicks import Click
from sb3_alignsam.perception.geometry import resized_shape


class ClickGrid:
    """G×G patches over SAM's padded square, each to be clicked positive or negative, and perhaps *stop*.

    Action ``2·(row·G + column) + (0 positive | 1 negative)``, row-major; the last action is *stop* where allowed.

    :param image_size: side of the padded square in pixels.
    :param num_patches: G, patches a side.
    :param patch_size: side of a patch in pixels of the padded square, a divisor of `image_size`; give one of the two.
    :param allow_stop: whether there is a *stop* action.
    :raises InputError: both or neither of the sizes are given, or they do not divide the square.
    """

    def __init__(
        self,
        image_size: int,
        *,
        num_patches: int | None = None,
        patch_size: int | None = None,
        allow_stop: bool = False,
    ) -> None:
        if (num_patches is None) == (patch_size is None):
            raise InputError("give exactly one of num_patches and patch_size")
        if patch_size is not None:
            if patch_size < 1 or image_size % patch_size:
                raise InputError(f"patch_size {patch_size} does not divide the image size {image_size}")
            num_patches = image_size // patch_size
        assert num_patches is not None
        if not 1 <= num_patches <= image_size:
            raise InputError(f"num_patches {num_patches} is outside 1..{image_size}")
        self.image_size = image_size
        self.num_patches = num_patches
        self.allow_stop = allow_stop

    @property
    def num_actions(self) -> int:
        """Number of discrete actions, *stop* included."""
        return 2 * self.num_patches**2 + self.allow_stop

    @property
    def stop_action(self) -> int | None:
        """Index of *stop*, None where it is not allowed."""
        return self.num_actions - 1 if self.allow_stop else None

    def click(self, action: int, height: int, width: int) -> Click:
        """The click of an action on a (height, width) image: its patch's centre, in pixels of the image.

        A centre in the padding yields a click outside the image; `valid_patches` tells.

        :raises ValueError: the action is *stop* or out of range.
        """
        if not 0 <= action < 2 * self.num_patches**2:
            raise ValueError(f"action {action} is no click")
        patch, negative = divmod(int(action), 2)
        row, column = divmod(patch, self.num_patches)
        new_height, new_width = resized_shape(height, width, self.image_size)
        side = self.image_size / self.num_patches
        x, y = int((column + 0.5) * side * width / new_width), int((row + 0.5) * side * height / new_height)
        if row == 0 or column == 0:  # see `_valid`: the first patches of a very thin picture
            x, y = (min(x, width - 1) if column == 0 else x), (min(y, height - 1) if row == 0 else y)
        return Click(x, y, not negative)

    def centres(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows of all patches' clicks on a (height, width) image, in pixels of the image.

        :return: x of each column of patches and y of each row, both (G,) int64; in the padding they lie outside.
        """
        along = range(self.num_patches)
        columns = [self.click(self.action(0, place, True), height, width).x for place in along]
        rows = [self.click(self.action(place, 0, True), height, width).y for place in along]
        return np.array(columns), np.array(rows)

    def patch(self, click: Click, height: int, width: int) -> tuple[int, int]:
        """Row and column of the patch that a click on a (height, width) image lies in."""
        new_height, new_width = resized_shape(height, width, self.image_size)
        row = int((click.y + 0.5) * new_height / height * self.num_patches / self.image_size)
        column = int((click.x + 0.5) * new_width / width * self.num_patches / self.image_size)
        last = self.num_patches - 1
        return min(row, last), min(column, last)

    def action(self, row: int, column: int, positive: bool) -> int:
        """The action that clicks a patch."""
        return 2 * (row * self.num_patches + column) + (not positive)

    def valid_patches(self, height: int, width: int) -> np.ndarray:
        """Patches that can be clicked on a (height, width) image, (G, G) bool, at least one.

        Their centre lies on the image and not in the padding. Where the grid is finer than the pixels, several centres
        share a pixel, and only the patch that the pixel lies in counts.
        """
        new_height, new_width = resized_shape(height, width, self.image_size)
        side, places = self.image_size, self.num_patches
        return _valid(height, new_height, side, places)[:, None] & _valid(width, new_width, side, places)

    def action_mask(self, clicked: np.ndarray, height: int, width: int) -> np.ndarray:
        """Which actions do something, (num_actions,) bool.

        :param clicked: patches that were clicked, (G, G) bool. Where every patch was, none is masked: a categorical
            distribution over nothing does not exist.
        """
        valid = self.valid_patches(height, width)
        free = valid & ~clicked
        mask = np.repeat((free if free.any() else valid).ravel(), 2)
        return np.append(mask, True) if self.allow_stop else mask


@lru_cache(maxsize=256)
def _valid(length: int, resized: int, image_size: int, num_patches: int) -> np.ndarray:
    """Which places along one axis can be clicked, (num_patches,) bool; kept, since every step of an episode asks."""
    places = np.arange(num_patches)
    pixels = ((places + 0.5) * image_size / num_patches * length / resized).astype(int)
    back = ((pixels + 0.5) * resized / length * num_patches / image_size).astype(int)
    valid = (pixels < length) & (back == places)
    valid[0] |= not valid.any()  # a picture so thin that no centre lies on it is clicked in its first patches
    valid.setflags(write=False)
    return valid
