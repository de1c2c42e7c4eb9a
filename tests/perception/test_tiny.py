"""The tiny SAM's training: its targets, its losses, and the script stopped and resumed."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th
from click.testing import CliRunner
from safetensors.torch import load_file

from sb3_alignsam.perception import load_segmenter
from sb3_alignsam.perception.tiny.losses import mask_loss, true_iou
from sb3_alignsam.perception.tiny.model import TinySam
from sb3_alignsam.perception.tiny.pretrain import main
from sb3_alignsam.perception.tiny.targets import LOW_RES, TargetStream, clicked_parts, user_clicks


def test_a_batch_depends_on_its_number_alone():
    first, again = TargetStream(3, 0, 9, 2).batch(4), TargetStream(3, 4, 5, 2).batch(4)
    other = TargetStream(3, 0, 9, 2).batch(5)
    assert th.equal(first.images, again.images)
    assert th.equal(first.parts, again.parts)
    assert not th.equal(first.images, other.images)


def test_every_target_has_at_least_one_part_that_can_be_clicked():
    parts = TargetStream(0, 0, 4, 8).batch(0).parts
    assert parts.flatten(3).any(dim=3).any(dim=2).float().mean() > 0.95


def test_the_mask_to_predict_is_the_union_of_the_parts_clicked_positive():
    parts = th.zeros(1, 2, LOW_RES, LOW_RES, dtype=th.bool)
    parts[0, 0, :10, :10] = parts[0, 1, 50:60, 50:60] = True
    points = th.tensor([[[4.0, 4.0], [110.0, 110.0]]])
    assert th.equal(clicked_parts(parts, points, th.tensor([[1, 1]]))[0], parts[0].any(dim=0))
    assert th.equal(clicked_parts(parts, points, th.tensor([[1, 0]]))[0], parts[0, 0])
    assert not clicked_parts(parts, points, th.tensor([[0, 0]])).any()


def test_simulated_clicks_are_labelled_as_the_pixel_is_and_correct_the_error():
    rng = np.random.default_rng(0)
    targets = np.zeros((40, LOW_RES, LOW_RES), bool)
    targets[:, 20:60, 30:70] = True
    predictions = np.zeros_like(targets)
    predictions[:20] = targets[:20]
    predictions[:20, 80:100, 80:100] = True
    points, labels = user_clicks(rng, targets, predictions, stray=0.0)
    x, y = (points / 2).astype(int).T
    truth = targets[np.arange(40), y, x]
    assert (truth == labels).all()
    assert not labels[:20].any()
    assert labels[20:].all()


def test_the_best_candidate_alone_is_trained_and_every_predicted_iou():
    target = th.zeros(1, 8, 8, dtype=th.bool)
    target[0, 2:6, 2:6] = True
    good = th.where(target[0], 10.0, -10.0)
    logits = th.stack([good, -good])[None].requires_grad_()
    iou = th.tensor([[1.0, 0.5]], requires_grad=True)
    mask_loss(logits, target, iou, target).backward()
    assert logits.grad[0, 1].abs().sum() == 0
    assert iou.grad[0, 0] == 0
    assert iou.grad[0, 1] > 0
    assert true_iou(logits.detach(), target).tolist() == [[1.0, 0.0]]


def test_fusing_the_encoder_changes_its_output_by_rounding_only(segmenter):
    model = TinySam()
    from sb3_alignsam.perception.loading import TINY_WEIGHTS

    model.load_state_dict(load_file(TINY_WEIGHTS))
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    pixels = th.from_numpy(segmenter.preprocess(image)).permute(2, 0, 1)[None]
    with th.inference_mode():
        plain = model.eval().encoder(pixels)
    assert th.allclose(plain, segmenter.encode([image]), atol=1e-3)


@pytest.mark.long
def test_pretraining_stopped_and_resumed_ends_with_the_same_weights(tmp_path):
    # Long because each call starts torch's training path; the schedule is that of three updates throughout.
    options = ["--updates", "3", "--batch-size", "2", "--workers", "0"]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert CliRunner().invoke(main, ["--out", str(whole), *options]).exit_code == 0
    for _ in range(3):
        assert CliRunner().invoke(main, ["--out", str(parted), *options, "--minutes", "0"]).exit_code == 0
    a, b = (load_file(folder / "tiny_sam.safetensors") for folder in (whole, parted))
    assert all(th.equal(a[key], b[key]) for key in a)
    load_segmenter("tiny", parted / "tiny_sam.safetensors")
