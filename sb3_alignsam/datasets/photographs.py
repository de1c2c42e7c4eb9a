"""Reads one image file, a dataset's or a user's, into RGB pixels; every way it can fail becomes one line."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from sb3_alignsam.errors import InputError

MAX_PIXELS = 2**26
"""Most pixels (height x width) a photograph may have: 8192 x 8192, 192 MiB as RGB. Checked before decoding."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may decode here. Left out on purpose are formats for which it starts another program, such as EPS."""
# What Pillow's decoders raise on damaged files: there is no common base below Exception.
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error, zlib.error)


def read_photograph(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as the annotators of COCO saw it: as stored, the EXIF orientation not applied.

    Greyscale, palette, CMYK and 16-bit greyscale pictures become RGB. Of a picture with transparency the colours are
    kept and the alpha channel is dropped. Of several frames the first counts. Pillow turns a TIFF by its orientation.

    :param path: a file in one of `FORMATS`, with at most `MAX_PIXELS` pixels.
    :return: (H, W, 3) uint8, RGB.
    :raises InputError: there is no such file, or it is not an image, is damaged or is too large.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no image file {path}; check the path")
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_size(image.width * image.height, path)
            return _to_rgb(image)
    except InputError:
        raise
    # Pillow's own limit lies above MAX_PIXELS; it is an error, or a warning that the user may have made an error.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"the image {path} has more than {MAX_PIXELS} pixels; make it smaller") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image; save it as one of {', '.join(FORMATS)}") from error
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"the image {path} cannot be read ({reason}); save it anew as JPEG or PNG") from error


def _check_size(pixels: int, path: Path) -> None:
    if pixels > MAX_PIXELS:
        raise InputError(f"the image {path} has {pixels} pixels; make it smaller, at most {MAX_PIXELS} pixels")


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Pixels of an opened picture, (H, W, 3) uint8."""
    image.load()
    if image.mode.startswith("I;16"):
        # Pillow's convert would clip at 255 and leave a white picture.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers of unknown range")
    # Without this, Pillow warns about a palette's transparency, which is dropped all the same.
    image.info.pop("transparency", None)
    return np.array(image.convert("RGB"))
