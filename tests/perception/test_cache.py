"""The feature cache as its users meet it: many processes, kills, a limit, damage and a full disk, all real."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import threading
import warnings
from contextlib import suppress

import lmdb
import numpy as np
import pytest

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.cache import FeatureCache, image_key, text_key
from tests.perception.cached import feature, in_children, key_of, numbers_in

LIMIT_GB = 0.01


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "features"


@pytest.fixture
def cache(folder):
    with FeatureCache(folder, LIMIT_GB) as opened:
        yield opened


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float16).reshape(2, 3, 4),
        np.linspace(0, 1, 512, dtype=np.float32),
        np.float32(3) * np.ones(()),
        np.zeros((0, 3), np.int64),
        np.arange(6).reshape(2, 3).T,
        np.array([True, False]),
    ],
    ids=["float16", "float32", "scalar", "empty", "transposed", "booleans"],
)
def test_an_array_comes_back_as_it_was_and_is_the_callers_own(cache, array):
    assert cache.get(b"key") is None
    cache.put(b"key", array)
    found = cache.get(b"key")
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert np.array_equal(found, array)
    found[...] = 1
    assert np.array_equal(cache.get(b"key"), array)


def test_objects_are_refused(cache):
    with pytest.raises(ValueError, match="arrays of numbers; got object"):
        cache.put(b"key", np.array([None]))


def test_a_feature_is_computed_once_for_this_and_later_processes(folder):
    calls = []

    def compute():
        calls.append(1)
        return feature(7)

    for _ in range(2):
        with FeatureCache(folder, LIMIT_GB) as cache:
            for _ in range(2):
                assert np.array_equal(cache.get_or_compute(b"key", compute), feature(7))
            assert len(cache) == 1
    assert len(calls) == 1


def test_caches_of_one_folder_share_it_until_the_last_is_closed(folder, cache):
    with FeatureCache(folder / ".." / folder.name, LIMIT_GB) as second:
        second.put(key_of(1), feature(1))
    assert numbers_in(cache, 2) == {1}
    with pytest.raises(ValueError, match="is closed"):
        second.get(key_of(1))


def test_a_larger_limit_counts_where_a_process_opens_a_folder_twice(folder, cache):
    with FeatureCache(folder, 2 * LIMIT_GB) as larger:
        for number in range(100):
            larger.put(key_of(number), feature(number))
    assert numbers_in(cache, 100) == set(range(100))


def test_processes_write_and_read_at_once(folder):
    def work():
        with FeatureCache(folder, LIMIT_GB) as cache:
            for number in range(25):
                assert (cache.get_or_compute(key_of(number), lambda n=number: feature(n)) == number).all()

    in_children(*[work] * 4)
    with FeatureCache(folder, LIMIT_GB) as cache:
        assert numbers_in(cache, 30) == set(range(25))
        assert len(cache) == 25


def test_threads_write_and_read_at_once(cache):
    def work():
        for number in range(20):
            cache.get_or_compute(key_of(number), lambda n=number: feature(n))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers_in(cache, 20) == set(range(20))


def test_a_forked_child_goes_on_with_its_parents_object(cache):
    cache.put(key_of(0), feature(0))

    def work():
        assert numbers_in(cache, 1) == {0}
        cache.put(key_of(1), feature(1))

    in_children(work, work)
    cache.put(key_of(2), feature(2))
    assert numbers_in(cache, 3) == {0, 1, 2}


def test_what_was_sent_to_a_worker_opens_the_same_folder(cache):
    cache.put(key_of(0), feature(0))
    sent = pickle.dumps(cache)
    assert len(sent) < 1000

    def work():
        received = pickle.loads(sent)
        assert received.limit_gb == LIMIT_GB
        received.put(key_of(1), received.get(key_of(0)) + 1)

    in_children(work)
    assert numbers_in(cache, 2) == {0, 1}


def test_after_kills_in_mid_write_every_entry_is_whole(folder):
    for kill in range(6):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            with FeatureCache(folder, LIMIT_GB) as cache:
                for number in range(10**9):
                    cache.put(
                        key_of(100 * kill + number % 100), feature(100 * kill + number % 100, (number % 9, 64, 64))
                    )
                    os.write(writing, b"x")
            os._exit(1)
        os.close(writing)
        for _ in range(1 + 7 * kill):
            assert os.read(reading, 1) == b"x"
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        with FeatureCache(folder, LIMIT_GB) as cache:
            assert len(numbers_in(cache, 1000)) == len(cache) > 0
            cache.put(key_of(999), feature(999))
            assert cache.get(key_of(999)) is not None
        os.close(reading)


def test_a_changed_byte_makes_a_miss_that_the_next_put_mends(folder):
    with FeatureCache(folder, LIMIT_GB) as cache:
        for number in range(3):
            cache.put(key_of(number), feature(number + 1000))
    content = bytearray((folder / "data.mdb").read_bytes())
    place = content.index(feature(1001).tobytes()) + 777
    content[place] ^= 1
    (folder / "data.mdb").write_bytes(content)
    with FeatureCache(folder, LIMIT_GB) as cache:
        assert cache.get(key_of(1)) is None
        assert (cache.get(key_of(2)) == 1002).all()
        cache.put(key_of(1), feature(1001))
        assert (cache.get(key_of(1)) == 1001).all()
        assert len(cache) == 3


def _refused(folder):
    with pytest.raises(InputError) as caught:
        FeatureCache(folder, LIMIT_GB)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


def test_a_damaged_file_is_named_with_what_to_do(folder):
    with FeatureCache(folder, LIMIT_GB) as cache:
        for number in range(20):
            cache.put(key_of(number), feature(number))
    data = folder / "data.mdb"
    content = data.read_bytes()
    for damaged in (b"no database" * 1000, content[:1000], content[:1_000_000]):
        data.write_bytes(damaged)
        assert "is damaged or of another program" in _refused(folder)
        assert "delete the folder" in _refused(folder)
    data.write_bytes(content)
    with FeatureCache(folder, LIMIT_GB) as cache:
        assert len(numbers_in(cache, 20)) == 20


def test_another_programs_database_is_left_alone(folder):
    with lmdb.open(str(folder)) as other, other.begin(write=True) as txn:
        txn.put(b"theirs", b"1")
    assert "data.mdb holds other tables" in _refused(folder)
    with lmdb.open(str(folder)) as other, other.begin() as txn:
        assert txn.stat()["entries"] == 1


def test_a_file_in_the_folders_place_is_named(folder):
    folder.write_text("a file")
    assert "cannot be used: it is a file" in _refused(folder)
    assert "cannot be used: Not a directory" in _refused(folder / "below")


def test_a_folder_without_permission_is_named(folder):
    folder.mkdir(mode=0o555)

    def work():
        if not os.geteuid():
            # Permissions do not bind root.
            os.setuid(65534)
        assert "cannot be used: Permission denied" in _refused(folder)

    in_children(work)


def test_a_full_disk_costs_one_warning_and_nothing_that_was_there(folder, monkeypatch):
    monkeypatch.setattr("sb3_alignsam.perception.cache._warned", False)
    with FeatureCache(folder, LIMIT_GB) as cache:
        cache.put(key_of(0), feature(0))

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        with FeatureCache(folder, LIMIT_GB) as cache, warnings.catch_warnings(record=True) as caught:
            for number in range(1, 20):
                assert (cache.get_or_compute(key_of(number), lambda n=number: feature(n)) == number).all()
            assert 0 in numbers_in(cache, 20)
        assert len(caught) == 1
        assert "cannot be written" in str(caught[0].message)

    in_children(work)
    with FeatureCache(folder, LIMIT_GB) as cache:
        kept = numbers_in(cache, 20)
        assert kept == set(range(len(cache)))
        cache.put(key_of(20), feature(20))
        assert cache.get(key_of(20)) is not None


@pytest.mark.parametrize("limit", [0, -1, 0.0001, float("nan"), float("inf"), True, "20"])
def test_a_limit_that_is_no_size_is_named(folder, limit):
    with pytest.raises(InputError, match="limit_gb needs a number of gigabytes"):
        FeatureCache(folder, limit)
    with suppress(FileNotFoundError):
        assert not list(folder.iterdir())


def test_keys_tell_apart_whatever_changes_a_feature():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    other = image.copy()
    other[1, 2, 0] ^= 1
    keys = [
        image_key("sam", "a" * 64, image),
        image_key("clip", "a" * 64, image),
        image_key("sam", "b" * 64, image),
        image_key("sam", "a" * 64, image.reshape(4, 2, 3)),
        image_key("sam", "a" * 64, image.view(np.int8)),
        image_key("sam", "a" * 64, other),
        text_key("text", "a" * 64, "star"),
        text_key("text", "a" * 64, "ring"),
        text_key("text", "a" * 64, "star", ["a {}.", "the {}."]),
        text_key("text", "a" * 64, "star", ["the {}.", "a {}."]),
    ]
    assert len(set(keys)) == len(keys)
    assert image_key("sam", "a" * 64, np.asfortranarray(image)) == keys[0]
