"""What runs on a GPU is what runs on the processor, to rounding. Where there is no GPU these tests are left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch as th
import torch.distributed as dist
from stable_baselines3 import PPO

from sb3_alignsam.cli import main
from sb3_alignsam.envs import make_env
from sb3_alignsam.evaluation.agents import load_agent
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.export import export_agent
from sb3_alignsam.inference.runner import Runner
from sb3_alignsam.perception import Clicks, load_segmenter, load_text_model
from sb3_alignsam.policies.loading import read_description
from sb3_alignsam.training.config import agent_env_kwargs, read_hyperparams, shipped_config
from sb3_alignsam.training.distributed import Ranks
from sb3_alignsam.training.random_states import random_states, restore_random_states
from sb3_alignsam.training.resume import resume
from sb3_alignsam.training.run import train
from sb3_alignsam.training.settings import RunSettings
from sb3_alignsam.training.vec_envs import VEC_ENVS
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.skipif(not th.cuda.is_available(), reason="this machine has no CUDA device")

ENV = "SamSegShapes-v0"
SMALL = {"n_timesteps": 64, "n_steps": 16, "n_envs": 2, "batch_size": 32}
ON_GPU = {"device": "cuda"}


@pytest.fixture(scope="module")
def gpu_run(tmp_path_factory):
    """A run of the Explicit agent, networks and policy on the GPU."""
    return _trained(tmp_path_factory.mktemp("logs"), "explicit", {}, eval_freq=32, eval_episodes=2, save_freq=32)


def _trained(logs, agent, params, kind="batched", **settings):
    hyperparams = read_hyperparams(shipped_config("maskable_ppo", agent), ENV, "maskable_ppo", {**SMALL, **params})
    kwargs = agent_env_kwargs(agent, ENV, {**hyperparams.env_kwargs, **ON_GPU})
    run = RunSettings("maskable_ppo", ENV, kwargs, logs=logs, vec_env=kind, **{**ON_GPU, "eval_freq": 0, **settings})
    return train(run, hyperparams, ["test"], lambda line: None)


def _agreement(one, other):
    return float((one == other).mean())


def test_an_episodes_embedding_is_uploaded_once():
    env = make_env(ENV, {"split": "dev", "device": "cuda"})
    episode = env.fixed_episode(0)
    uploaded = episode.embedding_on(env.segmenter.device)
    assert uploaded.device.type == "cuda"
    assert episode.embedding_on(env.segmenter.device) is uploaded


class TestNetworks:
    def test_segment_as_on_the_processor(self, segmenter):
        sample = make_env(ENV, {"split": "dev"}).dataset.get(0)
        size = sample.image.shape[:2]
        clicks = [Clicks(np.array([[size[1] / 2, size[0] / 2], [20.0, 30.0]]), np.array([1, 0]))]
        found = []
        for each in (segmenter, load_segmenter("tiny", device="cuda")):
            embeddings = each.encode([sample.image])
            assert embeddings.device.type == each.device.type
            masks = each.segment(embeddings, clicks, [size])
            found.append((embeddings.cpu(), masks.low_res[0].cpu(), masks.low_res[0].cpu().numpy() > 0))
        (first, logits, mask), (second, other_logits, other_mask) = found
        assert th.allclose(first, second, atol=0.02)
        assert th.allclose(logits, other_logits, atol=0.2)
        assert _agreement(mask, other_mask) > 0.999

    def test_tell_categories_as_on_the_processor(self):
        pixels = th.randn(1, 3, 320, 320, generator=th.Generator().manual_seed(0))
        tokens = [load_text_model("tiny", device).image_tokens(pixels).cpu() for device in ("cpu", "cuda")]
        assert th.allclose(*tokens, atol=0.02)


@pytest.mark.parametrize("kind", VEC_ENVS)
def test_training_in_any_environments_ends_with_an_agent_for_the_processor(kind, tmp_path):
    run = _trained(tmp_path, "implicit", {}, kind)
    agent = load_agent(run, env_kwargs={"device": "cpu"})
    assert agent.clicker.policy.device.type == agent.env.segmenter.device.type == "cpu"


@pytest.mark.parametrize("setting", ["autocast", "compiled"])
def test_faster_updates_can_be_asked_for(setting, tmp_path):
    run = _trained(tmp_path, "explicit", {"policy_kwargs": {setting: True}})
    assert read_description(run / f"{ENV}.zip").policy_kwargs[setting] is True
    weights = load_agent(run).clicker.policy.state_dict().values()
    assert all(bool(each.isfinite().all()) for each in weights if each.is_floating_point())


def test_an_agent_clicks_as_on_the_processor(gpu_run):
    image = make_env(ENV, {"split": "dev"}).dataset.get(3).image
    found = []
    for device in ("cpu", "cuda"):
        annotator = Annotator(gpu_run, env_kwargs={"device": device})
        assert annotator.policy.device.type == annotator.env.segmenter.device.type == device
        found.append(annotator.segment(image, annotator.categories[0]))
    assert len(found[0].clicks) > 0
    assert [each.click for each in found[0].clicks] == [each.click for each in found[1].clicks]
    assert _agreement(found[0].mask, found[1].mask) > 0.999


def test_evaluation_gives_the_figures_of_the_processor(gpu_run, tmp_path):
    reports = []
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        command = f"eval {gpu_run} --episodes 8 --baselines random,clip,oracle_grid --json {out}"
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), "--env-kwargs", f"device:{device}"])
        assert ended.value.code == 0
        reports.append(json.loads(out.read_text())["clickers"])
    for name in ("agent", "random", "clip", "oracle_grid"):
        ours, theirs = (_curve(report, name) for report in reports)
        assert len(ours) == len(theirs) > 0
        assert ours == pytest.approx(theirs, abs=0.01)


def _curve(clickers, name):
    (found,) = [each for each in clickers if each["name"] == name]
    return [each["mean"] for each in found["miou_at"] if each]


def test_a_run_goes_on(tmp_path):
    run = _trained(tmp_path, "implicit", {"n_timesteps": 96}, eval_freq=0, save_freq=32)
    for path in (run / f"{ENV}.zip", run / ENV / "finished", run / "rl_model_96_steps.zip"):
        path.unlink(missing_ok=True)
    lines = []
    resume(run, {}, lines.append)
    assert any("at 64 of 96 steps" in line for line in lines)
    assert "96 steps" in lines[-1]


def test_random_states_of_the_gpu_are_restored():
    model = PPO("MlpPolicy", "CartPole-v1", device="cuda")
    states = random_states(model)
    drawn = th.rand(4, device="cuda")
    restore_random_states(model, states)
    assert th.equal(th.rand(4, device="cuda"), drawn)


def test_an_export_of_an_agent_on_the_gpu_clicks_as_it_does(gpu_run, tmp_path):
    pytest.importorskip("onnxruntime")
    annotator = Annotator(gpu_run, env_kwargs=ON_GPU)
    export_agent(annotator, tmp_path, "onnx")
    image = make_env(ENV, {"split": "dev"}).dataset.get(3).image
    ours, theirs = (each.segment(image, annotator.categories[0]) for each in (annotator, Runner(tmp_path)))
    assert len(ours.clicks) == len(theirs[2]) > 0
    assert _agreement(ours.mask, theirs[0]) > 0.999


def test_two_ranks_share_a_gpu(tmp_path):
    """NCCL gives a GPU to one rank only, so these talk by gloo; at the end they find their weights equal."""
    pairs = [f"{key}:{value}" for key, value in {**SMALL, "n_envs": 4}.items()]
    train_command = f"train --env {ENV} --algo maskable_ppo --device cuda -f {tmp_path} --track none --eval-freq 0"
    ranks = "-m torch.distributed.run --standalone --nproc-per-node 2 -m sb3_alignsam"
    ended = subprocess.run(
        [sys.executable, *ranks.split(), *train_command.split(), "--env-kwargs", "device:cuda", "-params", *pairs],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    (run,) = (tmp_path / "maskable_ppo").iterdir()
    assert (run / f"{ENV}.zip").is_file()


def test_nccl_carries_what_lies_on_gpus_and_gloo_the_rest(tmp_path):
    """In a group of one process, the only one that a machine with one GPU can have."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    backend, timeout = "cpu:gloo,cuda:nccl", timedelta(seconds=60)
    dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timeout)
    try:
        ranks = replace(Ranks(), size=2)  # of one it would send nothing
        layer = th.nn.Linear(3, 2).cuda()
        layer(th.ones(1, 3, device="cuda")).sum().backward()
        before = layer.weight.grad.clone()
        told = th.tensor([1 / 3, 1e9 + 1 / 3], dtype=th.float64, device="cuda")
        beside = th.cat([th.tensor([4.0], device="cuda"), ranks.in_places(told)])
        found = ranks.average_gradients(layer.parameters(), 0.5, beside)
        assert th.allclose(layer.weight.grad, before / 2)
        assert found[0] == 4
        assert th.allclose(ranks.of_places(found[1:]), told, rtol=1e-12)
        assert ranks.broadcast({"run": 1}) == {"run": 1}
        ranks.share_weights(layer)
        assert ranks.sum(th.tensor([1.0, 3.0], device="cuda")).tolist() == [1.0, 3.0]
        assert ranks.sum(th.tensor([1.0])).tolist() == [1.0]
    finally:
        dist.destroy_process_group()
