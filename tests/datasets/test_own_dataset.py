"""The dataset that docs/datasets.md shows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sb3_alignsam.datasets.image_record import ImageRecord

PAGE = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"


@pytest.fixture(scope="module")
def shown():
    (script,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(script, names)
    return names


def test_the_environment_plays_it(shown):
    env = shown["env"]
    observation, info = env.reset(seed=0)
    assert observation["target_category"] == ["bright", "dark"].index(info["category"])
    target = env.episode.sample.union
    assert 0.05 < target.mean() < 0.08
    y, x = np.argwhere(target).mean(axis=0).round().astype(int)
    row, column = int(y * 16 / 160), int(x * 16 / 160)
    _, reward, _, _, info = env.step(2 * (16 * row + column))
    assert info["iou"] > 0.5
    assert reward > 0.5


def test_it_lists_its_episodes_and_images(shown):
    dataset = shown["Discs"]()
    assert len(dataset) == 120
    assert ImageRecord.of(dataset).ids == list(range(1, 61))
    dataset.configure_targets(["dark"])
    assert [dataset.get(index).category for index in (0, 59)] == ["dark", "dark"]
