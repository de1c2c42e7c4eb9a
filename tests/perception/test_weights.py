from __future__ import annotations

import re
from pathlib import Path

import pytest

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.fetching import import_weights
from sb3_alignsam.perception.weights import find_weights, read_manifest, weights_entry, weights_folder

CLIP, VOCABULARY = "clip-vit-base-patch16", "clip-bpe-vocabulary"


def test_the_shipped_manifest_says_where_each_file_is_from_and_invents_no_digest():
    entries = {entry.name: entry for entry in read_manifest()}
    assert set(entries) == {"repvit_sam", CLIP, VOCABULARY}
    assert entries["repvit_sam"].sha256 is None
    for entry in entries.values():
        assert entry.address.startswith("https://")
        assert entry.address.endswith("/" + entry.file)
        assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
    assert entries[CLIP].sha256 in entries[CLIP].address


def test_a_model_answers_to_its_name_on_the_hub_too():
    assert weights_entry("openai/clip-vit-base-patch16") == weights_entry(CLIP)


@pytest.mark.parametrize("name", ["repvit", "../repvit_sam", "", "/etc/passwd"])
def test_other_names_are_refused_whatever_they_look_like(name, home):
    with pytest.raises(InputError, match=f"weights '{name}' is not known; "):
        find_weights(name)
    assert not home.exists()


def test_missing_weights_are_one_line_with_the_commands_that_get_them(home):
    with pytest.raises(InputError) as caught:
        find_weights("openai/clip-vit-base-patch16")
    assert str(caught.value) == (
        f"weights '{CLIP}' are not in {home}; get them with: sb3-alignsam weights fetch {CLIP}; "
        f"or from a file that you have: sb3-alignsam weights import ViT-B-16.pt --name {CLIP}"
    )


def test_stored_weights_are_found_without_being_read(manifest, home, vocabulary):
    path = import_weights(vocabulary)
    assert find_weights(VOCABULARY) == path == home / VOCABULARY
    (path / "merges.txt").unlink()
    with pytest.raises(InputError, match="are not in"):
        find_weights(VOCABULARY)


def test_without_the_variable_weights_lie_in_the_user_s_cache_folder(monkeypatch):
    monkeypatch.setenv("SB3_ALIGNSAM_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/cache")
    assert weights_folder() == Path("/somewhere/cache/sb3-alignsam/weights")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/somewhere")
    assert weights_folder() == Path("/somewhere/.cache/sb3-alignsam/weights")
