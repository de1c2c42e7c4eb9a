from __future__ import annotations

import pytest

from sb3_alignsam.errors import InputError
from sb3_alignsam.registration import ENV_IDS
from sb3_alignsam.training.config import ALGORITHMS, check_hyperparams, read_hyperparams, shipped_config
from sb3_alignsam.training.search_space import read_space, shipped_space, with_values

BASE = {"policy": "sb3_alignsam.policies.ImplicitPolicy", "n_timesteps": 100, "n_envs": 2, "n_steps": 8}


def _read(tmp_path, text):
    path = tmp_path / "space.yml"
    path.write_text(text)
    return read_space(path, "SamSegShapes-v0", BASE, "ppo")


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_the_shipped_space_fits_the_shipped_hyperparameters(algo, env_id):
    base = read_hyperparams(shipped_config(algo, "implicit"), env_id, algo).raw
    space = read_space(shipped_space(), env_id, base, algo)
    assert ("policy_kwargs", "channels") in [each.keys for each in space]
    for pick in (0, -1):
        values = {each.keys: each.extremes()[pick] for each in space}
        assert check_hyperparams(with_values(base, values), algo).policy_kwargs["map_channels"] == 32


def test_every_kind_of_entry(tmp_path):
    text = """default:
  n_epochs: {low: 1, high: 9, step: 2}
  ent_coef: {low: 1e-4, high: 1e-2, log: true}
  learning_rate: {low: lin_1e-3, high: lin_1e-2}
  clip_range_vf: [~, 0.2]
  policy_kwargs:
    blocks: [1, 2]
"""
    epochs, entropy, rate, clip, blocks = _read(tmp_path, text)
    assert (epochs.low, epochs.high, epochs.step) == (1, 9, 2)
    assert (entropy.name, entropy.log) == ("ent_coef", True)
    assert rate.extremes() == ["lin_0.001", "lin_0.01"]
    assert clip.choices == (None, 0.2)
    assert blocks.name == "policy_kwargs.blocks"
    assert with_values(BASE, {blocks.keys: 2}) == BASE | {"policy_kwargs": {"blocks": 2}}


def test_an_environments_own_entry_comes_first(tmp_path):
    (only,) = _read(tmp_path, "default: {gamma: [0, 1]}\nSamSegShapes-v0: {gae_lambda: [0, 1]}\n")
    assert only.name == "gae_lambda"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("n_epoch: [1, 2]", ":2: hyperparameter 'n_epoch' is not known; did you mean n_epochs"),
        ("n_epochs: 3", ":2: 'n_epochs' needs a list of values, or a mapping with low and high"),
        ("n_epochs: [1]", ":2: 'n_epochs' needs two different values or more"),
        ("n_epochs: [1, [2]]", ":2: 'n_epochs' needs plain values"),
        ("n_epochs: {low: 0, high: 3}", ":2: hyperparameter 'n_epochs' needs a whole number >= 1, got 0"),
        ("n_epochs: {low: 1.5, high: 3}", ":2: hyperparameter 'n_epochs' needs a whole number >= 1, got 1.5"),
        ("n_epochs: {low: 3, high: 1}", ":2: 'n_epochs' needs a low below its high"),
        ("n_epochs: {low: 1, high: 3, logg: true}", ":2: 'logg' is not known; known: low, high, log, step"),
        ("n_epochs: {low: 1, high: 3, log: 1}", ":2: log of 'n_epochs' is true or false"),
        ("gamma: {low: 0, high: 0.9, log: true}", ":2: log of 'gamma' is true or false, and true needs numbers above"),
        ("gamma: {low: 0.1, high: 0.9, step: 2}", ":2: step of 'gamma' is a whole number, for whole numbers"),
        ("gamma: {low: 0.5, high: 1.5}", ":2: hyperparameter 'gamma' needs a finite number from 0 to 1, got 1.5"),
        ("gamma: {low: .nan, high: 1}", ":2: 'gamma' needs two numbers"),
        ("gamma: {low: lin_0.1, high: lin_0.9}", ":2: 'gamma' needs two numbers"),
        ("learning_rate: {low: lin_x, high: lin_1}", ":2: 'learning_rate' needs two numbers"),
        ("policy: [a, b]", ":2: 'policy' is not searched"),
        ("env_kwargs: {max_steps: [2, 3]}", ":2: 'env_kwargs' is not searched"),
        ("policy_kwargs: {activation_fn: [nn.ReLU, os.system]}", ":2: name 'os.system' lies outside"),
        ("gamma: !!python/name:os.system", ":2: tag"),
        ("gamma: [0, 1]\n  gamma: [1, 2]", ":3: key 'gamma' is there twice"),
    ],
)
def test_a_wrong_entry_is_named_with_its_line(line, words, tmp_path):
    with pytest.raises(InputError) as caught:
        _read(tmp_path, f"default:\n  {line}\n")
    assert words in str(caught.value)
    assert str(tmp_path / "space.yml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["Other-v0: {gamma: [0, 1]}", "default: {}", "default: [gamma]"])
def test_a_file_without_a_space_for_the_environment_is_named(text, tmp_path):
    with pytest.raises(InputError, match=r"space\.yml needs an entry 'SamSegShapes-v0' or 'default'"):
        _read(tmp_path, text)
