from __future__ import annotations

import pytest
import torch as th
from safetensors.torch import load_file
from torch import nn

from sb3_alignsam.perception import load_segmenter
from sb3_alignsam.perception.clip_surgery import ClipSurgery
from sb3_alignsam.perception.fingerprints import fingerprint
from sb3_alignsam.perception.loading import TINY_WEIGHTS
from sb3_alignsam.perception.tiny.clip_model import tiny_clip, tiny_tokenizer


def _state():
    generator = th.Generator().manual_seed(0)
    return {"a": th.randn(4, 3, 2, 2, generator=generator), "b": th.tensor(3), "c": th.zeros(2, 3, dtype=th.bfloat16)}


def test_order_layout_and_gradient_do_not_matter():
    state = _state()
    same = {name: state[name] for name in reversed(state)}
    same["a"] = state["a"].to(memory_format=th.channels_last).requires_grad_()
    assert fingerprint(same) == fingerprint(state)


def test_every_name_type_shape_element_and_fact_matters():
    state = _state()
    changed = [
        {**state, "a": state["a"] + 1e-6},
        {**state, "a": state["a"].double()},
        {**state, "a": state["a"].reshape(4, 3, 4, 1)},
        {**state, "b": th.tensor(4)},
        {"a2": state["a"], "b": state["b"], "c": state["c"]},
        {"a": state["a"], "b": state["b"]},
    ]
    found = [fingerprint(each) for each in (state, *changed)]
    found += [fingerprint(state, 1024), fingerprint(state, "1024"), fingerprint(state, 10, 24)]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("change", [nn.Conv2d(3, 4, 2, stride=2), nn.Conv2d(3, 4, 2, dilation=2), nn.Linear(1, 1)])
def test_how_a_module_is_built_matters(change):
    same = nn.Sequential(nn.Conv2d(3, 4, 2), nn.MultiheadAttention(8, 2))
    other = nn.Sequential(change, nn.MultiheadAttention(8, 2))
    if isinstance(change, nn.Conv2d):
        change.load_state_dict(same[0].state_dict())
        other[1].load_state_dict(same[1].state_dict())
    before = fingerprint(same)
    assert fingerprint(other) != before
    same[1].num_heads = 4
    assert fingerprint(same) != before


def test_a_segmenter_loaded_twice_has_one_fingerprint_whatever_its_decoder(segmenter):
    state = load_file(TINY_WEIGHTS)
    threads = th.get_num_threads()
    th.set_num_threads(2)
    try:
        assert load_segmenter("tiny").fingerprint == segmenter.fingerprint
    finally:
        th.set_num_threads(threads)
    decoder, encoder = "decoder.mask_decoder.iou_token.weight", "encoder.neck.0.weight"
    assert load_segmenter("tiny", {**state, decoder: state[decoder] + 1}).fingerprint == segmenter.fingerprint
    assert load_segmenter("tiny", {**state, encoder: state[encoder] + 1}).fingerprint != segmenter.fingerprint
    assert load_segmenter("tiny", dtype=th.bfloat16).fingerprint != segmenter.fingerprint


def test_a_text_model_has_one_fingerprint_for_its_weights_and_its_vocabulary():
    model, same = tiny_clip().eval(), tiny_clip().eval()
    same.load_state_dict(model.state_dict())
    first = ClipSurgery(model, tiny_tokenizer()).fingerprint
    assert ClipSurgery(same, tiny_tokenizer()).fingerprint == first
    assert ClipSurgery(same).fingerprint != first
    same.text_projection.weight += 1
    assert ClipSurgery(same, tiny_tokenizer()).fingerprint != first
