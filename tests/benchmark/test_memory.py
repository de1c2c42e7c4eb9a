from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sb3_alignsam.benchmark.memory import peak_of

HOLD = "import sys; held = bytearray({size}); held[:] = b'x' * {size}; print('up', flush=True); sys.stdin.read()"
STARTER = f"""import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {HOLD.format(size=200_000_000)!r}], stdin=sys.stdin, stdout=sys.stdout)
child.wait()"""

needs_smaps = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the system tells no PSS")


@needs_smaps
def test_memory_of_a_process_and_of_what_it_started_is_added_up():
    with subprocess.Popen(
        [sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "up\n"
        with peak_of(process.pid) as peak:
            pass
        process.communicate("")
    assert peak.processes == 2
    assert 200e6 < peak.pss_bytes < 300e6


@needs_smaps
def test_this_process_alone():
    with peak_of(os.getpid()) as peak:
        pass
    assert peak.pss_bytes > 1e7


def test_a_process_that_is_gone_has_none():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with peak_of(process.pid) as peak:
        pass
    assert (peak.pss_bytes, peak.processes) == (None, 0)
