"""From a run folder or a zip to an agent that can be evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sb3_alignsam.datasets.loading import REPORTED_SPLITS
from sb3_alignsam.envs.making import make_env
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.protocol import fit_majority, spread
from sb3_alignsam.policies.baselines import TEXT_BASELINES, Majority, make_baseline
from sb3_alignsam.policies.clickers import AgentClicker, Clicker
from sb3_alignsam.policies.foreign import Trust, open_agent
from sb3_alignsam.policies.loading import AgentDescription, find_zip, is_maskable
from sb3_alignsam.registration import ENV_IDS

MAJORITY_EPISODES = 64
"""Dev episodes over which the agent's actions are counted for the baseline `majority`."""
DEFAULT_BASELINES = (
    "empty",
    "whole_image",
    "random",
    "random_positive",
    "centre",
    "uncertainty",
    "majority",
    "clip",
    "clip_best",
    "oracle_grid",
    "oracle",
    "oracle_best_of_three",
)
"""Where none are named; less those that need a text model where there is none. `everything` takes longer than all of
them together and has to be asked for."""


@dataclass(frozen=True)
class LoadedAgent:
    """A trained agent with an environment on the split to evaluate.

    :param zip_path: where it came from. :param description: what the zip says of itself.
    :param env: an environment on the split.
    :param dev_kwargs: keywords of an environment of the same kind on the episodes to choose by.
    :param clicker: the agent.
    :param env_kwargs: keywords of `env`.
    """

    zip_path: Path
    description: AgentDescription
    env: SamSegEnv
    dev_kwargs: dict[str, Any]
    clicker: AgentClicker
    env_kwargs: dict[str, Any]


def load_agent(
    run: Path,
    split: str | None = None,
    load_best: bool = False,
    env_kwargs: Mapping[str, Any] | None = None,
    trust: Trust | None = None,
) -> LoadedAgent:
    """Load an agent for evaluation; nothing is unpickled but a zip of others that the user trusts.

    :param run: run folder or zip. :param split: dataset split; None: see `REPORTED_SPLITS`, of others the run's own.
    :param load_best: the best model on dev rather than the last one.
    :param env_kwargs: keywords that replace those of training. :param trust: of zips that do not describe themselves.
    :raises InputError: the run, the split or a keyword cannot be used.
    """
    path = find_zip(run, load_best)
    agent = open_agent(path, env_kwargs, trust)
    description = agent.description
    kwargs = {**description.env_kwargs, **(env_kwargs or {})}
    dev_kwargs = {**kwargs, "split": description.env_kwargs.get("split"), "subset": "dev"}
    if split is not None:
        kwargs["split"] = split
    else:
        dataset = {**ENV_IDS.get(description.env_id, {}), **kwargs}.get("dataset", "shapes")
        if dataset in REPORTED_SPLITS:
            kwargs["split"] = REPORTED_SPLITS[dataset]
    env = make_env(description.env_id, kwargs)
    if agent.reads_category and description.categories and list(env.dataset.categories) != description.categories:
        raise InputError(f"{path} was trained on other categories, or in another order, than this dataset has")
    clicker = AgentClicker(agent.policy_for(env, env.segmenter.device), env.grid, is_maskable(description))
    return LoadedAgent(path, description, env, dev_kwargs, clicker, kwargs)


def make_clickers(
    agent: LoadedAgent, baselines: Sequence[str] | None, clicks: int, notice: Callable[[str], object] = print
) -> list[Clicker]:
    """The agent and some baselines; `majority` is fitted on dev episodes, never on the split reported.

    :param baselines: their names; None: `DEFAULT_BASELINES`, less `majority` where there are no dev episodes, of which
        `notice` is told.
    :raises InputError: a baseline is unknown, or there are no dev episodes for a `majority` that was asked for.
    """
    clickers: list[Clicker] = [agent.clicker]
    for name in dict.fromkeys(_default_baselines(agent.env) if baselines is None else baselines):
        if name != "majority":
            clickers.append(make_baseline(name, agent.env.grid, agent.env.features))
            continue
        try:
            clickers.append(_majority(agent, clicks))
        except InputError as error:
            if baselines is not None:
                raise
            notice(f"left out: {error}")
    return clickers


def _default_baselines(env: SamSegEnv) -> list[str]:
    return [name for name in DEFAULT_BASELINES if env.features.maps is not None or name not in TEXT_BASELINES]


def _majority(agent: LoadedAgent, clicks: int) -> Majority:
    try:
        dev = make_env(agent.description.env_id, agent.dev_kwargs)
    except InputError as error:
        raise InputError(f"baseline 'majority' has no dev episodes to be fitted on: {error}") from error
    return fit_majority(dev, agent.clicker, spread(len(dev.dataset), MAJORITY_EPISODES), clicks)
