"""`sb3-alignsam` whose ranks end at a chosen step: ``ENDS`` holds ``RANK:STEP:SIGNAL``, with commas between.

A process that torchrun has started again does not.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from sb3_alignsam.cli import main as sb3_alignsam
from sb3_alignsam.envs.sam_seg_vec_env import SamSegVecEnv
from sb3_alignsam.training.distributed import was_restarted


def main(args: list[str]) -> None:
    for each in [] if was_restarted() else os.environ["ENDS"].split(","):
        rank, step, number = (int(word) for word in each.split(":"))
        if rank == int(os.environ["RANK"]):
            _end_at(step, number)
    sb3_alignsam(args)


def _end_at(step: int, number: int) -> None:
    original, taken = SamSegVecEnv.step_wait, []

    def step_wait(vec_env: SamSegVecEnv) -> Any:
        taken.append(None)
        if len(taken) == step:
            os.kill(os.getpid(), number)
        return original(vec_env)

    SamSegVecEnv.step_wait = step_wait  # type: ignore[method-assign]


if __name__ == "__main__":
    main(sys.argv[1:])
