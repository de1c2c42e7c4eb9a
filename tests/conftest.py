"""Parts that many tests share; each is made once a session, and real."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch as th
from sb3_contrib import MaskablePPO

from sb3_alignsam.datasets import Sample, ShapesDataset
from sb3_alignsam.envs import SamSegEnv, make_env
from sb3_alignsam.perception import Segmenter, load_segmenter
from sb3_alignsam.policies import MaskableImplicitPolicy
from sb3_alignsam.policies.loading import AgentDescription, save_zip
from sb3_alignsam.training.config import agent_env_kwargs, read_hyperparams, shipped_config
from sb3_alignsam.training.run import train
from sb3_alignsam.training.settings import RunSettings

REPOSITORY = Path(__file__).resolve().parents[1]
COCO_MINI = REPOSITORY.parent / "shared" / "data" / "coco_mini"

th.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test reads or writes the user's own cache folder; processes that a test starts inherit it."""
    folder = tmp_path_factory.mktemp("home")
    os.environ["SB3_ALIGNSAM_HOME"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    """The embedded default."""
    return load_segmenter("tiny")


@pytest.fixture
def env() -> SamSegEnv:
    """A fresh environment on the dev split of Shapes, with frames."""
    return make_env("SamSegShapes-v0", {"split": "dev", "render_mode": "rgb_array"})


@pytest.fixture(scope="session")
def coco_mini() -> Path:
    """The photographs for development; they are not part of the repository."""
    if not COCO_MINI.is_dir():
        pytest.skip(f"no photographs: {COCO_MINI.parent} does not exist on this machine")
    return COCO_MINI


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short MaskablePPO run with an evaluation, a checkpoint and a best model."""
    return short_run("maskable_ppo", tmp_path_factory.mktemp("logs"), eval_freq=32, eval_episodes=4, save_freq=32)


@pytest.fixture(scope="session")
def explicit_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short MaskablePPO run of the Explicit agent."""
    return short_run("maskable_ppo", tmp_path_factory.mktemp("explicit_logs"), agent="explicit", eval_freq=0)


@pytest.fixture(scope="session")
def stopping_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of the Explicit agent with *stop* and with all that it can read."""
    logs = tmp_path_factory.mktemp("stopping_logs")
    return short_run("maskable_ppo", logs, agent="explicit", imitating=True, eval_freq=0)


@pytest.fixture(scope="session")
def instance_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent of ``target: instance`` that has learnt one thing: to click where no object was found before."""
    kwargs = {"target": "instance", "max_steps": 3}
    env = make_env("SamSegShapes-v0", kwargs)
    model = MaskablePPO(MaskableImplicitPolicy, env, n_steps=8, batch_size=8, seed=0, device="cpu")
    extractor, head = model.policy.features_extractor, model.policy.mlp_extractor
    excluded = extractor.join.in_channels - 5  # behind it: two click maps and the place
    with th.no_grad():
        extractor.join.weight[:, excluded] = -100.0
        for block in extractor.blocks:
            block.mix.weight.zero_()
        head.click_logits.weight[0] = head.click_logits.weight[0].abs() + 1
        head.click_logits.weight[1] = 0.0
    path = tmp_path_factory.mktemp("instances") / "agent.zip"
    policy = "sb3_alignsam.policies.MaskableImplicitPolicy"
    description = AgentDescription("maskable_ppo", "SamSegShapes-v0", kwargs, policy)
    save_zip(model, path, replace(description, categories=list(env.dataset.categories)))
    return path


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO folder of six scenes: ``val/*.png`` and ``annotations/instances_val.json``. Not to be written to."""
    folder = tmp_path_factory.mktemp("photographs")
    ShapesDataset("val").write_coco(folder, 6)
    return folder


@pytest.fixture(scope="session")
def other_run_folder(run_folder: Path) -> Path:
    """The same with another seed, under the same log folder."""
    return short_run("maskable_ppo", run_folder.parents[1], seed=1, eval_freq=32, eval_episodes=4)


def short_run(algo: str, logs: Path, agent: str = "implicit", imitating: bool = False, **settings: object) -> Path:
    """Train for 64 steps in this process. :param imitating: with the settings of what goes on from imitation."""
    overrides = {"n_timesteps": 64, "n_steps": 16, "n_envs": 2, "batch_size": 32}
    hyperparams = read_hyperparams(shipped_config(algo, agent, imitating), "SamSegShapes-v0", algo, overrides)
    kwargs = agent_env_kwargs(agent, "SamSegShapes-v0", hyperparams.env_kwargs)
    run = RunSettings(algo, "SamSegShapes-v0", kwargs, logs=logs, vec_env="dummy", **{"device": "cpu", **settings})
    return train(run, hyperparams, ["test"], lambda line: None)


def square_sample(size: tuple[int, int] = (60, 80), ignore: bool = False) -> Sample:
    """A grey picture whose target is two squares; with `ignore`, its last ten columns count for nothing."""
    height, width = size
    instances = np.zeros((2, height, width), bool)
    instances[0, 5:25, 5:25] = True
    instances[1, 30:50, 40:60] = True
    ignored = np.zeros(size, bool)
    ignored[:, width - 10 :] = ignore
    image = np.full((height, width, 3), 90, np.uint8)
    image[instances.any(axis=0)] = 200
    return Sample(image, "square", 2, instances, ignored, 7, (11, 12))
