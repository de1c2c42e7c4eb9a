from __future__ import annotations

import queue
import resource
import threading

import pytest

from sb3_alignsam.errors import InputError, RunError
from sb3_alignsam.perception import weights
from sb3_alignsam.perception.fetching import import_weights
from sb3_alignsam.perception.weight_files import check_stored
from tests.perception.published import entry_of, sha256, write_manifest

fcntl = pytest.importorskip("fcntl")
CLIP, VOCABULARY = "clip-vit-base-patch16", "clip-bpe-vocabulary"


@pytest.fixture(scope="module")
def stored_bytes(archive, tmp_path_factory):
    """What is stored of the archive, written once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SB3_ALIGNSAM_HOME", str(tmp_path_factory.mktemp("home")))
        manifest = write_manifest(tmp_path_factory.mktemp("manifest") / "m.json", {CLIP: {"sha256": sha256(archive)}})
        patch.setattr(weights, "manifest_file", lambda: manifest)
        return import_weights(archive).read_bytes()


@pytest.fixture
def stored(manifest, home, stored_bytes):
    path = home / f"{CLIP}.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(stored_bytes)
    return path


def _flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", ["length", b"source_sha256", b"ln_final", "first", "middle", "last"])
def test_a_flipped_bit_anywhere_in_stored_weights_is_found(stored, archive, place):
    assert check_stored(entry_of(CLIP)) == sha256(archive)
    content = stored.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    places = {"length": 1, "first": start, "middle": (start + len(content)) // 2, "last": -1}
    _flip(stored, places[place] if isinstance(place, str) else content.index(place) + 20)
    with pytest.raises(InputError, match=r"damaged; import|not as they were written; import") as caught:
        check_stored(entry_of(CLIP))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_stored_weights_that_are_cut_short_are_found(stored, keep):
    stored.write_bytes(stored.read_bytes()[:keep])
    with pytest.raises(InputError, match="are damaged; import or fetch them again"):
        check_stored(entry_of(CLIP))


def test_a_changed_or_missing_file_of_a_vocabulary_is_found(manifest, vocabulary):
    folder = import_weights(vocabulary)
    assert check_stored(entry_of(VOCABULARY)) == sha256(vocabulary)
    _flip(folder / "merges.txt", 1000)
    with pytest.raises(InputError, match="not as they were written"):
        check_stored(entry_of(VOCABULARY))
    (folder / "digests.json").write_text("[]")
    with pytest.raises(InputError, match="are damaged"):
        check_stored(entry_of(VOCABULARY))


def test_weights_under_another_s_name_are_found(stored, home):
    stored.rename(home / "repvit_sam.safetensors")
    with pytest.raises(InputError, match=r"'repvit_sam' in .* are not as they were written"):
        check_stored(entry_of("repvit_sam"))


def test_weights_that_are_not_there_cannot_be_checked(home):
    with pytest.raises(InputError, match="are not in"):
        check_stored(entry_of(CLIP))


def test_a_full_disk_is_one_line_and_leaves_what_was_there(stored, archive, vocabulary, home):
    before = sha256(stored)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        for file in (archive, vocabulary):
            with pytest.raises(RunError, match=f"{home} cannot be written: .*File too large") as caught:
                import_weights(file)
            assert "\n" not in str(caught.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name for path in home.iterdir()} == {".lock", stored.name}
    assert sha256(stored) == before


def test_a_cache_folder_that_cannot_be_made_is_one_line(manifest, vocabulary, home):
    home.parent.write_text("a file where the folder should be")
    with pytest.raises(InputError, match="cannot be written: Not a directory; SB3_ALIGNSAM_HOME names another place"):
        import_weights(vocabulary)


def test_a_second_process_waits_and_what_a_killed_one_left_is_removed(manifest, vocabulary, home):
    left = home / ".incoming" / "stored" / "half.safetensors"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    said: queue.Queue[str] = queue.Queue()
    second = threading.Thread(target=import_weights, args=(vocabulary,), kwargs={"say": said.put})
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second.start()
        assert "waiting for another" in said.get(timeout=30)
        assert left.exists()
    second.join(timeout=30)
    assert {path.name for path in home.iterdir()} == {".lock", VOCABULARY}


def test_stored_weights_are_replaced_whatever_lies_in_their_place(manifest, archive, vocabulary, home):
    # A folder where a file belongs, a file where a folder belongs, and a link to a file that is nobody's to overwrite.
    (home / f"{CLIP}.safetensors").mkdir(parents=True)
    (home / VOCABULARY).write_text("a file")
    for file, name in ((archive, CLIP), (vocabulary, VOCABULARY)):
        import_weights(file)
        assert check_stored(entry_of(name)) == sha256(file)
    path, elsewhere = home / f"{CLIP}.safetensors", home / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = sha256(elsewhere)
    elsewhere.chmod(0o444)
    assert not import_weights(archive).is_symlink()
    assert sha256(elsewhere) == before
