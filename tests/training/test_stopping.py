from __future__ import annotations

import errno
import os
import signal
import threading

import pytest

from sb3_alignsam.errors import InputError, RunError, RunStopped
from sb3_alignsam.training.stopping import Stops, StopSignal, stops, told_in_one_line


@pytest.fixture(autouse=True)
def heeds_ctrl_c():
    """As in a terminal: a shell tells what it starts in the background to ignore Ctrl-C, these tests too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_takes_effect_at_once_unless_it_is_held_back():
    before = signal.getsignal(signal.SIGTERM)
    with stops() as stop:
        stop.hold()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopSignal):
            stop.check()
        assert stop.exit_code == 143
    with stops() as stop, pytest.raises(StopSignal):
        os.kill(os.getpid(), signal.SIGINT)
    assert stop.exit_code == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_ends_what_is_held_back():
    with stops() as stop:
        stop.hold()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_job_in_the_background_goes_on_ignoring_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stops() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            stop.check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_of_the_main_thread_nothing_is_handled():
    seen = []

    def run():
        with stops() as stop:
            stop.check()
            seen.append(stop.number)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [None]


def _fail(stop, folder, error):
    with told_in_one_line(stop, folder):
        raise error


def test_ends_are_told_in_one_line_that_says_how_to_go_on(tmp_path):
    stop = Stops()
    with pytest.raises(RunError, match=r"No space left on device; make room, then go on with: .* --resume"):
        _fail(stop, tmp_path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(RunError, match=r"was killed; what was learnt is in .*; go on with"):
        _fail(stop, tmp_path, RunError("a worker process was killed"))
    with pytest.raises(InputError, match=r"^a photograph$"):
        _fail(stop, tmp_path, InputError("a photograph"))
    stop.hold()
    stop.came(signal.SIGTERM, None)
    with pytest.raises(RunStopped) as caught:  # The signal went to the worker too, and it was quicker.
        _fail(stop, tmp_path, RunError("a worker process was killed"))
    assert caught.value.exit_code == 143
