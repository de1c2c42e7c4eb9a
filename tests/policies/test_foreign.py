"""What a zip may and may not do to whoever reads it, through every command that takes one."""

from __future__ import annotations

import base64
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.envs import make_env
from sb3_alignsam.errors import InputError
from sb3_alignsam.policies import ExplicitPolicy, ImplicitExtractor, MaskableImplicitPolicy
from sb3_alignsam.policies.foreign import Trust, open_agent
from sb3_alignsam.policies.loading import DESCRIPTION_MEMBER
from tests.cli.commands import assert_refused, call

NAME = "SamSegShapes-v0.zip"


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def _with_bomb(source: Path, target: Path, marker: Path, *, where: str, ours: bool) -> Path:
    """A copy of a zip that makes a file when its `data`, or its weights, are unpickled."""
    explosive = pickle.dumps(Bomb(marker), protocol=2)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data" and where == "data":
                entry = {":type:": "<class 'Bomb'>", ":serialized:": base64.b64encode(explosive).decode()}
                content = json.dumps(json.loads(content) | {"bomb": entry}).encode()
            if name == "policy.pth" and where == "policy.pth":
                content = explosive
            if name != DESCRIPTION_MEMBER or ours:
                new.writestr(name, content)
    return target


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    Image.fromarray(ShapesDataset("val").get(0).image).save(folder / "scene.png")
    return folder


def _commands(path, pictures, out):
    """Every command that reads a zip."""
    return {
        "eval": ["eval", path, "--episodes", 1, "--baselines", "none", "--out", out],
        "predict": ["predict", path, "--image", pictures / "scene.png", "--category", "star", "-o", out],
        "annotate": ["annotate", path, "--images", pictures, "--categories", "star", "-o", out / "results.json"],
        "record": ["record", path, "-n", 1, "--out", out],
    }


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A MaskablePPO zip that SB3 wrote, of an agent with a budget of its own."""
    env = make_env("SamSegShapes-v0", {"max_steps": 2})
    model = MaskablePPO(MaskableImplicitPolicy, env, n_steps=8, batch_size=8, seed=0, device="cpu")
    path = tmp_path_factory.mktemp("foreign") / "theirs.zip"
    model.save(path)
    return path


@pytest.mark.parametrize("command", ["eval", "predict", "annotate", "record"])
def test_nothing_runs_that_a_zip_holds(command, run_folder, pictures, tmp_path, capsys):
    marker, out = tmp_path / "marker", tmp_path / "out"
    ours = _with_bomb(run_folder / NAME, tmp_path / "ours.zip", marker, where="data", ours=True)
    code, _, err = call(_commands(ours, pictures, out)[command], capsys)
    assert (code, err) == (0, "")
    open_agent(ours, trust=Trust(True))  # a zip that describes itself is not unpickled even then
    weights = _with_bomb(run_folder / NAME, tmp_path / "weights.zip", marker, where="policy.pth", ours=True)
    assert_refused(_commands(weights, pictures, out)[command], "its member policy.pth is no file of weights", capsys)
    theirs = _with_bomb(run_folder / NAME, tmp_path / "theirs.zip", marker, where="data", ours=False)
    refused = _commands(theirs, pictures, out)[command]
    assert_refused(refused, "which run their author's code when they are read; if you trust", capsys)
    assert not marker.exists()


def test_what_is_trusted_does_run(run_folder, tmp_path):
    """Else the test above would show nothing."""
    theirs = _with_bomb(run_folder / NAME, tmp_path / "theirs.zip", tmp_path / "marker", where="data", ours=False)
    open_agent(theirs, trust=Trust(True, "SamSegShapes-v0"))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("command", ["eval", "predict", "annotate", "record"])
def test_a_trusted_zip_of_others_can_be_used(command, foreign, pictures, tmp_path, capsys):
    args = [*_commands(foreign, pictures, tmp_path / "out")[command], "--trust"]
    assert_refused(args, "does not say which environment it was trained on; name it: --env", capsys)
    args += ["--env", "SamSegShapes-v0"]
    assert_refused(args, "theirs.zip does not fit this environment", capsys)  # it was trained with a budget of 2
    code, out, err = call([*args, "--env-kwargs", "max_steps:2"], capsys)
    assert (code, err) == (0, "")
    assert command != "predict" or "2 clicks" in out


def test_a_trusted_agent_clicks_as_sb3s_own_loading_does(foreign):
    env = make_env("SamSegShapes-v0", {"max_steps": 2})
    agent = open_agent(foreign, {"max_steps": 2}, Trust(True, "SamSegShapes-v0"))
    ours, theirs = agent.policy_for(env), MaskablePPO.load(foreign, device="cpu")
    observation, _ = env.reset(options={"index": 0})
    assert not ours.training
    assert ours.predict(observation, deterministic=True)[0] == theirs.predict(observation, deterministic=True)[0]


def test_other_policies_and_agents_are_recognised(tmp_path):
    env = make_env("SamSegShapes-v0", {"text_model": "tiny"})
    plain = PPO(
        "MultiInputPolicy", env, n_steps=8, batch_size=8, policy_kwargs={"features_extractor_class": ImplicitExtractor}
    )
    explicit = PPO(ExplicitPolicy, env, n_steps=8, batch_size=8)
    kwargs, trust = {"text_model": "tiny"}, Trust(True, "SamSegShapes-v0")
    for model, reads_category in ((plain, True), (explicit, False)):
        model.save(tmp_path / "model.zip")
        agent = open_agent(tmp_path / "model.zip", kwargs, trust)
        assert (agent.description.algo, agent.reads_category) == ("ppo", reads_category)
        assert "star" in agent.description.categories
        agent.policy_for(env)


def test_what_sb3_cannot_load_is_one_line(run_folder, tmp_path):
    trust = Trust(True, "SamSegShapes-v0")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("data", "{}")
    with pytest.raises(InputError, match=r"empty\.zip is no zip that SB3 can load"):
        open_agent(tmp_path / "empty.zip", trust=trust)
    with pytest.raises(InputError, match="environment 'SamSegShape-v0' is not known"):
        open_agent(tmp_path / "empty.zip", trust=Trust(True, "SamSegShape-v0"))
    with pytest.raises(InputError, match="damaged or no zip"):
        open_agent(shutil.copy(run_folder / "evaluations.npz", tmp_path / "none.zip") and Path(__file__), trust=trust)
