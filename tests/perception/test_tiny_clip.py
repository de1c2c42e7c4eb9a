"""The training script of the tiny CLIP, for a few updates."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th
from click.testing import CliRunner
from safetensors.torch import load_file

from sb3_alignsam.datasets.shape_scenes import CATEGORIES, draw_scene
from sb3_alignsam.perception.loading import TINY_WEIGHTS
from sb3_alignsam.perception.tiny.clip_measure import main as measure_main
from sb3_alignsam.perception.tiny.clip_pretrain import ClipPretraining, main
from sb3_alignsam.perception.tiny.clip_targets import CaptionStream, cell_shares

WEIGHTS = TINY_WEIGHTS.parent


def test_cells_know_what_they_show():
    scene = draw_scene(np.random.default_rng(0), 2)
    shares = cell_shares(scene)
    assert shares.shape == (20, 20, len(CATEGORIES) + 1)
    assert np.allclose(shares.sum(-1), 1, atol=1e-5)
    union = np.zeros((320, 320), bool)
    rows = columns = np.arange(320) * 256 // 320
    for mask, label in zip(scene.instances, scene.labels, strict=True):
        union |= mask[rows][:, columns] & (label == 2)
    middles = union.reshape(20, 16, 20, 16)[:, 5:11, :, 5:11]
    assert np.allclose(shares[..., 2], middles.mean((1, 3)), atol=1e-5)


def test_a_caption_names_what_the_scene_shows_and_batches_repeat():
    batch = CaptionStream(0, 0, 10, 3).batch(4)
    present = batch.shares[..., :-1].sum((1, 2)) > 0
    for caption, row in zip(batch.captions, present, strict=True):
        assert {name for name in CATEGORIES if name in caption} == {CATEGORIES[i] for i in row.nonzero().flatten()}
    again = CaptionStream(0, 0, 10, 3).batch(4)
    assert th.equal(batch.images, again.images)
    assert batch.captions == again.captions


def test_a_stopped_training_goes_on_and_learns(tmp_path):
    stream = CaptionStream(0, 0, 6, 4)
    straight = ClipPretraining(0, 6, 1e-3, "cpu")
    figures = [straight.update(stream.batch(0)) for _ in range(6)]
    assert figures[-1]["dense"] < figures[0]["dense"]
    first = ClipPretraining(0, 6, 1e-3, "cpu")
    for _ in range(3):
        first.update(stream.batch(0))
    first.save(tmp_path)
    second = ClipPretraining(1, 6, 1e-3, "cpu")
    second.restore(tmp_path)
    for _ in range(3):
        second.update(stream.batch(0))
    for name, value in straight.model.state_dict().items():
        assert th.allclose(value.float(), second.model.state_dict()[name].float(), atol=1e-5), name


def test_it_can_begin_with_trained_weights(tmp_path):
    shipped = WEIGHTS / "tiny_clip.safetensors"
    training = ClipPretraining(0, 6, 1e-3, "cpu")
    training.start_from(shipped)
    training.save(tmp_path)
    saved, expected = load_file(tmp_path / "tiny_clip.safetensors"), load_file(shipped)
    assert all(th.equal(saved[key], value) for key, value in expected.items())


@pytest.mark.parametrize("name", ["tiny_sam.safetensors", "__init__.py"])
def test_other_files_are_no_weights_to_begin_with(tmp_path, name):
    path = WEIGHTS / name if name.startswith("tiny") else WEIGHTS.parent / name
    result = CliRunner().invoke(main, ["--out", str(tmp_path), "--weights", str(path)])
    assert result.exit_code == 2
    assert "name a tiny_clip.safetensors" in " ".join(result.output.split())


@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_script_writes_weights_that_can_be_measured(tmp_path, workers):
    arguments = ["--out", str(tmp_path), "--updates", "1", "--batch-size", "2", "--workers", workers]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert load_file(tmp_path / "tiny_clip.safetensors")["logit_scale"].dtype == th.float16
    result = CliRunner().invoke(measure_main, ["--weights", str(tmp_path / "tiny_clip.safetensors"), "--scenes", "3"])
    assert result.exit_code == 0, result.output
    assert "pointing accuracy" in result.output
