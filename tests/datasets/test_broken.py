"""No broken dataset crashes, hangs or is greedy, and each fault is told in one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.broken import FAULTS, pairs

SINGLES = [(name,) for name in FAULTS]
PAIRS = pairs((1, 7))
MORE_PAIRS = pairs((2, 3, 5, 11, 13, 17, 19, 23, 29, 31, 37, 41))

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits of a process are Linux's here")


def _play(cases: list[tuple[str, ...]]) -> dict[tuple[str, ...], dict[str, Any]]:
    """What came of each case in one limited process; a case by which it ended is missing."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.datasets.broken"],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1] if lines else 'before the first case'}: {done.stderr[-2000:]}"
    return {tuple(names): came for names, came in zip(lines[::2], lines[1::2], strict=True)}


@pytest.fixture(scope="module")
def played() -> dict[tuple[str, ...], dict[str, Any]]:
    return _play([(), *SINGLES, *PAIRS])


def _assert_told(names: tuple[str, ...], came: dict[str, Any]) -> None:
    faults = [FAULTS[name] for name in names]
    whole = [fault for fault in faults if fault.whole]
    for line in came["lines"]:
        assert "\n" not in line
        assert "instances_train.json: " in line
    if whole:  # Whichever of two comes first is told.
        assert came["unreadable"]
        assert set(came["error"]) & {fault.kind for fault in whole}
        assert "cannot be repaired" in came["fixed"]
        assert came["lenient"] is not None
    else:
        for fault in faults:
            assert fault.kind in came[fault.level]
        assert came["fixed"] == 0
        damaged = {"PNG cut short", "JPEG cut short"} & set(names)
        # A header says nothing of a damaged photograph's pixels.
        assert ("cannot be read" in came["lenient"]) if damaged else (came["lenient"] is None)
    if any(fault.level == "error" for fault in faults):
        assert came["strict"]
        assert "\n" not in came["strict"]
    else:
        assert came["strict"] is None
        assert not came["error"]


def test_there_are_enough_of_them() -> None:
    assert len(SINGLES) >= 60


def test_without_a_fault_nothing_is_told(played: dict[tuple[str, ...], dict[str, Any]]) -> None:
    assert played[()] == {
        "lines": [], "unreadable": False, "error": {}, "warning": {}, "strict": None, "lenient": None, "fixed": 0
    }  # fmt: skip


@pytest.mark.parametrize("names", SINGLES, ids=" + ".join)
def test_a_fault_alone(names: tuple[str, ...], played: dict[tuple[str, ...], dict[str, Any]]) -> None:
    _assert_told(names, played[names])
    fault, found = FAULTS[names[0]], played[names]
    # An annotation whose image has lost its id refers to nothing.
    assert set(found["error"]) | set(found["warning"]) <= {fault.kind, "reference"}
    assert all(len(line) < 600 for line in found["lines"])


@pytest.mark.parametrize("names", PAIRS, ids=" + ".join)
def test_faults_in_pairs(names: tuple[str, ...], played: dict[tuple[str, ...], dict[str, Any]]) -> None:
    _assert_told(names, played[names])


@pytest.mark.long
def test_many_more_pairs() -> None:
    for names, came in _play([*MORE_PAIRS]).items():
        _assert_told(names, came)
