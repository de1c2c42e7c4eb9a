"""The states of every random generator that training draws from in this process."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm


def random_states(model: BaseAlgorithm) -> dict[str, Any]:
    """Of Python, NumPy, torch, the model's accelerator and its action space, as plain data and arrays."""
    version, words, following = random.getstate()
    legacy = np.random.get_state(legacy=False)
    assert isinstance(legacy, dict)
    states: dict[str, Any] = {
        "python": [version, np.array(words, np.uint32), following],
        "numpy": legacy,
        "torch": th.get_rng_state().numpy(),
        "actions": model.action_space.np_random.bit_generator.state,
    }
    if model.device.type == "cuda":
        states["cuda"] = [th.cuda.get_rng_state(model.device).numpy()]
    if model.device.type == "mps":
        states["mps"] = th.mps.get_rng_state().numpy()
    return states


def restore_random_states(model: BaseAlgorithm, states: dict[str, Any]) -> None:
    """Take them over; those of an accelerator that is not there are left out."""
    version, words, following = states["python"]
    random.setstate((version, tuple(words.tolist()), following))
    np.random.set_state(states["numpy"])
    th.set_rng_state(th.from_numpy(states["torch"].copy()))
    model.action_space.np_random.bit_generator.state = states["actions"]
    if model.device.type == "cuda":
        for state in states.get("cuda", [])[:1]:  # checkpoints of 0.1 have those of all GPUs
            th.cuda.set_rng_state(th.from_numpy(state.copy()), model.device)
    if model.device.type == "mps" and "mps" in states:
        th.mps.set_rng_state(th.from_numpy(states["mps"].copy()))
