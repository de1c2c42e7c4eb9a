"""Features that a cache is filled with, and processes that do so."""

from __future__ import annotations

import multiprocessing

import numpy as np


def feature(number, shape=(64, 32, 32)):
    return np.full(shape, number, np.float16)


def key_of(number):
    return b"key %d" % number


def numbers_in(cache, most):
    """Which of the first `most` features are there; each must be whole."""
    found = {number: cache.get(key_of(number)) for number in range(most)}
    assert all((array == number).all() for number, array in found.items() if array is not None)
    return {number for number, array in found.items() if array is not None}


def in_children(*works):
    """Run each piece of work in a forked process, all at once, and see each end well."""
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=work) for work in works]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * len(works)
