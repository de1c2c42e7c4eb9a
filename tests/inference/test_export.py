"""What is exported computes what the agent does, and needs neither torch nor this package to do it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch as th
from PIL import Image
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO

from sb3_alignsam.datasets import Sample, ShapesDataset
from sb3_alignsam.envs import make_env
from sb3_alignsam.errors import InputError, RunError
from sb3_alignsam.inference import export, graphs, runner
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.export import export_agent, trace
from sb3_alignsam.inference.graphs import decoder_graph, encoder_graph
from sb3_alignsam.inference.parity import compare
from sb3_alignsam.inference.runner import Runner, resize
from sb3_alignsam.perception import load_segmenter
from sb3_alignsam.perception.geometry import resize_longest_side, resized_shape
from sb3_alignsam.policies.foreign import Trust
from tests.perception.seeded import fill


@pytest.fixture(scope="module")
def annotator(stopping_run):
    return Annotator(stopping_run)


@pytest.fixture(scope="module")
def exported(annotator, tmp_path_factory):
    """The Explicit agent, which has every graph, with one category that it was not trained on."""
    folder = tmp_path_factory.mktemp("exported") / "agent"
    export_agent(annotator, folder, "onnx", categories=["traffic light"])
    return folder


def _samples(count):
    dataset = ShapesDataset("val")
    return [dataset.get(index) for index in np.linspace(0, len(dataset) - 1, count).astype(int)]


def _noise(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    empty = np.zeros((height, width), bool)
    return Sample(image, "star", 0, empty[None], empty, 0, (0,))


def test_it_clicks_as_the_agent_does(annotator, exported):
    parity = compare(annotator, Runner(exported, threads=1), _samples(4))
    assert (parity.episodes, parity.same_clicks) == (4, 4)
    assert parity.pixels_equal >= parity.worst >= 0.999
    assert parity.score_difference < 1e-3
    assert parity.miou == pytest.approx(parity.exported_miou, abs=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (700, 2), (33, 65), (256, 256), (400, 300), (427, 896), (27, 384)])
def test_any_shape_of_picture(annotator, exported, size):
    parity = compare(annotator, Runner(exported, threads=1), [_noise(*size)])
    assert parity.same_clicks == 1
    assert parity.pixels_equal >= 0.999


def test_a_category_beside_those_of_training(annotator, exported):
    sample = replace(_samples(1)[0], category="traffic light")
    assert compare(annotator, Runner(exported, threads=1), [sample]).same_clicks == 1
    with pytest.raises(ValueError, match=r"category 'lamp' is not known; known: .*traffic light"):
        Runner(exported).segment(sample.image, "lamp")


def test_the_runner_imports_neither_torch_nor_this_package(annotator, exported, tmp_path):
    sample = _samples(1)[0]
    Image.fromarray(sample.image).save(tmp_path / "scene.png")
    code = (
        "import runpy, sys; sys.argv = ['runner.py', *sys.argv[1:]]; runpy.run_path('runner.py', run_name='__main__');"
        "print(sorted({'torch', 'sb3_alignsam', 'PIL', 'stable_baselines3'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, tmp_path / "scene.png", sample.category, tmp_path / "mask.png"]
    out = subprocess.run(command, cwd=exported, capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[-1] == "[]"
    result = annotator.segment(sample.image, sample.category)
    assert out[0].startswith(f"predicted IoU {result.score:.3f}")
    assert ((np.asarray(Image.open(tmp_path / "mask.png")) > 0) == result.mask).mean() > 0.999


def test_the_description_holds_what_is_no_weight(annotator, exported):
    about = json.loads((exported / "agent.json").read_text())
    names = [*annotator.env.dataset.categories, "traffic light"]
    assert about["categories"] == {name: index for index, name in enumerate(names)}
    assert about["images"] == [["sam_encoder", 256, 256], ["clip", 320, 16]]
    assert (about["num_patches"], about["max_steps"], about["image_size"]) == (16, 5, 256)
    for graph in about["graphs"].values():
        assert graph["sha256"] == hashlib.sha256((exported / graph["file"]).read_bytes()).hexdigest()
    assert about["graphs"]["sam_decoder"]["shapes"]["points"] == [None, None, 2]
    assert "target_category" not in about["graphs"]["policy"]["inputs"]
    assert sorted(each.name for each in exported.iterdir()) == sorted(
        ["agent.json", "runner.py", *(each["file"] for each in about["graphs"].values())]
    )


@pytest.mark.parametrize("shape", [(300, 500), (17, 900), (90, 31), (256, 256), (1, 40), (1030, 770)])
def test_it_resizes_as_pillow_does(shape):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    for side in (64, 256, 1024):
        assert np.array_equal(resize(image, *resized_shape(*shape, side)), resize_longest_side(image, side))


def test_a_policy_that_reads_the_photograph_itself_is_refused(tmp_path):
    keys = ["image", "click_map"]
    env = make_env("SamSegShapes-v0", {"observation_keys": keys})
    PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, device="cpu").save(tmp_path / "agent.zip")
    annotator = Annotator(tmp_path / "agent.zip", False, {"observation_keys": keys}, Trust(True, "SamSegShapes-v0"))
    with pytest.raises(InputError, match="reads the observation 'image', which cannot be exported"):
        export_agent(annotator, tmp_path / "out", "onnx")
    assert not list((tmp_path / "out").iterdir())


def test_a_policy_of_sb3s_own_on_a_grid_that_does_not_divide_the_square(tmp_path):
    """It need not observe the click map, and the centres of its patches are at no whole numbers."""
    kwargs = {"observation_keys": ["sam_pred_mask_prob", "num_steps"], "num_patches": 14}
    env = make_env("SamSegShapes-v0", kwargs)
    MaskablePPO("MultiInputPolicy", env, n_steps=8, batch_size=8, seed=1, device="cpu").save(tmp_path / "agent.zip")
    annotator = Annotator(tmp_path / "agent.zip", False, kwargs, Trust(True, "SamSegShapes-v0"))
    export_agent(annotator, tmp_path / "out", "onnx")
    samples = [_noise(*shape) for shape in ((651, 896), (700, 2), (256, 256))]
    assert compare(annotator, Runner(tmp_path / "out", threads=1), samples).same_clicks == 3


def test_a_graph_that_clicks_elsewhere_is_not_kept(annotator, tmp_path, monkeypatch):
    load = runner.load_torch

    def off(*args):
        call = load(*args)
        return lambda known: {key: value + 1 if key == "point" else value for key, value in call(known).items()}

    monkeypatch.setattr(runner, "load_torch", off)
    with pytest.raises(RunError, match="policy: 'point' of the exported graph differs from the network's"):
        export_agent(annotator, tmp_path, "torch_export")
    assert not list(tmp_path.iterdir())


def test_a_graph_that_differs_is_not_kept(annotator, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    (tmp_path / "agent.json").write_text("{}")
    with pytest.raises(RunError, match="policy: the exported graph differs from the network by"):
        export_agent(annotator, tmp_path, "torch_export")
    assert [each.name for each in tmp_path.iterdir()] == ["agent.json"]


def test_a_folder_that_cannot_be_written_is_named(annotator, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/out cannot be written"):
        export_agent(annotator, tmp_path / "file" / "out", "onnx")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["onnx", "torch_export"])
@pytest.mark.parametrize("run", ["run_folder", "stopping_run"])
def test_200_episodes_have_the_same_clicks_and_masks(run, kind, tmp_path, request):
    annotator = Annotator(request.getfixturevalue(run))
    export_agent(annotator, tmp_path, kind)
    parity = compare(annotator, Runner(tmp_path), _samples(200))
    assert parity.same_clicks == 200
    assert parity.pixels_equal >= 0.999


@pytest.mark.long
def test_half_precision_halves_the_files_and_loses_little(annotator, exported, tmp_path):
    export_agent(annotator, tmp_path, "onnx", half=True)
    parity = compare(annotator, Runner(tmp_path), _samples(50))
    assert parity.pixels_equal >= 0.98
    for name in ("sam_encoder.onnx", "clip.onnx"):
        assert (tmp_path / name).stat().st_size < 0.6 * (exported / name).stat().st_size


@pytest.mark.long
def test_repvit_sam_is_exported_whole(tmp_path):
    weights = {key: th.from_numpy(value) for key, value in fill(_repvit_shapes(), 0).items()}
    segmenter = load_segmenter("repvit_sam", weights)
    for graph in (encoder_graph(segmenter, th.float32), decoder_graph(segmenter, th.float32)):
        program = trace(graph)
        inputs = graph.inputs(1, 4)
        with th.inference_mode():
            found, expected = program.module()(*inputs.values()), graph.module(*inputs.values())
        for ours, theirs in zip(found, expected, strict=True):
            assert th.allclose(ours.float(), theirs.float(), atol=1e-3, rtol=1e-3)


def _repvit_shapes():
    from sb3_alignsam.perception.repvit import RepvitSam, upstream_key

    return {upstream_key(key): tuple(value.shape) for key, value in RepvitSam().state_dict().items()}


def test_graphs_are_traced_at_no_size_that_they_are_checked_at():
    assert graphs.TRACED_AT[0] not in {batch for batch, _ in graphs.CHECKED_AT}
    assert Path(export.runner.__file__).name == export.RUNNER
