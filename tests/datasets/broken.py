"""A corpus of broken datasets: a small sound one in COCO's layout, with one or two faults put into it.

Run as a program it makes each case that standard input names, reads it in every way, and writes what came of it as a
line of JSON. Its memory and each case's processor time are limited, so that a crash, a hang or greed is seen.
"""

from __future__ import annotations

import itertools
import json
import resource
import shutil
import signal
import struct
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32
SECONDS, BYTES = 5, 10**9
SQUARE = [4.0, 4.0, 20.0, 4.0, 20.0, 16.0, 4.0, 16.0]
AREA = 192

Content = dict[str, Any]


class Broken(NamedTuple):
    """:param kind: of finding that tells of it. :param change: puts it into the content, or into the written folder.
    :param level: of the finding. :param whole: nothing else can be found besides.
    :param place: of the image and the annotation that it needs."""

    kind: str
    change: Callable[[Content], object] | Callable[[Path], object]
    level: str = "error"
    whole: bool = False
    in_folder: bool = False
    place: int = 0


def sound() -> Content:
    """Every fault has records of its own, so that two of them do not hide each other."""
    return {
        "info": {"description": "sound"},
        "categories": [{"id": each, "name": f"thing {each}"} for each in range(1, 9)],
        "images": [
            {"id": each, "file_name": f"{each}.{'jpg' if each % 2 else 'png'}", "height": HEIGHT, "width": WIDTH}
            for each in range(1, 81)
        ],
        "annotations": [
            {
                "id": each,
                "image_id": each,
                "category_id": 1,
                "area": AREA,
                "iscrowd": 0,
                "segmentation": [list(SQUARE)],
            }
            for each in range(1, 81)
        ],
    }


def write(root: Path, content: Content, photographs: Path, places: set[int]) -> None:
    """The dataset in its layout, no more of it than images and annotations at some places."""
    (root / "annotations").mkdir(parents=True)
    (root / "train").mkdir()
    for place in places:
        suffix = "png" if place % 2 else "jpg"
        shutil.copy(photographs / f"one.{suffix}", root / "train" / f"{place + 1}.{suffix}")
    for key in ("images", "annotations"):
        if isinstance(content.get(key), list):
            content[key] = [content[key][place] for place in sorted(places)]
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))


def make_photographs(folder: Path) -> Path:
    """One of each format."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    for suffix in ("jpg", "png"):
        Image.fromarray(pixels).save(folder / f"one.{suffix}")
    return folder


_places = itertools.count(1)


def _entry(key: str, kind: str, level: str = "error", **values: Any) -> Broken:
    """Values of a record that no other fault changes."""
    place = next(_places) if key != "categories" else 4

    def change(content: Content) -> None:
        content[key][place] |= values

    return Broken(kind, change, level, place=0 if key == "categories" else place)


def _without(key: str, kind: str, field: str) -> Broken:
    place = next(_places)
    return Broken(kind, lambda content: content[key][place].pop(field), place=place)


def _instead(key: str, value: Any) -> Broken:
    place = next(_places)
    return Broken("record", lambda content: content[key].__setitem__(place, value), place=place)


def _segmentation(kind: str, value: Any, level: str = "error") -> Broken:
    return _entry("annotations", kind, level, segmentation=value)


def _runs(counts: Any, size: Any = (HEIGHT, WIDTH)) -> dict[str, Any]:
    return {"size": list(size), "counts": counts}


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _at(place: int, value: Any) -> list[Any]:
    polygon: list[Any] = list(SQUARE)
    polygon[place] = value
    return [polygon]


def _file(kind: str, change: Callable[[Path], object], whole: bool = False) -> Broken:
    return Broken(kind, change, whole=whole, in_folder=True)


def _json(kind: str, change: Callable[[bytes], bytes]) -> Broken:
    def rewrite(root: Path) -> None:
        path = root / "annotations" / "instances_train.json"
        path.write_bytes(change(path.read_bytes()))

    return _file(kind, rewrite, whole=True)


def _photograph(kind: str, change: Callable[[Path], object], suffix: str = "png") -> Broken:
    place = next(_places)
    while (place % 2 == 1) != (suffix == "png"):
        place = next(_places)
    change_it = lambda root: change(root / "train" / f"{place + 1}.{suffix}")  # noqa: E731
    return Broken(kind, change_it, in_folder=True, place=place)


def write_huge_header(path: Path) -> None:
    """A PNG that states 200000 x 200000 pixels and holds none."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 4 // 5])


def _link_out(path: Path) -> None:
    outside = path.parents[1] / "outside.png"
    path.rename(outside)
    path.symlink_to(outside)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


