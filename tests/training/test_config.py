from __future__ import annotations

import pytest
import yaml
from stable_baselines3.common.utils import LinearSchedule

from sb3_alignsam.errors import InputError
from sb3_alignsam.registration import ENV_IDS
from sb3_alignsam.training.config import (
    ALGORITHMS,
    agent_env_kwargs,
    check_hyperparams,
    read_hyperparams,
    shipped_config,
    zoo_folder,
)

ENTRY = {"policy": "sb3_alignsam.policies.ImplicitPolicy", "n_timesteps": 1000}
_STOP = "stable_baselines3.common.callbacks.StopTrainingOnMaxEpisodes"


def _write(tmp_path, **entry):
    path = tmp_path / "ppo.yml"
    path.write_text(yaml.safe_dump({"SamSegShapes-v0": ENTRY | entry}))
    return path


def _read(path, overrides=None):
    return read_hyperparams(path, "SamSegShapes-v0", "ppo", overrides)


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("agent", ["implicit", "explicit"])
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_the_shipped_files_have_an_entry_for_every_environment(algo, agent, env_id):
    hyperparams = read_hyperparams(shipped_config(algo, agent), env_id, algo)
    assert hyperparams.n_envs >= 1
    assert hyperparams.policy.endswith(f"{agent.capitalize()}Policy")


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_what_goes_on_from_imitation_has_settings_of_its_own(algo, env_id):
    hyperparams = read_hyperparams(shipped_config(algo, "explicit", imitating=True), env_id, algo)
    assert hyperparams.policy == read_hyperparams(shipped_config(algo, "explicit"), env_id, algo).policy
    assert hyperparams.env_kwargs["allow_stop"]
    assert shipped_config(algo, "implicit", imitating=True) == shipped_config(algo, "implicit")


def test_every_shipped_file_belongs_to_an_algorithm():
    agents = ("", "_explicit", "_explicit_imitation")
    assert {path.stem for path in zoo_folder().glob("*.yml")} == {
        algo + agent for algo in ALGORITHMS for agent in agents
    }


def test_schedules_and_step_counts_are_typed_as_rl_zoo3_means_them(tmp_path):
    hyperparams = _read(_write(tmp_path, learning_rate="lin_3e-4", clip_range=0.2, n_timesteps=1e5, n_steps=8.0))
    assert hyperparams.n_timesteps == 100_000
    assert hyperparams.algorithm["n_steps"] == 8
    assert hyperparams.algorithm["clip_range"] == 0.2
    schedule = hyperparams.algorithm["learning_rate"]
    assert isinstance(schedule, LinearSchedule)
    assert [schedule(1.0), schedule(0.5), schedule(0.0)] == pytest.approx([3e-4, 1.5e-4, 0.0])


def test_scientific_notation_without_a_point_is_a_number(tmp_path):
    path = tmp_path / "ppo.yml"
    path.write_text("SamSegShapes-v0: {policy: sb3_alignsam.policies.ImplicitPolicy, n_timesteps: 10, ent_coef: 1e-3}")
    assert _read(path).algorithm["ent_coef"] == 1e-3


