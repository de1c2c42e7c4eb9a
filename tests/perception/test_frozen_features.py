from __future__ import annotations

import numpy as np
import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception import load_segmenter, load_text_model
from sb3_alignsam.perception.cache import FeatureCache
from sb3_alignsam.perception.frozen_features import FrozenFeatures, open_cache

IMAGE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)


def test_what_is_kept_is_what_was_computed_and_no_network_runs_twice(tmp_path):
    parts = load_segmenter("tiny"), load_text_model("tiny"), ("star", "ring")
    plain, first = FrozenFeatures(*parts), FrozenFeatures(*parts, FeatureCache(tmp_path))
    expected = plain.of(IMAGE)
    assert plain.kept(IMAGE) is None
    assert first.kept(IMAGE) is None
    _assert_equal(first.of(IMAGE), expected)
    assert first.computed == 4  # two names, an embedding and tokens
    again = FrozenFeatures(*parts, FeatureCache(tmp_path))
    _assert_equal(again.of(IMAGE), expected)
    _assert_equal(again.kept(IMAGE), expected)
    assert again.computed == 0
    again.of(IMAGE + 1)
    assert again.computed == 2


class _NoTorch(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        raise AssertionError(f"{function} was called")


def test_looking_up_needs_no_torch_once_fingerprints_are_taken(tmp_path):
    parts = load_segmenter("tiny"), load_text_model("tiny"), ("star", "ring")
    FrozenFeatures(*parts, FeatureCache(tmp_path)).of(IMAGE)
    fresh = FrozenFeatures(load_segmenter("tiny"), load_text_model("tiny"), ("star",), FeatureCache(tmp_path))
    fresh.take_fingerprints()
    with _NoTorch():
        assert fresh.kept(IMAGE) is not None


def test_half_of_the_features_is_none_of_them(tmp_path):
    cache = FeatureCache(tmp_path)
    FrozenFeatures(load_segmenter("tiny"), cache=cache).of(IMAGE)
    assert FrozenFeatures(load_segmenter("tiny"), load_text_model("tiny"), ("star",), cache).kept(IMAGE) is None


def _assert_equal(features, expected):
    assert np.array_equal(features.embedding, expected.embedding)
    assert np.array_equal(features.tokens, expected.tokens)


def test_other_weights_or_another_size_of_the_same_network_are_other_features(tmp_path):
    cache = FeatureCache(tmp_path)
    clips = [load_text_model("tiny") for _ in range(2)]
    clips[1].map_size = 128
    sizes = [FrozenFeatures(load_segmenter("tiny"), clip, ("star",), cache).of(IMAGE).tokens.shape[0] for clip in clips]
    assert sizes == [1 + 15 * 20, 1 + 6 * 8]


def test_no_training_ends_for_a_cache_that_nobody_asked_for(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("SB3_ALIGNSAM_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="features of images are not kept"):
        assert open_cache(None, 1.0, in_files=True) is None
    for asked in (True, tmp_path / "file"):
        with pytest.raises(InputError):
            open_cache(asked, 1.0, in_files=True)
    assert open_cache(None, 1.0, in_files=False) is None


def test_a_home_in_the_folder_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    cache = open_cache("~/kept", 1.0, in_files=True)
    assert cache.folder == tmp_path / "kept"