FAULTS: dict[str, Broken] = {
    "image id 0": _entry("images", "id", id=0),
    "image id of text": _entry("images", "id", id="7"),
    "image id too large": _entry("images", "id", id=10**30),
    "image id of 4300 digits": _entry("images", "id", id=10**4299),
    "image id twice": _entry("images", "id", id=80),
    "image without id": _without("images", "id", "id"),
    "image without height": _without("images", "field", "height"),
    "image of height 0": _entry("images", "field", height=0),
    "image of 200000 x 200000 stated": _entry("images", "size", height=60_000, width=60_000),
    "image that is no object": _instead("images", 3),
    "file name absolute": _entry("images", "file-name", file_name="/etc/passwd"),
    "file name with ..": _entry("images", "file-name", file_name="../../x.png"),
    "file name of Windows": _entry("images", "file-name", file_name="C:\\x.png"),
    "file name with a line end": _entry("images", "field", file_name="a\nb.png"),
    "file name of half a character": _entry("images", "field", file_name="\ud800.png"),
    "file name too long": _entry("images", "image", file_name="x" * 5000 + ".png"),
    "file name twice": _entry("images", "duplicate-name", "warning", file_name="80.png"),
    "category id 0": _entry("categories", "id", id=0),
    "category without name": Broken("field", lambda content: content["categories"][5].pop("name")),
    "category name twice": Broken(
        "duplicate-name", lambda content: content["categories"][6].update(name="thing 1"), "warning"
    ),
    "annotation id 0": _entry("annotations", "id", id=0),
    "annotation id twice": _entry("annotations", "id", id=80),
    "annotation id -1": _entry("annotations", "id", id=-1),
    "annotation that is no object": _instead("annotations", [1]),
    "annotation of null": _instead("annotations", None),
    "annotation of no image": _entry("annotations", "reference", image_id=999),
    "annotation of no category": _entry("annotations", "reference", category_id=999),
    "iscrowd 2": _entry("annotations", "field", iscrowd=2),
    "area NaN": _entry("annotations", "area", area=float("nan")),
    "area -1": _entry("annotations", "area", area=-1),
    "area 1e400": _entry("annotations", "area", area=10**400),
    "area missing": _without("annotations", "area", "area"),
    "area of another": _entry("annotations", "area-mismatch", "warning", area=500),
    "segmentation missing": _without("annotations", "segmentation", "segmentation"),
    "segmentation null": _segmentation("segmentation", None),
    "segmentation of text": _segmentation("segmentation", "abc"),
    "segmentation nested": _segmentation("polygon", _nested(200)),
    "no polygon": _segmentation("polygon", []),
    "polygon of 4": _segmentation("polygon", [SQUARE[:4]]),
    "polygon of odd length": _segmentation("polygon", [SQUARE[:7]]),
    "polygon with NaN first": _segmentation("polygon", _at(0, float("nan"))),
    "polygon with NaN last": _segmentation("polygon", _at(7, float("nan"))),
    "polygon with NaN and a huge number": _segmentation("polygon", [[float("nan"), 1, 10**400, *SQUARE[:5]]]),
    "polygon with Infinity": _segmentation("polygon", _at(2, float("inf"))),
    "polygon with -Infinity": _segmentation("polygon", _at(3, -float("inf"))),
    "polygon with 1e300": _segmentation("polygon", _at(5, 1e300)),
    "polygon out of bounds": _segmentation("polygon", _at(2, WIDTH + 2)),
    "polygon with text": _segmentation("polygon", _at(2, "3")),
    "polygon that covers nothing": _segmentation("empty", [[4.1, 4.1, 4.2, 4.1, 4.2, 4.2]]),
    "run lengths of another size": _segmentation("run-lengths", _runs([HEIGHT * WIDTH], (WIDTH, HEIGHT))),
    "run lengths too short": _segmentation("run-lengths", _runs([5, 5])),
    "run lengths too long": _segmentation("run-lengths", _runs([5, HEIGHT * WIDTH])),
    "run lengths negative": _segmentation("run-lengths", _runs([HEIGHT * WIDTH + 5, -5])),
    "run lengths huge": _segmentation("run-lengths", _runs([10**400])),
    "run lengths many": _segmentation("run-lengths", _runs([1] * 100_000)),
    "run lengths damaged": _segmentation("run-lengths", _runs("~~~~")),
    "run lengths cut short": _segmentation("run-lengths", _runs("PPPP")),
    "run lengths of null": _segmentation("run-lengths", _runs(None)),
    "run lengths that cover nothing": _segmentation("empty", _runs([HEIGHT * WIDTH])),
    "no list of images": Broken("layout", lambda content: content.pop("images"), whole=True),
    "annotations in an object": Broken("layout", lambda content: content.update(annotations={}), whole=True),
    "JSON of a list": _json("layout", lambda text: b"[" + text + b"]"),
    "JSON empty": _json("json", lambda text: b""),
    "JSON cut short": _json("json", lambda text: text[: len(text) // 2]),
    "JSON cut in a string": _json("json", lambda text: text[: text.find(b"sound") + 2]),
    "JSON with more behind": _json("json", lambda text: text + b"]"),
    "JSON nested": _json("json", lambda text: b'{"info": ' + b"[" * 200_000 + text),
    "JSON of zeros": _json("json", lambda text: bytes(len(text))),
    "UTF-16": _json("encoding", lambda text: text.decode("latin-1").encode("utf-16")),
    "UTF-16 without a mark": _json("json", lambda text: text.decode("latin-1").encode("utf-16-le")),
    "Latin-1": _json("encoding", lambda text: text.replace(b"thing 1", b"th\xefng 1")),
    "photograph missing": _photograph("image", Path.unlink),
    "photograph of 0 bytes": _photograph("image", lambda path: path.write_bytes(b"")),
    "photograph of text": _photograph("image", lambda path: path.write_text("no image")),
    "PNG cut short": _photograph("image", _cut),
    "JPEG cut short": _photograph("image", _cut, "jpg"),
    "photograph in BMP": _photograph("image", lambda path: Image.new("RGB", (WIDTH, HEIGHT)).save(path, "BMP")),
    "photograph of another size": _photograph("image-size", lambda path: Image.new("RGB", (9, 9)).save(path)),
    "header of 200000 x 200000": _photograph("image", write_huge_header),
    "photograph behind a link": _photograph("outside", _link_out),
    "folder for a photograph": _photograph("image", _folder),
    "link to itself": _photograph("image", _loop),
}  # fmt: skip


def pairs(strides: tuple[int, ...]) -> list[tuple[str, str]]:
    """Pairs of faults, each fault in two of every stride; but for pairs of two that spoil the whole file, of which the
    second would find nothing to change. One of these comes last for the same reason."""
    names = list(FAULTS)
    found = [(name, names[(at + stride) % len(names)]) for stride in strides for at, name in enumerate(names)]
    apart = [pair for pair in found if not all(FAULTS[name].whole for name in pair)]
    return [(two, one) if FAULTS[one].whole else (one, two) for one, two in apart]


def break_dataset(root: Path, names: list[str], photographs: Path) -> None:
    """Write the sound dataset with some faults in it."""
    content = sound()
    for name in names:
        if not FAULTS[name].in_folder:
            FAULTS[name].change(content)  # type: ignore[arg-type]
    write(root, content, photographs, {0, 79} | {FAULTS[name].place for name in names})
    for name in names:
        if FAULTS[name].in_folder:
            FAULTS[name].change(root)  # type: ignore[arg-type]


def read_in_every_way(root: Path) -> dict[str, Any]:
    """What `validate`, the strict and the lenient loader and a repaired copy make of a dataset."""
    from sb3_alignsam.datasets.coco import CocoDataset
    from sb3_alignsam.datasets.validation import Options, validate
    from sb3_alignsam.errors import InputError

    kind, (checked,) = validate(root, Options())
    assert kind.repair is not None
    came: dict[str, Any] = {"lines": [str(each) for each in checked.findings.listed], "unreadable": checked.unreadable}
    came |= {level: dict(kinds) for level, kinds in checked.findings.counts.items()}
    for name, lenient in (("strict", False), ("lenient", True)):
        try:
            with warnings.catch_warnings(action="ignore"):
                dataset = CocoDataset(root, "train", lenient=lenient)
            for index in range(len(dataset)):
                dataset.get(index)
            came[name] = None
        except InputError as error:
            came[name] = str(error)
    try:
        kind.repair(checked, root / "fixed")
        came["fixed"] = validate(root / "fixed", Options())[1][0].findings.total("error")
    except InputError as error:
        came["fixed"] = str(error)
    return came


def _limit() -> None:
    """Memory of this process: what it has now, with all libraries loaded, and `BYTES` more."""
    import sb3_alignsam.datasets.coco_repair
    import sb3_alignsam.datasets.validation  # noqa: F401

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Each case of standard input, a line each way."""
    _limit()
    with tempfile.TemporaryDirectory() as name:
        photographs = make_photographs(Path(name) / "photographs")
        for number, names in enumerate(json.load(sys.stdin)):
            # Said before: if this process is killed, its last line tells by which case.
            print(json.dumps(names), flush=True)
            root = Path(name) / str(number)
            break_dataset(root, names, photographs)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            came = read_in_every_way(root)
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(json.dumps(came), flush=True)
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
