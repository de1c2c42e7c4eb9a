"""The size that a feature cache keeps to."""

from __future__ import annotations

import numpy as np
import pytest

from sb3_alignsam.perception.cache import FeatureCache
from tests.perception.cached import feature, in_children, key_of, numbers_in

LIMIT_GB = 0.01


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "features"


@pytest.fixture
def cache(folder):
    with FeatureCache(folder, LIMIT_GB) as opened:
        yield opened


def test_the_limit_is_kept_and_the_oldest_go_first(cache, folder):
    for number in range(150):
        cache.put(key_of(number), feature(number))
        assert sum(file.stat().st_size for file in folder.iterdir()) == cache.size_bytes <= LIMIT_GB * 1e9
    kept = numbers_in(cache, 150)
    assert kept == set(range(150 - len(cache), 150))
    assert len(cache) * feature(0).nbytes > 0.8 * LIMIT_GB * 1e9


def test_entries_of_all_sizes_make_room_for_each_other(cache):
    sides = np.random.default_rng(0).integers(1, 700, 200)
    for number, side in enumerate(sides):
        cache.put(key_of(number), feature(number, (side, side)))
        assert (cache.get(key_of(number)) == number).all()
    assert cache.size_bytes <= LIMIT_GB * 1e9


def test_an_entry_beyond_the_limit_is_not_kept_and_nothing_is_lost_for_it(cache):
    cache.put(key_of(0), feature(0))
    big = np.zeros(2_000_000)
    assert cache.get_or_compute(key_of(1), lambda: big) is big
    assert numbers_in(cache, 2) == {0}


def test_a_smaller_limit_is_reached_with_the_next_entry(folder):
    with FeatureCache(folder, LIMIT_GB) as cache:
        for number in range(60):
            cache.put(key_of(number), feature(number))
        before = cache.size_bytes
    with FeatureCache(folder, LIMIT_GB / 4) as cache:
        assert len(numbers_in(cache, 60)) == 60
        cache.put(key_of(60), feature(60))
        assert 60 in numbers_in(cache, 61)
        assert len(cache) * feature(0).nbytes < LIMIT_GB / 4 * 1e9
        assert cache.size_bytes <= before + 1_000_000


def test_a_process_with_a_larger_limit_does_not_lock_the_others_out(folder):
    with FeatureCache(folder, 0.002) as cache:
        cache.put(key_of(0), feature(0))

        def work():
            with FeatureCache(folder, LIMIT_GB) as larger:
                for number in range(1, 50):
                    larger.put(key_of(number), feature(number))

        in_children(work)
        assert numbers_in(cache, 50) == set(range(50))
        cache.put(key_of(50), feature(50))
        assert 50 in numbers_in(cache, 51)
