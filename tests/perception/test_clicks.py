from __future__ import annotations

import cv2
import numpy as np
import pytest

from sb3_alignsam.perception import Click, Clicks, oracle_click
from sb3_alignsam.policies import baselines
from tests.conftest import REPOSITORY

REFERENCE = REPOSITORY / "third_party" / "ritm" / "oracle_clicks.npz"


@pytest.mark.parametrize("threads", [1, 2])
def test_oracle_click_equals_ritms_reference_clicks_whatever_opencvs_threads(threads):
    cv2.setNumThreads(threads)
    reference = np.load(REFERENCE)
    compared = 0
    for index in range(12):
        gt, clicked = reference[f"gt_{index}"], []
        for packed, expected in zip(reference[f"pred_{index}"], reference[f"clicks_xy_label_{index}"], strict=True):
            prediction = np.unpackbits(packed)[: gt.size].reshape(gt.shape).astype(bool)
            click = oracle_click(gt == 1, prediction, gt == -1, clicked)
            assert (click.x, click.y, int(click.positive)) == tuple(expected)
            clicked.append(click)
            compared += 1
    assert compared == 48


def test_oracle_click_is_the_same_function_where_the_baselines_are():
    assert baselines.oracle_click is oracle_click


def test_oracle_clicks_inside_the_missed_square_then_on_the_surplus():
    gt = np.zeros((40, 40), bool)
    gt[10:21, 10:21] = True
    assert oracle_click(gt, np.zeros_like(gt)) == Click(15, 15, True)
    surplus = gt.copy()
    surplus[25:38, 25:38] = True
    assert oracle_click(gt, surplus) == Click(31, 31, False)


def test_oracle_never_clicks_an_ignored_pixel_nor_one_twice():
    gt = np.zeros((30, 30), bool)
    gt[5:16, 5:16] = True
    empty = np.zeros_like(gt)
    first = oracle_click(gt, empty)
    assert oracle_click(gt, empty, clicked=[first]) != first
    ignore = gt.copy()
    ignore[5:16, 5:8] = False
    click = oracle_click(gt, empty, ignore)
    assert not ignore[click.y, click.x]


@pytest.mark.parametrize(
    ("points", "labels"),
    [(np.zeros((0, 2)), np.zeros(0)), (np.zeros((2, 3)), np.zeros(2)), (np.zeros((2, 2)), np.zeros(3))],
)
def test_clicks_of_odd_shapes_are_refused(points, labels):
    with pytest.raises(ValueError, match="clicks need"):
        Clicks(points, labels)


def test_click_labels_other_than_0_and_1_are_refused():
    with pytest.raises(ValueError, match="labels are 1"):
        Clicks(np.zeros((1, 2)), np.array([2]))
