from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sb3_alignsam.envs import make_env
from sb3_alignsam.evaluation.contact_sheet import PANEL, chosen_episodes, write_contact_sheet
from sb3_alignsam.evaluation.protocol import evaluate
from sb3_alignsam.policies.baselines import make_baseline


def test_best_median_and_worst_are_shown_in_order_and_none_twice():
    scores = np.array([0.5, 0.9, 0.1, 0.3, 0.7, 0.2, 0.8])
    assert chosen_episodes(scores, 2) == {"best": [1, 6], "median": [4, 0], "worst": [5, 2]}


@pytest.mark.parametrize("count", range(1, 20))
def test_few_episodes_are_shown_at_most_once(count):
    chosen = chosen_episodes(np.random.default_rng(count).random(count))
    rows = [row for kind in chosen.values() for row in kind]
    assert len(rows) == len(set(rows)) == (15 if count >= 15 else len(rows))
    assert rows
    assert "best" in chosen


def test_the_sheet_is_a_picture_with_the_answers_in_it(tmp_path):
    env = make_env("SamSegShapes-v0", {"split": "dev"})
    ids, (record,) = evaluate(env, [make_baseline("oracle_grid", env.grid, env.features)], range(6), 3)
    write_contact_sheet(env, ids, record, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        width, height = picture.size
        colours = np.asarray(picture.convert("RGB"))
    assert width > 3 * 3 * PANEL
    assert height > 2 * PANEL
    assert colours.std() > 20
