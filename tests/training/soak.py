"""A long training run in a process of its own, which prints how much memory it and its workers take as they go."""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    from sb3_contrib import MaskablePPO
    from stable_baselines3.common.callbacks import BaseCallback

    from sb3_alignsam.benchmark.memory import memory_of
    from sb3_alignsam.callbacks import ClickMetricsCallback
    from sb3_alignsam.policies import MaskableImplicitPolicy
    from sb3_alignsam.training.buffers import MaskableDistinctEpisodeDictRolloutBuffer
    from sb3_alignsam.training.vec_envs import make_vec_env, spared_cores

    seen = []

    class Memory(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            seen.append((self.num_timesteps, memory_of(os.getpid())[0]))

    vec_env = make_vec_env("SamSegShapes-v0", {}, 16, 0, sys.argv[1], None)
    buffer = MaskableDistinctEpisodeDictRolloutBuffer
    model = MaskablePPO(MaskableImplicitPolicy, vec_env, n_steps=32, rollout_buffer_class=buffer, device="cpu")
    with spared_cores(vec_env):
        model.learn(int(sys.argv[2]), callback=[ClickMetricsCallback(), Memory()])
    vec_env.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
