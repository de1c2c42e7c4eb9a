from __future__ import annotations

import shutil

import huggingface_hub.constants
import pytest
import torch as th

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.clip_surgery import ClipSurgery
from sb3_alignsam.perception.fetching import import_weights
from tests.perception.published import small_clip

NAMES = ("openai/clip-vit-base-patch16", "clip-vit-base-patch16")


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No network, and nothing in the hub's cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_clip_by_name_is_made_of_imported_weights_and_vocabulary(manifest, archive, vocabulary):
    import_weights(archive)
    import_weights(vocabulary)
    expected = ClipSurgery.from_openai_state_dict(small_clip())
    for name in NAMES:
        clip = ClipSurgery.from_pretrained(name)
        ids = clip.token_ids(["a b", "c"])
        # Start and end of text are the last two entries; a letter at a word's end is 256 after the letter alone.
        assert ids[0, :4].tolist() == [49406, 64 + 256, 65 + 256, 49407]
        assert th.equal(clip.text_features(ids), expected.text_features(ids))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_there_is_named_with_its_commands_when_the_hub_cannot_be_reached(name, manifest, archive):
    with pytest.raises(InputError, match="weights fetch clip-vit-base-patch16 clip-bpe-vocabulary;"):
        ClipSurgery.from_pretrained(name)
    import_weights(archive)
    with pytest.raises(InputError, match=r"cannot be fetched by that name: .* fetch clip-bpe-vocabulary;") as caught:
        ClipSurgery.from_pretrained(name)
    assert "\n" not in str(caught.value)


def test_another_name_or_folder_has_nothing_to_do_with_imported_weights(manifest, archive, vocabulary, tmp_path):
    import_weights(archive)
    import_weights(vocabulary)
    with pytest.raises(InputError, match="cannot be fetched by that name") as caught:
        ClipSurgery.from_pretrained("someone/clip-vit-base-patch16")
    assert "weights fetch" not in str(caught.value)
    folder = tmp_path / "clip-vit-base-patch16"
    shutil.copytree(import_weights(vocabulary), folder)
    with pytest.raises(InputError, match=r"config\.json does not exist"):
        ClipSurgery.from_pretrained(folder)
