from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch as th
from safetensors.torch import save_file
from torch import nn

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.checkpoints import load_strict, read_state_dict


class _Intruder:
    """Unpickling it creates a file: what `weights_only` is there to prevent."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, "w")


@pytest.fixture
def layer():
    return nn.Linear(3, 2)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".PTH"])
def test_each_format_gives_the_tensors_that_were_written(layer, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else th.save)(layer.state_dict(), path)
    source, state = read_state_dict(path)
    assert source == str(path)
    assert state.keys() == layer.state_dict().keys()
    assert all(th.equal(state[key], value) for key, value in layer.state_dict().items())


def test_arrays_are_taken_even_when_they_cannot_be_written_to(recwarn):
    array = np.arange(3.0, dtype=np.float32)
    array.setflags(write=False)
    _, state = read_state_dict({"bias": array})
    assert state["bias"].tolist() == [0.0, 1.0, 2.0]
    assert not recwarn.list


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    path, trace = tmp_path / "evil.pt", tmp_path / "trace"
    th.save({"weight": _Intruder(str(trace))}, path)
    with pytest.raises(InputError, match="holds other objects than tensors") as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ([th.zeros(1)], "holds a list, not a state dict"),
        ({"model": {"weight": th.zeros(1)}}, "'model' is a dict"),
        ({"weight": th.zeros(1), "step": 3}, "'step' is a int"),
        ({0: th.zeros(1)}, "'0' is a Tensor"),
    ],
)
def test_a_file_of_something_else_than_named_tensors_is_refused(tmp_path, held, words):
    path = tmp_path / "other.pt"
    th.save(held, path)
    with pytest.raises(InputError, match=words):
        read_state_dict(path)


def test_arrays_of_something_else_than_numbers_are_refused():
    with pytest.raises(InputError, match="'weight' is an array of another type"):
        read_state_dict({"weight": np.array(["a"])})


@pytest.mark.parametrize("keep", [0, 10, 200, 0.5, -1])
def test_a_file_cut_short_is_refused_in_one_line(layer, tmp_path, keep):
    path = tmp_path / "cut.pt"
    th.save(layer.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=r"cut\.pt") as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_with_damaged_bytes_is_refused_in_one_line(layer, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.pt"
    th.save(layer.state_dict(), path, _use_new_zipfile_serialization=False)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    refusals = []
    for _ in range(200):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), 8)] = rng.integers(0, 256, 8)
        path.write_bytes(damaged.tobytes())
        try:
            read_state_dict(path)
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    assert not any("\n" in refusal for refusal in refusals)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"hello", pickle.dumps({"a": 1}), b"PK\x03\x04" + bytes(40)])
def test_what_torch_never_wrote_is_refused(tmp_path, content):
    path = tmp_path / "foreign.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"foreign\.pt"):
        read_state_dict(path)


def test_every_fault_of_a_state_dict_is_counted_and_the_first_named(layer):
    good = dict(layer.state_dict())
    cases = {
        "'bias' is missing": {"weight": good["weight"]},
        "'extra' is not expected": good | {"extra": th.zeros(1)},
        r"'bias' has shape \(3,\), not \(2,\)": good | {"bias": th.zeros(3)},
        r"'weight' is missing \(and 2 more\)": {"extra": th.zeros(1)},
    }
    for words, state in cases.items():
        with pytest.raises(InputError, match=words):
            load_strict(layer, state, "here", "there")
    assert all(th.equal(good[key], value) for key, value in layer.state_dict().items())


def test_keys_are_renamed_and_the_networks_type_is_kept(layer):
    load_strict(layer, {"w": th.ones(2, 3, dtype=th.float64), "b": th.ones(2)}, "", "", lambda key: key[0])
    assert layer.weight.dtype == th.float32
    assert layer.weight.eq(1).all()
