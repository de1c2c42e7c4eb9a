from __future__ import annotations

import pytest
import torch as th
from safetensors.torch import load_file, save_file

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception import load_segmenter, shared_segmenter
from sb3_alignsam.perception.loading import TINY_WEIGHTS


def test_the_shipped_weights_are_small():
    assert TINY_WEIGHTS.stat().st_size <= 6_000_000


def test_state_dict_and_file_give_the_same_network():
    pixels = th.rand(1, 3, 256, 256)
    outputs = [load_segmenter("tiny", source)._encoder(pixels) for source in (load_file(TINY_WEIGHTS), TINY_WEIGHTS)]
    assert th.equal(*outputs)


def test_frozen_weights_ask_for_no_gradient_and_stay_in_evaluation_mode(segmenter):
    for module in (segmenter._encoder, segmenter._decoder):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_a_process_loads_a_segmenter_once():
    assert shared_segmenter("tiny") is shared_segmenter("tiny")


@pytest.mark.parametrize("name", ["huge", "", "TINY"])
def test_an_unknown_segmenter_is_named(name):
    with pytest.raises(InputError, match="known: tiny"):
        load_segmenter(name)


def test_missing_damaged_and_foreign_checkpoints_each_say_so_in_one_line(tmp_path):
    damaged, foreign = tmp_path / "damaged.safetensors", tmp_path / "foreign.safetensors"
    damaged.write_bytes(b"not a checkpoint")
    save_file({"weight": th.zeros(2)}, foreign)
    for path, words in ((tmp_path / "none", "does not exist"), (damaged, "not a readable"), (foreign, "does not hold")):
        with pytest.raises(InputError, match=words) as caught:
            load_segmenter("tiny", path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
