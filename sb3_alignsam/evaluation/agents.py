"""From a run folder or a zip to an agent that can be evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sb3_alignsam.envs.making import make_env
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.protocol import fit_majority, spread
from sb3_alignsam.policies.baselines import BASELINES, make_baseline
from sb3_alignsam.policies.clickers import AgentClicker, Clicker
from sb3_alignsam.policies.loading import AgentDescription, find_zip, is_maskable, load_policy, read_description

MAJORITY_EPISODES = 64
"""Dev episodes over which the agent's actions are counted for the baseline `majority`."""
DEFAULT_BASELINES = ("random", "random_positive", "centre", "majority", "oracle_grid", "oracle")


@dataclass(frozen=True)
class LoadedAgent:
    """A trained agent with an environment on the split to evaluate.

    :param zip_path: where it came from. :param description: what the zip says of itself.
    :param env: an environment on the split. :param clicker: the agent.
    """

    zip_path: Path
    description: AgentDescription
    env: SamSegEnv
    clicker: AgentClicker


def load_agent(
    run: Path, split: str | None = None, load_best: bool = False, env_kwargs: Mapping[str, Any] | None = None
) -> LoadedAgent:
    """Load an agent for evaluation; nothing is unpickled.

    :param run: run folder or zip. :param split: dataset split; None: ``val`` of shapes, else the run's own.
    :param load_best: the best model on dev rather than the last one.
    :param env_kwargs: keywords that replace those of training.
    :raises InputError: the run, the split or a keyword cannot be used.
    """
    path = find_zip(run, load_best)
    description = read_description(path)
    kwargs = {**description.env_kwargs, **(env_kwargs or {})}
    if split is not None:
        kwargs["split"] = split
    elif description.env_id == "SamSegShapes-v0" or kwargs.get("dataset", "shapes") == "shapes":
        kwargs["split"] = "val"
    env = make_env(description.env_id, kwargs)
    policy = load_policy(path, env)
    return LoadedAgent(path, description, env, AgentClicker(policy, env.grid, is_maskable(description)))


def make_clickers(agent: LoadedAgent, baselines: Sequence[str], clicks: int) -> list[Clicker]:
    """The agent and the named baselines; `majority` is fitted on dev episodes, never on the split reported.

    :raises InputError: a baseline is unknown, or there are no dev episodes to fit `majority` on.
    """
    clickers: list[Clicker] = [agent.clicker]
    for name in dict.fromkeys(baselines):
        if name == "majority":
            kwargs = {**agent.description.env_kwargs, "subset": "dev"}
            try:
                dev = make_env(agent.description.env_id, kwargs)
            except InputError as error:
                raise InputError(f"baseline 'majority' has no dev episodes to be fitted on: {error}") from error
            indices = spread(len(dev.dataset), MAJORITY_EPISODES)
            clickers.append(fit_majority(dev, agent.clicker, indices, clicks))
        else:
            clickers.append(make_baseline(name, agent.env.grid))
    return clickers


def known_baselines() -> list[str]:
    """Names that `make_clickers` takes."""
    return [*BASELINES, "majority"]
