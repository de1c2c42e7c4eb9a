"""Nothing leaks, however long a run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

STEPS = 20_000
FLAT = 0.05


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the system tells no PSS")
def test_memory_stays_flat():
    command = [sys.executable, "-m", "tests.training.soak", "batched", str(STEPS)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen[-1][0] >= STEPS
    early = max(size for steps, size in seen if STEPS / 4 <= steps < STEPS / 2)
    late = max(size for steps, size in seen if steps >= 3 * STEPS / 4)
    assert late <= (1 + FLAT) * early, [(steps, size // 2**20) for steps, size in seen[:: len(seen) // 10]]
