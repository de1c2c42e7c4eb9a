"""Whatever kind of file a photograph is, it arrives as RGB, or as one line that says why not."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sb3_alignsam.datasets import photographs
from sb3_alignsam.datasets.photographs import (
    TooManyPixelsError,
    check_header,
    read_photograph,
    read_upright,
    read_upright_stream,
)
from sb3_alignsam.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def _png_header(path: Path, side: int) -> Path:
    """A PNG that states its size, and holds no pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def _refusal(path: Path) -> str:
    """The message with which a file is refused, once it is one line that names the file."""
    with pytest.raises(InputError) as caught:
        read_photograph(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    image = read_photograph(tmp_path / "a.png")
    assert image.dtype == np.uint8
    assert image.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(image, PIXELS)


def test_greyscale_becomes_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "a.png"), np.stack([PIXELS[..., 0]] * 3, axis=-1))


def test_16_bit_greyscale_keeps_its_brightness(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 256 + 77).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "a.png"), np.stack([PIXELS[..., 0]] * 3, axis=-1))


def test_alpha_is_dropped_and_the_colours_under_it_are_kept(tmp_path: Path) -> None:
    alpha = np.zeros((6, 9, 1), np.uint8)
    Image.fromarray(np.concatenate([PIXELS, alpha], axis=2)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "a.png"), PIXELS)


def test_palette_with_transparency_gives_its_colours_without_a_warning(tmp_path: Path) -> None:
    indices = np.arange(54, dtype=np.uint8).reshape(6, 9)
    picture = Image.fromarray(indices).convert("P")
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    picture.putpalette(palette.tobytes())
    picture.save(tmp_path / "a.png", transparency=bytes(range(54)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_photograph(tmp_path / "a.png")
    np.testing.assert_array_equal(image, palette[indices])


def test_cmyk_has_the_right_colours(tmp_path: Path) -> None:
    orange = Image.new("RGB", (16, 16), (240, 120, 0))
    orange.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    image = read_photograph(tmp_path / "a.jpg")
    assert image.shape == (16, 16, 3)
    np.testing.assert_allclose(image.astype(int), np.broadcast_to([240, 120, 0], image.shape), atol=4)


def test_the_first_of_several_frames_counts(tmp_path: Path) -> None:
    # Phones store such JPEGs, which Pillow calls MPO.
    first, second = (Image.new("L", (16, 16), level) for level in (40, 200))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    np.testing.assert_allclose(read_photograph(tmp_path / "a.jpg"), 40, atol=2)


def test_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=exif)
    assert read_photograph(tmp_path / "a.jpg").shape == (6, 9, 3)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "no image file" in _refusal(tmp_path / "missing.jpg")
    assert "no image file" in _refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert "is not an image" in _refusal(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpg", "png", "tif", "webp"])
def test_a_file_cut_short_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _refusal(path)


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpg", "png", "tif", "webp"])
def test_damaged_bytes_are_read_or_refused_but_never_escape_otherwise(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).save(path)
    good = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(60):
        damaged = good.copy()
        damaged[rng.integers(len(good), size=8)] = rng.integers(0, 256, 8)
        path.write_bytes(damaged.tobytes())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert read_photograph(path).shape[2] == 3
        except InputError:
            refused += 1
    assert refused


def test_pixels_of_unknown_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    assert "range" in _refusal(tmp_path / "a.tif")


def test_more_pixels_than_the_cap_are_refused_before_decoding(tmp_path: Path) -> None:
    # 9000² lies between our cap and Pillow's own; the file holds no pixel, so decoding it would fail otherwise.
    assert f"at most {photographs.MAX_PIXELS} pixels" in _refusal(_png_header(tmp_path / "a.png", 9_000))


@pytest.mark.parametrize("side", [10_000, 60_000])
@pytest.mark.filterwarnings("error")
def test_more_pixels_than_pillow_allows_are_refused(tmp_path: Path, side: int) -> None:
    assert f"more than {photographs.MAX_PIXELS} pixels" in _refusal(_png_header(tmp_path / "a.png", side))


def test_as_many_pixels_as_the_cap_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    monkeypatch.setattr(photographs, "MAX_PIXELS", 54)
    assert read_photograph(tmp_path / "a.png").shape == (6, 9, 3)
    monkeypatch.setattr(photographs, "MAX_PIXELS", 53)
    assert "54 pixels" in _refusal(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_a_users_photograph_is_turned_upright_a_datasets_is_not(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    upright = {
        1: PIXELS, 2: PIXELS[:, ::-1], 3: PIXELS[::-1, ::-1], 4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2), 6: np.rot90(PIXELS, -1), 7: np.rot90(PIXELS, 2).transpose(1, 0, 2),
        8: np.rot90(PIXELS),
    }[orientation]  # fmt: skip
    np.testing.assert_array_equal(read_upright(path), upright)
    np.testing.assert_array_equal(read_upright_stream(io.BytesIO(path.read_bytes()), "standard input"), upright)
    if suffix != "tiff":  # Pillow turns a TIFF as it loads it.
        np.testing.assert_array_equal(read_photograph(path), PIXELS)


def test_damaged_exif_data_leave_the_pixels_as_they_are(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff damaged")
    with warnings.catch_warnings(action="error"):
        read_upright(tmp_path / "a.png")
    np.testing.assert_array_equal(read_upright(tmp_path / "a.png"), PIXELS)


def test_a_stream_is_named_in_what_is_wrong_with_it() -> None:
    for content, words in ((b"", "standard input is not an image"), (b"GIF89a", "standard input")):
        with pytest.raises(InputError, match=words):
            read_upright_stream(io.BytesIO(content), "standard input")


def test_a_stream_too_large_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(photographs, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="more than 100 bytes"):
        read_upright_stream(io.BytesIO(bytes(101)), "standard input")
    monkeypatch.undo()
    header = _png_header(tmp_path / "a.png", 9000).read_bytes()
    with pytest.raises(InputError, match="81000000 pixels; make it smaller"):
        read_upright_stream(io.BytesIO(header), "standard input")


def test_a_header_tells_how_many_pixels_there_are_before_any_is_decoded(tmp_path: Path) -> None:
    content = _png_header(tmp_path / "a.png", 4000).read_bytes()
    assert check_header(content, "it", ("PNG",), 16_000_000) == 16_000_000
    with pytest.raises(TooManyPixelsError, match=r"the image it has 16000000 pixels; .* at most 15999999"):
        check_header(content, "it", ("PNG",), 15_999_999)
    with pytest.raises(TooManyPixelsError, match="more than 1000 pixels"):
        check_header(_png_header(tmp_path / "b.png", 20_000).read_bytes(), "it", ("PNG",), 1000)
    with pytest.raises(InputError, match="it is not an image; save it as JPEG"):
        check_header(content, "it", ("JPEG",), 16_000_000)
