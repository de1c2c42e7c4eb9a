"""Reads one image file, a dataset's or a user's, into RGB pixels; every way it can fail becomes one line."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sb3_alignsam.errors import InputError

MAX_PIXELS = 2**26
"""Most pixels (height x width) a photograph may have: 8192 x 8192, 192 MiB as RGB. Checked before decoding."""
MAX_BYTES = 8 * MAX_PIXELS
"""Most bytes read from a stream: as many as the largest picture has uncompressed, with four channels of 16 bits."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may decode here. Left out on purpose are formats for which it starts another program, such as EPS."""
DATASET_FORMATS = ("JPEG", "PNG")
"""What the photographs of a dataset may be."""
LABEL_FORMATS = ("PNG",)
"""What label images may be: nothing that changes a pixel's number."""
BROWSER_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")
"""Those of `FORMATS` that a web browser shows too, and that strangers may send: Pillow takes minutes over a GIF of long
comments."""
# What Pillow's decoders raise on damaged files: there is no common base below Exception.
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error, zlib.error)

Read = TypeVar("Read")


class TooManyPixelsError(InputError):
    """An image is larger than may be decoded."""


def read_photograph(path: str | os.PathLike[str], formats: tuple[str, ...] = FORMATS) -> np.ndarray:
    """Read an image file as the annotators of COCO saw it: as stored, the EXIF orientation not applied.

    Greyscale, palette, CMYK and 16-bit greyscale pictures become RGB. Of a picture with transparency the colours are
    kept and the alpha channel is dropped. Of several frames the first counts. Pillow turns a TIFF by its orientation.

    :param path: a file with at most `MAX_PIXELS` pixels. :param formats: which ones of `FORMATS` it may have.
    :return: (H, W, 3) uint8, RGB.
    :raises InputError: there is no such file, or it is not an image, is damaged or is too large.
    """
    return _read(_existing(path), str(path), _to_rgb, formats)


def photograph_size(path: str | os.PathLike[str], formats: tuple[str, ...] = FORMATS) -> tuple[int, int]:
    """Height and width in pixels as the file's header states them; no pixel is decoded. All else as in
    `read_photograph`."""
    return _read(_existing(path), str(path), lambda image: (image.height, image.width), formats)


def read_upright(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as its owner sees it: turned by its EXIF orientation. All else as in `read_photograph`."""
    return _read(_existing(path), str(path), _to_upright_rgb)


def read_upright_stream(stream: BinaryIO, name: str, formats: tuple[str, ...] = FORMATS) -> np.ndarray:
    """Read an image from an open stream, such as standard input, as `read_upright` does.

    :param stream: is read to its end. :param name: what messages call it. :param formats: which ones of `FORMATS` it
        may have.
    :return: (H, W, 3) uint8, RGB.
    :raises InputError: what it holds is not an image, is damaged or is too large.
    """
    content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{name} holds more than {MAX_BYTES} bytes; make the image smaller")
    return _read(io.BytesIO(content), name, _to_upright_rgb, formats)


def check_header(content: bytes, name: str, formats: tuple[str, ...], most: int) -> int:
    """Pixels of an image as its header states them; no pixel is decoded.

    :param content: of an image file. :param name: what messages call it. :param formats: which ones of `FORMATS` it
        may have. :param most: pixels that it may have, at most `MAX_PIXELS`.
    :raises TooManyPixelsError: it has more. :raises InputError: it is not an image, or its header is damaged.
    """
    return _read(io.BytesIO(content), name, lambda image: image.width * image.height, formats, most)


def read_label_map(path: str | os.PathLike[str], modes: Sequence[str]) -> np.ndarray:
    """Read an image file whose pixels are numbers, exactly as they are stored; of a palette picture the indices.

    :param path: as in `read_photograph`. :param modes: Pillow's names of what the pixels may be, such as ``L``.
    :return: (H, W) or (H, W, 3), in the file's own integer type.
    :raises InputError: as `read_photograph`; or it is none of `LABEL_FORMATS`, or its pixels are of another mode.
    """

    def convert(image: Image.Image) -> np.ndarray:
        if image.mode not in modes:
            raise InputError(
                f"the label image {path} has pixels of mode {image.mode}; they must be {' or '.join(modes)}: export it "
                "without colours or compression of its values"
            )
        return np.array(image)

    return _read(_existing(path), str(path), convert, LABEL_FORMATS)


def _existing(path: str | os.PathLike[str]) -> Path:
    if not os.path.isfile(path):  # A Path's own raises where the name is too long.
        raise InputError(f"there is no image file {path}; check the path")
    return Path(path)


def _read(
    source: Path | BinaryIO,
    name: str,
    convert: Callable[[Image.Image], Read],
    formats: tuple[str, ...] = FORMATS,
    most: int | None = None,
) -> Read:
    """Open a picture, check its size before it is decoded, and convert it. :param most: pixels; None: `MAX_PIXELS`."""
    most = MAX_PIXELS if most is None else most
    try:
        with Image.open(source, formats=formats) as image:
            _check_size(image.width * image.height, name, most)
            return convert(image)
    except InputError:
        raise
    # Pillow's own limit lies above MAX_PIXELS; it is an error, or a warning that the user may have made an error.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixelsError(f"the image {name} has more than {most} pixels; make it smaller") from error
    except UnidentifiedImageError as error:
        wanted = f"one of {', '.join(formats)}" if len(formats) > 1 else formats[0]
        raise InputError(f"{name} is not an image; save it as {wanted}") from error
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"the image {name} cannot be read ({reason}); save it anew as JPEG or PNG") from error


def _check_size(pixels: int, name: str, most: int) -> None:
    if pixels > most:
        raise TooManyPixelsError(f"the image {name} has {pixels} pixels; make it smaller, at most {most} pixels")


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Pixels of an opened picture, (H, W, 3) uint8."""
    image.load()
    if image.mode.startswith("I;16"):
        # Pillow's convert would clip at 255 and leave a white picture.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers of unknown range")
    if image.mode == "RGB":
        return np.array(image)
    # Without this, Pillow warns about a palette's transparency, which is dropped all the same.
    image.info.pop("transparency", None)
    return np.array(image.convert("RGB"))


def _to_upright_rgb(image: Image.Image) -> np.ndarray:
    """Pixels of an opened picture turned by its EXIF orientation, (H, W, 3) uint8."""
    image.load()
    # Damaged EXIF data leave the pixels as they are: nobody would want the photograph refused, nor Pillow's warning.
    with contextlib.suppress(*_DAMAGED), warnings.catch_warnings(action="ignore"):
        image = ImageOps.exif_transpose(image)
    return _to_rgb(image)
