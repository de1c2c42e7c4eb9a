"""`sb3-alignsam predict` as a user types it."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from sb3_alignsam.datasets import ShapesDataset
from tests.cli.commands import assert_refused, call
from tests.conftest import REPOSITORY


@pytest.fixture
def scene(tmp_path):
    """A scene on disk, and its target's name."""
    sample = ShapesDataset("val").get(0)
    Image.fromarray(sample.image).save(tmp_path / "scene.png")
    return tmp_path / "scene.png", sample.category


def _predict(run, scene, out, capsys, *more):
    code, shown, err = call(["predict", run, "--image", scene[0], "--category", scene[1], "-o", out, *more], capsys)
    assert (code, err) == (0, "")
    stem = out / f"{scene[0].stem}_{scene[1]}"
    files = [stem.with_name(f"{stem.name}_{kind}") for kind in ("mask.png", "overlay.png", "clicks.json")]
    assert all(str(path) in shown for path in files)
    assert sorted(out.iterdir()) == sorted(files)
    mask, overlay = (np.asarray(Image.open(path)) for path in files[:2])
    return mask, overlay, json.loads(files[2].read_text()), shown


def test_it_writes_mask_overlay_and_clicks(run_folder, scene, tmp_path, capsys):
    mask, overlay, about, _ = _predict(run_folder, scene, tmp_path / "out", capsys)
    height, width = ShapesDataset("val").get(0).image.shape[:2]
    assert mask.shape == (height, width)
    assert set(np.unique(mask)) <= {0, 255}
    assert overlay.shape[1:] == (640, 3)
    assert (about["width"], about["height"]) == (width, height)
    assert about["area"] == np.count_nonzero(mask)
    assert about["category"] == scene[1]
    assert [click["by"] for click in about["clicks"]] == ["agent"] * 5
    assert about["predicted_iou"] == max(click["predicted_iou"] for click in about["clicks"])


def test_what_it_wrote_can_be_corrected_and_gone_on_with(run_folder, scene, tmp_path, capsys):
    mask, _, about, _ = _predict(run_folder, scene, tmp_path / "a", capsys)
    path = tmp_path / "clicks.json"
    path.write_text(json.dumps(about | {"clicks": about["clicks"][:2]}))
    again = _predict(run_folder, scene, tmp_path / "b", capsys, "--from-clicks", path)
    assert np.array_equal(again[0], mask)
    corrected = [*about["clicks"], {"x": 3, "y": 2, "positive": False}]
    path.write_text(json.dumps({"clicks": corrected}))
    *_, about, shown = _predict(run_folder, scene, tmp_path / "c", capsys, "--from-clicks", path)
    assert len(about["clicks"]) == 6
    assert "budget of 6 clicks is used up" in shown
    *_, about, _ = _predict(run_folder, scene, tmp_path / "d", capsys, "--from-clicks", path, "--clicks", 8)
    assert [(click["x"], click["y"], click["positive"]) for click in about["clicks"]][5] == (3, 2, False)
    assert [click["by"] for click in about["clicks"]] == ["given"] * 6 + ["agent"] * 2


def test_an_explicit_agent_can_be_asked_for_any_name(explicit_run, scene, tmp_path, capsys):
    args = ["predict", explicit_run, "--image", scene[0], "--category", "a/b: Ü", "-o", tmp_path / "out"]
    code, _, err = call(args, capsys)
    assert (code, err) == (0, "")
    assert (tmp_path / "out" / "scene_a-b-Ü_mask.png").is_file()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_any_kind_of_image_is_segmented(run_folder, mode, tmp_path, capsys):
    sample = ShapesDataset("val").get(0)
    image = Image.fromarray(sample.image)
    path = tmp_path / ("scene.tiff" if mode == "CMYK" else "scene.png")
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    (Image.fromarray(grey) if mode == "I;16" else image.convert(mode)).save(path)
    mask, *_ = _predict(run_folder, (path, sample.category), tmp_path / "out", capsys)
    assert mask.shape == sample.image.shape[:2]


