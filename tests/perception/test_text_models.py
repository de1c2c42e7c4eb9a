from __future__ import annotations

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception import clip_surgery
from sb3_alignsam.perception.clip_prompts import PROMPT_TEMPLATES
from sb3_alignsam.perception.text_models import (
    TINY_CLIP_WEIGHTS,
    load_text_model,
    load_tiny_clip,
    shared_text_model,
)
from sb3_alignsam.perception.tiny.clip_measure import measure
from sb3_alignsam.perception.tiny.clip_model import tiny_tokenizer


def test_the_shipped_weights_point_at_the_category():
    """The model card's figures are of the 500 scenes of val; these are of dev's 200, to save time."""
    figures = measure(load_text_model("tiny"), ShapesDataset("dev"), 200, progress=False)
    assert figures["pointing accuracy"] >= 0.85
    assert figures["map IoU"] >= 0.4
    assert TINY_CLIP_WEIGHTS.stat().st_size < 4e6


def test_any_name_can_be_asked_for_and_similar_sentences_are_alike():
    clip = load_text_model("tiny")
    features = clip.prompt_features(["star", "ring", "traffic light", "Ampel ✓"])
    assert np.allclose(features.norm(dim=1), 1, atol=1e-5)
    single = clip.text_features(clip.token_ids([PROMPT_TEMPLATES[0].format(name) for name in ("star", "ring")]))
    assert (single @ features[:2].T).argmax(dim=1).tolist() == [0, 1]


def test_a_name_is_read_by_the_network_once_however_many_ask(monkeypatch):
    clip = load_text_model("tiny")
    first = clip.prompt_features(["star", "ring"])
    monkeypatch.setattr(clip, "ensemble_features", None)  # calling it would fail
    assert np.array_equal(clip.prompt_features(["ring", "star"]), first.flip(0))


def test_names_without_end_do_not_fill_the_memory(monkeypatch):
    clip, asked = load_text_model("tiny"), []
    monkeypatch.setattr(clip_surgery, "PROMPTS_KEPT", 2)
    real = clip.ensemble_features
    monkeypatch.setattr(clip, "ensemble_features", lambda ids: asked.append(1) or real(ids))
    first = clip.prompt_features(["star", "ring", "cross"])
    assert np.array_equal(clip.prompt_features(["star"]), first[:1])
    assert len(asked) == 4  # The three were forgotten before the fourth.


def test_words_of_the_captions_are_single_tokens():
    assert tiny_tokenizer().tokenize("a photo of the crescent.") == [
        f"{word}</w>" for word in ("a", "photo", "of", "the", "crescent", ".")
    ]


def test_environments_of_a_process_share_one_text_model():
    assert shared_text_model("tiny", "cpu") is shared_text_model("tiny", "cpu")


def test_unknown_names_and_foreign_weights_are_one_line(tmp_path):
    with pytest.raises(InputError, match="text_model 'tinny' is not known; known: tiny, a folder"):
        load_text_model("tinny")
    state = load_file(TINY_CLIP_WEIGHTS)
    state.pop("logit_scale")
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="'logit_scale' is missing"):
        load_tiny_clip(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="does not exist"):
        load_tiny_clip(tmp_path / "none.safetensors")
