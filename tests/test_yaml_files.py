from __future__ import annotations

import tracemalloc
from contextlib import suppress

import pytest
import yaml

from sb3_alignsam.errors import InputError
from sb3_alignsam.yaml_files import MAX_BYTES, read_yaml
from tests.cli.commands import assert_refused

HEAD = "SamSegShapes-v0:\n  policy: sb3_alignsam.policies.ImplicitPolicy\n  n_timesteps: 64\n"
LAUGHS = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 40))
MERGES = "".join(f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}\n" for n in range(1, 40))
CODE = "__import__('pathlib').Path('MARKER').touch()"
HOSTILE = {
    "a command to run": (HEAD + "  n_steps: !!python/object/apply:os.system ['touch MARKER']\n", ":4: tag"),
    "an object to make": (HEAD + "  policy_kwargs: !!python/object/new:pathlib.Path [MARKER]\n", ":4: tag"),
    "a name to import": (HEAD + "  n_steps: !!python/name:os.system\n", ":4: tag"),
    "a million laughs": ("l0: &l0 [lol]\n" + LAUGHS + HEAD, "aliases included"),
    "a million merges": ("m0: &m0 {a: 1}\n" + MERGES + HEAD, "aliases included"),
    "an alias of itself": (HEAD + "  policy_kwargs: &a\n    b: *a\n", "nested deeper"),
    "a huge file": (HEAD + "# " + "x" * MAX_BYTES, f"larger than {MAX_BYTES} bytes"),
    "deep nesting": ("a: " + "[" * 20_000, "nested deeper"),
    "a key twice": (HEAD + "  n_envs: 2\n  n_envs: 3\n", ":5: key 'n_envs' is there twice; the first is in line 4"),
    "keywords as code": (HEAD + f'  policy_kwargs: "{CODE}"\n', ":4: hyperparameter 'policy_kwargs' needs a mapping"),
    "normalisation as code": (HEAD + f'  normalize: "{CODE}"\n', ":4: hyperparameter 'normalize' does not fit"),
    "a policy of another package": (HEAD.replace("sb3_alignsam.policies.ImplicitPolicy", "os.system"), ":2: policy"),
    "a callback that writes": (
        HEAD + "  callback: {stable_baselines3.common.callbacks.CheckpointCallback: {save_freq: 1, save_path: MARKER}}",
        ":4: keyword 'save_path'",
    ),
    "a schedule from nowhere": (HEAD + "  learning_rate: lin_nan\n", ":4: hyperparameter 'learning_rate'"),
    "a schedule to infinity": (HEAD + "  learning_rate: lin_1e999\n", ":4: hyperparameter 'learning_rate'"),
    "no text": (b"\x00\xff\xfe" + HEAD.encode(), "no YAML that can be read"),
    "control characters": (HEAD + "  n_steps: \x00\n", "control characters"),
    "a terminal's commands": (HEAD + '  "\\e[2J": 1\n', ":4: a key holds control characters"),
    "a number without end": (HEAD + f"  n_steps: {'9' * 1900}\n", ":4: the number 9999"),
    "sixties": (HEAD + f"  n_steps: {':'.join(['59'] * 600)}\n", ":4: the number 59:59"),
    "all memory": (HEAD + "  n_envs: 1000000000000\n", ":4: hyperparameter 'n_envs' needs a whole number <= 1024"),
    "all memory of a policy": (HEAD + "  policy_kwargs: {channels: 100000}\n", ":4: channels needs a whole number"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_configuration_ends_in_one_line_and_runs_nothing(name, tmp_path, monkeypatch, capsys):
    content, words = HOSTILE[name]
    monkeypatch.chdir(tmp_path)
    marker, logs, path = tmp_path / "MARKER", tmp_path / "logs", tmp_path / "hostile.yml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    args = ["train", "--env", "SamSegShapes-v0", "--vec-env", "dummy", "-f", logs, "--conf-file", path]
    assert_refused(args, words, capsys)
    assert not marker.exists()
    assert not logs.exists()


@pytest.mark.parametrize("name", ["a million laughs", "a huge file"])
def test_hostile_files_take_little_memory(name, tmp_path):
    path = tmp_path / "hostile.yml"
    path.write_text(HOSTILE[name][0])
    tracemalloc.start()
    try:
        with suppress(InputError):
            read_yaml(path)
        assert tracemalloc.get_traced_memory()[1] < 200 * MAX_BYTES
    finally:
        tracemalloc.stop()


def test_values_lines_and_places(tmp_path):
    path = tmp_path / "a.yml"
    path.write_text("a: &a\n  x: 1e-3\n  y: '1e-3'\nb:\n  <<: *a\n  x: [yes, ~]\n  1: !!float 1e6\n")
    file = read_yaml(path)
    assert file.content == {"a": {"x": 1e-3, "y": "1e-3"}, "b": {"x": [True, None], "y": "1e-3", 1: 1e6}}
    assert file.where("b", "x") == f"{path}:6"
    assert file.where("b", "y") == f"{path}:3"
    assert file.where("b", "z") == f"{path}:4"
    assert file.where("c") == str(path)


def test_what_is_shared_in_a_file_is_not_shared_in_memory(tmp_path):
    path = tmp_path / "a.yml"
    path.write_text("a: &a [1]\nb: *a\n")
    content = read_yaml(path).content
    assert content["a"] is not content["b"]
    assert "&" not in yaml.safe_dump(content)


def test_a_mapping_that_rl_zoo3_wrote_is_a_plain_one(tmp_path):
    path = tmp_path / "args.yml"
    path.write_text("!!python/object/apply:collections.OrderedDict\n- - - algo\n    - ppo\n  - - seed\n    - 3\n")
    assert read_yaml(path).content == {"algo": "ppo", "seed": 3}
    path.write_text("!!python/object/apply:collections.OrderedDict\n- a\n- b\n")
    with pytest.raises(InputError, match=r"args\.yml:1: an OrderedDict is written as one list of pairs"):
        read_yaml(path)


@pytest.mark.parametrize(
    "text", ["a: 2020-13-45", "a: 2020-10-10", "a: !!int x", "? [a]\n: b", "<<: 3", "a: *b", "a: b: c"]
)
def test_what_is_no_plain_value_is_named_with_its_line(text, tmp_path):
    path = tmp_path / "a.yml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"a\.yml:1: "):
        read_yaml(path)


def test_folders_devices_and_missing_files_are_named(tmp_path):
    for path in (tmp_path, tmp_path / "none.yml"):
        with pytest.raises(InputError, match="does not exist or is no file"):
            read_yaml(path)
