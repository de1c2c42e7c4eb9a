from __future__ import annotations

import os

import pytest

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.datasets.ahead import NICENESS, Ahead
from sb3_alignsam.errors import InputError


def test_samples_are_loaded_in_another_process_and_errors_come_back():
    dataset = ShapesDataset("dev")
    ahead = Ahead(dataset.get, 1)
    waiting = [ahead.ask(index) for index in (3, 1, 500)]
    assert [waiting[place]().image_id for place in (1, 0)] == [2, 4]
    with pytest.raises(IndexError, match="index 500"):
        waiting[2]()
    ahead.close()


def test_a_dataset_that_cannot_be_sent_is_named():
    ahead = Ahead(lambda index: index, 1)
    with pytest.raises(InputError, match="cannot be sent to worker processes"):
        ahead.ask(0)()
    ahead.close()


def _niceness(index):
    return os.nice(index)


@pytest.mark.skipif(not hasattr(os, "nice"), reason="the system knows of no niceness")
def test_workers_stand_back_behind_the_process_that_they_work_for():
    ahead = Ahead(_niceness, 1)
    assert ahead.ask(0)() == min(os.nice(0) + NICENESS, 19)
    ahead.close()