def test_overrides_replace_single_keys_also_inside_policy_kwargs(tmp_path):
    path = _write(tmp_path, n_envs=4, policy_kwargs={"channels": 8, "blocks": 2})
    hyperparams = _read(path, {"n_envs": 2, "policy_kwargs": {"blocks": 1}})
    assert hyperparams.n_envs == 2
    assert hyperparams.policy_kwargs == {"channels": 8, "blocks": 1}
    assert hyperparams.raw["policy_kwargs"] == {"channels": 8, "blocks": 1}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"n_step": 8}, "hyperparameter 'n_step' is not known; did you mean n_steps"),
        ({"n_steps": "many"}, "'n_steps' needs a whole number >= 1, got 'many'"),
        ({"n_envs": 0}, "'n_envs' needs a whole number >= 1"),
        ({"learning_rate": "exp_3"}, "'learning_rate' needs a number or lin_NUMBER, got 'exp_3'"),
        ({"learning_rate": -1}, "above 0"),
        ({"gamma": "high"}, "'gamma' needs a number, got 'high'"),
        ({"policy": "os.system"}, r"policy 'os\.system' is not known"),
        ({"policy_kwargs": "dict(a=1)"}, "'policy_kwargs' needs a mapping"),
        ({"policy_kwargs": {"activation_fn": "os.system"}}, r"name 'os\.system' lies outside"),
        ({"seed": 3}, "'seed' does not fit click agents: it is an option of the command, not of the file: --seed"),
        ({"use_sde": True}, "'use_sde' does not fit click agents: it explores continuous actions"),
        ({"gamma": 5}, "'gamma' needs a finite number from 0 to 1, got 5"),
        ({"ent_coef": float("nan")}, "'ent_coef' needs a finite number"),
        ({"learning_rate": "lin_nan"}, "lin_NUMBER"),
        ({"n_steps": 1}, "each must be 2 or more"),
        ({"policy": "sb3_alignsam.policies.MaskableImplicitPolicy"}, "is not one for algorithm 'ppo'"),
        ({"normalize": True}, "'normalize' does not fit click agents: .* leave it out, or set it to false"),
        ({"normalize": "dict(norm_obs=False)"}, "'normalize' does not fit"),
        ({"env_wrapper": "gymnasium.wrappers.TimeAwareObservation"}, "'env_wrapper' does not fit"),
        ({"frame_stack": 4}, "'frame_stack' does not fit"),
        ({"noise_type": "normal"}, "'noise_type' does not fit click agents: it is for off-policy algorithms"),
        ({"env_kwargs": "dict(split='dev')"}, "'env_kwargs' needs a mapping, got the text"),
        ({"env_kwargs": {"colour": "red"}}, "environment keyword 'colour' is not known"),
        ({"env_kwargs": {"subset": "dev"}}, "environment keyword 'subset' is chosen by the command"),
        ({"callback": "os.system"}, r"callback 'os\.system' lies outside"),
        ({"callback": "sb3_alignsam.callbacks.Nothing"}, "does not exist"),
        ({"callback": {_STOP: {"max_episodes": "many"}}}, "keyword 'max_episodes' .* needs a number, got 'many'"),
        ({"callback": {_STOP: {"most": 3}}}, "cannot be made of"),
        ({"n_steps": 10**12}, "'n_steps' needs a whole number <= 1048576"),
    ],
)
def test_every_wrong_key_or_value_is_named_with_its_file(tmp_path, entry, words):
    path = _write(tmp_path, **entry)
    with pytest.raises(InputError, match=words) as caught:
        _read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_and_a_missing_entry_are_named(tmp_path):
    path = tmp_path / "ppo.yml"
    path.write_text("Other-v0: {}\nSamSegShapes-v0: {n_timesteps: 3}")
    with pytest.raises(InputError, match="'policy' is missing"):
        _read(path)
    path.write_text("Other-v0: {}")
    with pytest.raises(InputError, match="no entry 'SamSegShapes-v0'; it has Other-v0"):
        _read(path)


def test_the_line_of_a_wrong_key_is_named_also_of_one_that_was_merged(tmp_path):
    path = tmp_path / "ppo.yml"
    lines = [
        "Other-v0: &shared",
        "  policy: sb3_alignsam.policies.ImplicitPolicy",
        "  n_timesteps: 10",
        "  gama: 0.5",
    ]
    path.write_text("\n".join([*lines, "SamSegShapes-v0:", "  <<: *shared", "  n_timesteps: 10"]))
    with pytest.raises(InputError, match=r"ppo\.yml:4: hyperparameter 'gama' is not known; did you mean gamma"):
        _read(path)
    path.write_text("\n".join([*lines[:3], "SamSegShapes-v0:", "  <<: *shared", "  policy_kwargs:", "    a: os.b"]))
    with pytest.raises(InputError, match=r"ppo\.yml:7: name 'os\.b' lies outside"):
        _read(path)
    path.write_text("\n".join([*lines[:3], "SamSegShapes-v0:", "  <<: *shared", "  n_steps: 0"]))
    with pytest.raises(InputError, match=r"ppo\.yml:6: hyperparameter 'n_steps'"):
        _read(path)
    with pytest.raises(InputError, match=r"^hyperparameter 'n_steps' needs a whole number >= 1, got -1"):
        _read(path, {"n_steps": -1})