def test_a_photograph_turned_by_its_camera_is_segmented_upright_also_from_standard_input(run_folder, tmp_path, capsys):
    sample = ShapesDataset("val").get(0)
    image = sample.image[:150]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turned clockwise
    Image.fromarray(np.rot90(image)).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(image).save(tmp_path / "upright.png")
    upright, *_ = _predict(run_folder, (tmp_path / "upright.png", sample.category), tmp_path / "a", capsys)
    turned, *_ = _predict(run_folder, (tmp_path / "turned.png", sample.category), tmp_path / "b", capsys)
    assert np.array_equal(upright, turned)
    command = [sys.executable, "-m", "sb3_alignsam", "predict", str(run_folder), "--image", "-"]
    with (tmp_path / "turned.png").open("rb") as stream:
        subprocess.run(
            [*command, "--category", sample.category, "-o", str(tmp_path / "c")],
            stdin=stream, cwd=REPOSITORY, capture_output=True, check=True,
        )  # fmt: skip
    piped = np.asarray(Image.open(tmp_path / "c" / f"stdin_{sample.category}_mask.png"))
    assert np.array_equal(upright, piped)


def test_nothing_in_a_zip_is_unpickled(run_folder, scene, tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = tmp_path / "agent.zip"
    with zipfile.ZipFile(run_folder / "SamSegShapes-v0.zip") as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            after.writestr(
                name, pickle.dumps(Trap(), protocol=2) if name in ("data", "policy.pth") else before.read(name)
            )
    code, _, err = call(["predict", path, "--image", scene[0], "--category", scene[1], "-o", tmp_path / "out"], capsys)
    assert code == 2
    assert "policy.pth is no file of weights" in err
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--image": "none.png"}, "there is no image file none.png"),
        ({"--image": "TEXT"}, "is not an image; save it as one of"),
        ({"--image": "TORN"}, "cannot be read"),
        ({"--category": "stra"}, "did you mean star"),
        ({"--category": ""}, "category '' is no name"),
        ({"RUN": "no/run"}, "no/run does not exist"),
        ({"RUN": "TEXT"}, "is damaged or no zip"),
        ({"--from-clicks": "TEXT"}, "is no valid JSON"),
        ({"--from-clicks": "OUTSIDE"}, "click 1: 'x' is 9999"),
        ({"--from-clicks": "TWO", "--clicks": 1}, "--clicks 1 is less than the 2 clicks of"),
        ({"--clicks": 0}, "--clicks needs a whole number >= 1"),
        ({"--clicks": 1001}, "--clicks needs a whole number <= 1000"),
        ({"--env-kwargs": "root:x"}, "'root' says nothing about photographs"),
        ({"--env-kwargs": "max_steps:3"}, "weights do not fit"),
        ({"-o": "TEXT"}, "is a file"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(change, words, run_folder, scene, tmp_path, capsys):
    files = {"TEXT": "no image", "OUTSIDE": '{"clicks": [{"x": 9999, "y": 1, "positive": true}]}'}
    files["TWO"] = json.dumps({"clicks": [{"x": 1, "y": 1, "positive": True}] * 2})
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "TORN").write_bytes(scene[0].read_bytes()[:500])
    options = {"RUN": run_folder, "--image": scene[0], "--category": scene[1], "-o": tmp_path / "out"} | change
    options = {key: tmp_path / value if value in (*files, "TORN") else value for key, value in options.items()}
    run = options.pop("RUN")
    assert_refused(["predict", run, *(each for pair in options.items() for each in pair)], words, capsys)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_the_best_model_can_be_asked_for(run_folder, scene, tmp_path, capsys):
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "SamSegShapes-v0.zip").unlink()
    _predict(tmp_path / "run", scene, tmp_path / "out", capsys, "--load-best")
