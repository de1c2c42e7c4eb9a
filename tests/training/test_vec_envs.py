from __future__ import annotations

import pytest
import torch as th

from sb3_alignsam.training.vec_envs import VEC_ENVS, make_vec_env, spared_cores


@pytest.mark.parametrize("kind", VEC_ENVS)
def test_workers_that_run_networks_have_a_core_each(kind):
    vec_env = make_vec_env("SamSegShapes-v0", {"split": "dev"}, 2, 0, kind, None)
    before = th.get_num_threads()
    th.set_num_threads(many := 200)  # more than any machine has workers for
    try:
        busy = vec_env.unwrapped.computing_workers if kind == "batched" else 0
        with spared_cores(vec_env):
            assert th.get_num_threads() == many - busy
        assert th.get_num_threads() == many
        th.set_num_threads(1)
        with spared_cores(vec_env):
            assert th.get_num_threads() == 1
    finally:
        th.set_num_threads(before)
        vec_env.close()
