from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sb3_alignsam.envs import make_env
from sb3_alignsam.evaluation.calibration import MIN_EPISODES, Calibration, fit_calibration
from sb3_alignsam.evaluation.coco_results import coco_figures, coco_ground_truth, coco_results
from sb3_alignsam.evaluation.protocol import evaluate
from sb3_alignsam.evaluation.records import EpisodeId
from sb3_alignsam.evaluation.run_lengths import decode_mask, encode_mask
from sb3_alignsam.policies.baselines import make_baseline
from tests.evaluation.made_up import made_record
from tests.evaluation.random_masks import random_masks


def _episodes(count=1000):
    """Random episodes, eight categories an image, and an answer to each."""
    ids, answers = [], []
    shapes = {}
    for index, (gt, mask, _) in enumerate(random_masks(count)):
        image, category = divmod(index, 8)
        shape = shapes.setdefault(image, (64, 96))
        masks = [np.zeros(shape, bool) for _ in range(2)]
        for target, source in zip(masks, (gt, mask), strict=True):
            height, width = min(64, source.shape[0]), min(96, source.shape[1])
            target[:height, :width] = source[:height, :width]
        none = encode_mask(np.zeros(shape, bool))
        instances = (encode_mask(masks[0]),) if masks[0].any() else ()
        ids.append(EpisodeId(index, image + 5, f"c{category}", category + 1, (1,), 1, instances, none))
        answers.append(encode_mask(masks[1]))
    scores = np.random.default_rng(0).random((count, 1))
    return ids, made_record("agent", scores, answers=answers)


def test_average_precision_of_a_thousand_random_answers_is_that_of_the_published_rule():
    """AP50 by its definition: results by falling score, right where IoU is 0.5 or more, 101 points of recall."""
    ids, record = _episodes()
    found = coco_figures(coco_ground_truth(ids, "unions"), coco_results(ids, record))
    wanted = []
    for category in range(8):
        rows = [row for row, each in enumerate(ids) if each.category_id == category + 1]
        truths = sum(bool(ids[row].instances) for row in rows)
        rows = [row for row in rows if decode_mask(record.answers[row]).any()]
        rows.sort(key=lambda row: -record.predicted_iou[row, 0])
        right = np.cumsum([_iou(ids[row], record.answers[row]) >= 0.5 for row in rows])
        recall, precision = right / truths, right / np.arange(1, len(rows) + 1)
        wanted.append(np.mean([max(precision[recall >= r - 1e-12], default=0) for r in np.linspace(0, 1, 101)]))
    assert found["AP50"] == pytest.approx(np.mean(wanted), abs=1e-6)
    assert 0 < found["AP"] < found["AP50"] < 1


def _iou(episode, answer):
    gt, mask = decode_mask(episode.instances[0]) if episode.instances else False, decode_mask(answer)
    return (gt & mask).sum() / (gt | mask).sum()


def test_answers_and_ground_truth_are_files_that_cocos_own_tools_take(tmp_path):
    env = make_env("SamSegShapes-v0", {"split": "dev"})
    ids, (oracle,) = evaluate(env, [make_baseline("oracle", env.grid, env.features)], range(12), 3)
    truth, results = coco_ground_truth(ids, "instances"), coco_results(ids, oracle)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    coco = COCO(str(tmp_path / "truth.json"))
    evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "results.json")), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert coco_figures(truth, results)["AP"] == pytest.approx(evaluation.stats[0])
    assert coco_figures(coco_ground_truth(ids, "unions"), results)["AP50"] > 0.5
    instances = sum(len(env.dataset.get(index).instances) for index in range(12))
    assert len(truth["annotations"]) == instances
    assert min(each["id"] for each in truth["annotations"]) == 1


def test_right_answers_have_an_average_precision_of_one_and_none_of_zero():
    ids, _ = _episodes(40)
    ids = [each for each in ids if each.instances]
    perfect = made_record("p", np.ones((len(ids), 1)), answers=[each.instances[0] for each in ids])
    truth = coco_ground_truth(ids, "unions")
    assert coco_figures(truth, coco_results(ids, perfect))["AP"] == pytest.approx(1.0)
    nothing = coco_figures(truth, [])
    assert nothing["AP"] == nothing["AR100"] == 0.0
    assert coco_figures(coco_ground_truth([], "unions"), [])["AP"] is None


def test_ignored_pixels_are_left_out_of_answers_and_of_ground_truth():
    shape = (20, 20)
    gt, ignore = np.zeros(shape, bool), np.zeros(shape, bool)
    gt[:10] = True
    ignore[8:] = True
    ids = [EpisodeId(0, 1, "a", 1, (1,), 200, (encode_mask(gt),), encode_mask(ignore))]
    record = made_record("p", np.ones((1, 1)), answers=[encode_mask(np.ones(shape, bool))])
    assert coco_figures(coco_ground_truth(ids, "unions"), coco_results(ids, record))["AP"] == pytest.approx(1.0)
    ignored = made_record("p", np.ones((1, 1)), answers=[encode_mask(ignore)])
    assert coco_results(ids, ignored) == []


def test_scores_are_calibrated_on_a_line_where_there_is_enough_to_fit_it():
    predicted = np.linspace(0.4, 0.9, 50)
    line = fit_calibration(predicted, 0.8 * predicted - 0.1)
    assert line(0.5) == pytest.approx(0.3)
    assert line(2.0) == 1.0
    assert line(-2.0) == 0.0
    assert "50 dev answers: 0.800 x predicted -0.100" in line.note
    few = fit_calibration(predicted[: MIN_EPISODES - 1], predicted[: MIN_EPISODES - 1])
    falling = fit_calibration(predicted, -predicted)
    flat = fit_calibration(np.full(30, 0.5), np.linspace(0, 1, 30))
    for raw in (few, falling, flat, Calibration()):
        assert raw(0.625) == 0.625
        assert raw.note.startswith("raw predicted IoU")
