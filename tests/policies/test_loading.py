from __future__ import annotations

import json
import pickle
import shutil
import zipfile

import pytest
import torch as th
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO

from sb3_alignsam.envs import make_env
from sb3_alignsam.errors import InputError
from sb3_alignsam.policies.loading import (
    DESCRIPTION_MEMBER,
    AgentDescription,
    find_zip,
    load_policy,
    policy_class,
    read_description,
    save_zip,
)
from tests.conftest import short_run


def _actions(policy, env, maskable):
    chosen = []
    for index in range(3):
        observation, _ = env.reset(options={"index": index})
        masks = {"action_masks": env.action_masks()} if maskable else {}
        chosen.append(int(policy.predict(observation, deterministic=True, **masks)[0]))
    return chosen


def test_zips_are_sb3s_and_our_own_reading_equals_it(run_folder, tmp_path):
    for algo, algorithm, folder in (
        ("maskable_ppo", MaskablePPO, run_folder),
        ("ppo", PPO, short_run("ppo", tmp_path, eval_freq=0)),
    ):
        path, env = folder / "SamSegShapes-v0.zip", make_env("SamSegShapes-v0", {"split": "dev"})
        theirs, ours = algorithm.load(path, device="cpu").policy, load_policy(path, env)
        assert all(
            th.equal(a, b) for a, b in zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True)
        )
        assert _actions(theirs, env, algo != "ppo") == _actions(ours, env, algo != "ppo")
        assert algorithm.load(path, env=env, device="cpu").num_timesteps == 64


def test_a_zip_says_what_it_is(run_folder):
    description = read_description(run_folder / "SamSegShapes-v0.zip")
    assert description.algo == "maskable_ppo"
    assert description.env_id == "SamSegShapes-v0"
    assert description.policy == "sb3_alignsam.policies.MaskableImplicitPolicy"
    assert description.num_timesteps == 64


def test_no_observation_is_in_a_zip(run_folder):
    with zipfile.ZipFile(run_folder / "SamSegShapes-v0.zip") as archive:
        data = json.loads(archive.read("data"))
    assert data.get("_last_obs") is None


@pytest.mark.parametrize("agent", ["implicit", "explicit"])
@pytest.mark.parametrize("algo", ["ppo", "maskable_ppo"])
def test_a_zip_holds_little_but_trained_weights(agent, algo, tmp_path):
    """Weights, Adam's two moments of each, and what SB3 writes about itself; no observation and no space's bounds."""
    folder = short_run(algo, tmp_path, agent=agent, eval_freq=0)
    path, env = folder / "SamSegShapes-v0.zip", make_env("SamSegShapes-v0", {"split": "dev", "text_model": "tiny"})
    weights = sum(value.nbytes for value in load_policy(path, env).state_dict().values())
    assert path.stat().st_size <= 3 * weights + 100_000
    algorithm = {"ppo": PPO, "maskable_ppo": MaskablePPO}[algo]
    own = make_env("SamSegShapes-v0", {"text_model": "tiny"} if agent == "explicit" else {})
    assert algorithm.load(path, env=own, device="cpu").num_timesteps == 64


def test_reading_a_zip_never_unpickles(run_folder, tmp_path, capsys):
    class Bomb:
        def __reduce__(self):
            return (print, ("exploded",))

    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(run_folder / "SamSegShapes-v0.zip") as source, zipfile.ZipFile(path, "w") as target:
        target.writestr(DESCRIPTION_MEMBER, source.read(DESCRIPTION_MEMBER))
        target.writestr("policy.pth", pickle.dumps(Bomb(), protocol=2))
        target.writestr("data", source.read("data"))
    with pytest.raises(InputError, match=r"policy\.pth"):
        load_policy(path, make_env("SamSegShapes-v0"))
    assert capsys.readouterr().out == ""


def test_a_failed_write_leaves_the_previous_zip(run_folder, tmp_path):
    path = tmp_path / "model.zip"
    path.write_bytes(b"previous")
    with pytest.raises(AttributeError):
        save_zip(None, path, AgentDescription("ppo", "SamSegShapes-v0"))
    assert path.read_bytes() == b"previous"
    assert list(tmp_path.iterdir()) == [path]


def test_weights_of_another_grid_are_refused_in_one_line(run_folder):
    with pytest.raises(InputError, match="do not fit this environment") as caught:
        load_policy(run_folder / "SamSegShapes-v0.zip", make_env("SamSegShapes-v0", {"max_steps": 7}))
    assert "\n" not in str(caught.value)


def test_missing_damaged_and_foreign_zips_are_named(tmp_path):
    damaged, foreign = tmp_path / "damaged.zip", tmp_path / "foreign.zip"
    damaged.write_bytes(b"PK\x03\x04 and no more")
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("data", "{}")
    for path, words in ((tmp_path / "none.zip", "does not exist"), (damaged, "damaged"), (foreign, "not written by")):
        with pytest.raises(InputError, match=words):
            read_description(path)


def test_a_run_folder_gives_its_last_or_its_best_model(run_folder, tmp_path):
    assert find_zip(run_folder).name == "SamSegShapes-v0.zip"
    assert find_zip(run_folder, load_best=True).name == "best_model.zip"
    with pytest.raises(InputError, match="it holds no zip at all"):
        find_zip(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        find_zip(tmp_path / "none")


@pytest.mark.parametrize(
    "name", ["os.system", "sb3_alignsam.policies.Nothing", "sb3_alignsam.policies.loading.save_zip"]
)
def test_a_policy_outside_the_package_is_refused(name):
    with pytest.raises(InputError, match="policy '"):
        policy_class(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"policy": 5}, "field 'policy' needs a text"),
        ({"env_kwargs": [1]}, "field 'env_kwargs' needs a mapping"),
        ({"algo": "dqn"}, "is not one for algorithm 'dqn'"),
        ({"policy": "sb3_alignsam.policies.ImplicitPolicy"}, "is not one for algorithm 'maskable_ppo'"),
        ({"policy_kwargs": {"chanels": 3}}, "its policy cannot be built"),
        ({"policy_kwargs": {"channels": -1}}, "its policy cannot be built"),
        ({"more": 1}, "field 'more' is not known"),
    ],
)
def test_a_zip_that_describes_itself_wrongly_is_refused_in_one_line(run_folder, tmp_path, change, words):
    path = tmp_path / "changed.zip"
    with zipfile.ZipFile(run_folder / "SamSegShapes-v0.zip") as source, zipfile.ZipFile(path, "w") as target:
        description = json.loads(source.read(DESCRIPTION_MEMBER)) | change
        target.writestr(DESCRIPTION_MEMBER, json.dumps(description))
        target.writestr("policy.pth", source.read("policy.pth"))
    with pytest.raises(InputError, match=words) as caught:
        load_policy(path, make_env("SamSegShapes-v0"))
    assert "\n" not in str(caught.value)


def test_a_run_folder_may_be_renamed(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "my best run")
    assert find_zip(tmp_path / "my best run").name == "SamSegShapes-v0.zip"
