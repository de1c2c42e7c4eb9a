from __future__ import annotations

import pytest

from sb3_alignsam.benchmark.limits import Limit, measure_limit


def test_a_step_costs_a_click_and_its_share_of_what_an_episode_costs():
    limit = Limit(draw=0.4, encode=1.0, segment=0.1)
    assert limit.step_seconds(5, drawn=False, encoded=False) == pytest.approx(0.1)
    assert limit.step_seconds(5, drawn=False, encoded=True) == pytest.approx(0.3)
    assert limit.step_seconds(5, drawn=True, encoded=True) == pytest.approx(0.38)


def test_bare_calls_of_an_environment_are_timed(env):
    limit = measure_limit(env, 2)
    assert min(limit.figures().values()) > 0
    assert env.features.computed == 0  # nothing went through the environment or its cache
