"""How often a client may ask."""

from __future__ import annotations

import pytest

from sb3_alignsam.errors import InputError
from sb3_alignsam.inference.serve.limits import Limits, TokenBuckets


def test_a_client_may_ask_at_once_and_then_at_a_steady_rate():
    now = [0.0]
    buckets = TokenBuckets(per_minute=60, burst=3, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(3)] == [0.0, 0.0, 0.0]
    assert buckets.take("a") == pytest.approx(1.0)
    assert buckets.take("b") == 0.0
    now[0] = 1.5
    assert [buckets.take("a"), buckets.take("a")] == [0.0, pytest.approx(0.5)]
    now[0] = 1000.0
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, pytest.approx(1.0)]


def test_clients_that_were_not_seen_for_long_are_forgotten():
    buckets = TokenBuckets(per_minute=1, burst=1, clients=2, clock=lambda: 0.0)
    for client in "abc":
        assert buckets.take(client) == 0.0
    assert buckets.take("c") > 0
    assert buckets.take("a") == 0.0


@pytest.mark.parametrize(("name", "value"), [("seconds", 0), ("per_minute", float("nan")), ("pixels", 2**27)])
def test_a_limit_that_is_none_is_refused(name, value):
    with pytest.raises(InputError, match=f"the limit '{name}'"):
        Limits(**{name: value})
