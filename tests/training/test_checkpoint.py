from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO

from sb3_alignsam.errors import InputError
from sb3_alignsam.policies.loading import AgentDescription, zip_of
from sb3_alignsam.training import checkpoint
from sb3_alignsam.training.checkpoint import (
    UnknownFormatError,
    add_state,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)


@pytest.fixture(scope="module")
def model():
    return PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=0, device="cpu").learn(8)


@pytest.fixture
def path(model, tmp_path):
    return _write(model, tmp_path, 8)


def _write(model, folder, steps):
    zipped = zip_of(model, AgentDescription("ppo", "CartPole-v1"))
    add_state(zipped, {"steps": steps, "logits": np.full((1, 4, 4), 0.1, np.float32)})
    write_checkpoint(zipped, folder / f"rl_model_{steps}_steps.zip")
    return folder / f"rl_model_{steps}_steps.zip"


def test_a_checkpoint_comes_back_and_sb3_loads_it_too(model, path):
    found = read_checkpoint(path)
    assert found.state["steps"] == 8
    assert found.state["logits"].dtype == np.float32
    weights = model.policy.state_dict()
    assert all(th.equal(value, weights[key]) for key, value in found.parameters["policy"].items())
    assert found.parameters["policy.optimizer"]["state"]
    assert PPO.load(path, device="cpu").num_timesteps == 8
    assert not list(path.parent.glob("*.tmp"))


def test_any_byte_that_changed_is_noticed_or_means_nothing(path):
    content, whole = path.read_bytes(), read_checkpoint(path).parameters["policy"]
    for place in np.linspace(0, len(content) - 1, 200, dtype=int):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            found = read_checkpoint(path)
        except InputError:
            continue
        assert all(th.equal(value, whole[key]) for key, value in found.parameters["policy"].items())
        assert found.state["steps"] == 8


def test_a_member_that_was_exchanged_is_noticed(path):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, "policy.pth": members["policy.optimizer.pth"]}.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match="is damaged: its content is not what was written"):
        read_checkpoint(path)


def test_the_newest_that_can_be_used_is_found_by_its_steps(model, tmp_path):
    assert newest_checkpoint(tmp_path, print) is None
    for steps in (8, 16, 128):
        _write(model, tmp_path, steps)
    (tmp_path / "rl_model_128_steps.zip").write_bytes(b"PK")
    model.save(tmp_path / "rl_model_64_steps.zip")  # SB3's own, without a state
    lines = []
    assert newest_checkpoint(tmp_path, lines.append).state["steps"] == 16
    assert [line.split()[1] for line in lines] == [str(tmp_path / f"rl_model_{n}_steps.zip") for n in (128, 64)]
    assert not (tmp_path / "rl_model_128_steps.zip").exists()
    assert (tmp_path / "rl_model_128_steps.zip.damaged").exists()
    assert newest_checkpoint(tmp_path, lines.append).state["steps"] == 16
    assert len(lines) == 2


@pytest.mark.parametrize("number", [0, 2, "x", None])
def test_a_checkpoint_of_another_format_is_refused_and_stays(model, tmp_path, monkeypatch, number):
    older = _write(model, tmp_path, 8)
    monkeypatch.setattr(checkpoint, "FORMAT", number)
    newer = _write(model, tmp_path, 16)
    monkeypatch.undo()
    with pytest.raises(UnknownFormatError, match=f"{newer} is a checkpoint of format {number!r}, and this .* reads 1;"):
        newest_checkpoint(tmp_path, print)
    assert newer.exists()
    assert read_checkpoint(older).state.keys() == {"steps", "logits"}


def test_a_checkpoint_that_names_no_format_is_of_the_first(path, tmp_path):
    unnumbered = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(unnumbered, "w") as other:
        for name in set(archive.namelist()) - {checkpoint.DIGESTS, checkpoint.STATE}:
            other.writestr(name, archive.read(name))
        state = json.loads(archive.read(checkpoint.STATE))
        assert state.pop("format") == 1
        other.writestr(checkpoint.STATE, json.dumps(state))
    write_checkpoint(unnumbered, tmp_path / "earlier.zip")
    assert read_checkpoint(tmp_path / "earlier.zip").state["steps"] == 8