def test_keys_of_rl_zoo3_that_fit_are_taken(tmp_path):
    entry = {
        "env_kwargs": {"max_steps": 3},
        "callback": ["sb3_alignsam.callbacks.ClickMetricsCallback", {_STOP: {"max_episodes": 5}}],
        "stats_window_size": 10.0,
        "normalize": False,
        "use_sde": False,
        "env_wrapper": None,
        "vec_env_wrapper": None,
        "frame_stack": None,
        "monitor_kwargs": None,
        "target_kl": 0.1,
    }
    hyperparams = _read(_write(tmp_path, **entry))
    assert hyperparams.env_kwargs == {"max_steps": 3}
    assert hyperparams.algorithm == {"stats_window_size": 10, "target_kl": 0.1}
    assert [(each.__name__, kwargs) for each, kwargs in hyperparams.callbacks] == [
        ("ClickMetricsCallback", {}),
        ("StopTrainingOnMaxEpisodes", {"max_episodes": 5}),
    ]


def test_an_entry_for_all_environments_is_used_where_there_is_none_for_one(tmp_path):
    path = tmp_path / "ppo.yml"
    path.write_text(yaml.safe_dump({"default": ENTRY, "Other-v0": ENTRY | {"n_timesteps": 1}}))
    assert _read(path).n_timesteps == 1000


@pytest.mark.parametrize("text", ["- a\n- b", "a: [", "SamSegShapes-v0: 3", "\x00"])
def test_what_is_no_configuration_is_named(tmp_path, text):
    path = tmp_path / "ppo.yml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"ppo\.yml"):
        _read(path)


def test_a_yaml_tag_that_makes_objects_is_refused(tmp_path):
    path = tmp_path / "ppo.yml"
    path.write_text("SamSegShapes-v0: !!python/object/apply:os.system ['true']")
    with pytest.raises(InputError, match=r"ppo\.yml:1: tag 'python/object/apply:os\.system' is refused"):
        _read(path)


def test_unknown_algorithms_agents_and_files_are_named(tmp_path):
    with pytest.raises(InputError, match="algorithm 'pp0' is not known; did you mean ppo"):
        shipped_config("pp0", "implicit")
    with pytest.raises(InputError, match="agent 'implict' is not known; did you mean implicit"):
        shipped_config("ppo", "implict")
    with pytest.raises(InputError, match="does not exist"):
        _read(tmp_path / "none.yml")


def test_the_explicit_agent_gets_a_text_model():
    assert agent_env_kwargs("implicit", "SamSeg-v0", {"split": "dev"}) == {"split": "dev"}
    assert agent_env_kwargs("explicit", "SamSeg-v0", {})["text_model"] == "tiny"
    assert agent_env_kwargs("explicit", "SamSeg-v0", {"text_model": "folder"})["text_model"] == "folder"
    assert agent_env_kwargs("implicit", "SamSeg-v0", {"text_model": "folder"}, "tiny")["text_model"] == "tiny"
    with pytest.raises(InputError, match="explicit agent needs a text model for this dataset: --text-model"):
        agent_env_kwargs("explicit", "SamSegCoco-v0", {})


@pytest.mark.parametrize("algo", ["ppo", "maskable_ppo"])
def test_both_agents_are_shipped_with_the_same_hyperparameters(algo):
    implicit, explicit = (
        read_hyperparams(shipped_config(algo, agent), "SamSegShapes-v0", algo).raw for agent in ("implicit", "explicit")
    )
    assert explicit == {**implicit, "policy": implicit["policy"].replace("Implicit", "Explicit")}


def test_a_last_minibatch_of_one_is_refused_where_it_would_make_nan():
    entry = ENTRY | {"policy": "sb3_alignsam.policies.MaskableImplicitPolicy", "n_steps": 129, "batch_size": 64}
    with pytest.raises(InputError, match="leaves a last minibatch of one"):
        check_hyperparams(entry, "maskable_ppo")
    assert check_hyperparams(entry | {"n_steps": 130}, "maskable_ppo").algorithm["n_steps"] == 130


def test_the_value_functions_clipping_may_be_off():
    assert check_hyperparams(ENTRY | {"clip_range_vf": None}, "ppo").algorithm["clip_range_vf"] is None
