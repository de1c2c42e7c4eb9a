from __future__ import annotations

import gzip

import pytest
import torch as th
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.clip_prompts import load_tokenizer
from sb3_alignsam.perception.fetching import import_weights
from sb3_alignsam.perception.weight_conversion import byte_symbols, read_vocabulary
from tests.perception.published import sha256, small_clip, write_archive, write_manifest, write_vocabulary
from tests.perception.test_checkpoints import _Intruder

CLIP, VOCABULARY = "clip-vit-base-patch16", "clip-bpe-vocabulary"


def _import(file, name):
    """As a user who trusts the file."""
    return import_weights(file, name, sha256(file))


def test_a_published_archive_becomes_safetensors_of_the_same_numbers(manifest, archive):
    path = import_weights(archive)
    state = load_file(path)
    assert state.pop("input_resolution") == 64
    assert state.keys() == small_clip().keys()
    assert all(value.dtype == th.float16 and th.equal(value, small_clip()[key]) for key, value in state.items())
    with safe_open(path, "pt") as file:
        assert file.metadata()["source_sha256"] == sha256(archive)
        assert file.metadata()["name"] == CLIP


def test_an_archive_that_the_manifest_does_not_know_is_never_opened(manifest, home, tmp_path, monkeypatch):
    other = write_archive(tmp_path / "other.pt", {**small_clip(), "logit_scale": th.tensor(2.0)})
    monkeypatch.setattr(th.jit, "load", None)
    with pytest.raises(
        InputError, match=r"TorchScript archive other than the published ViT-B-16\.pt.*plain state dict"
    ):
        _import(other, CLIP)
    assert [path.name for path in home.iterdir()] == [".lock"]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_plain_state_dict_is_taken_when_the_user_gives_its_digest(manifest, tmp_path, suffix):
    file = tmp_path / f"plain{suffix}"
    (save_file if suffix == ".safetensors" else th.save)(small_clip(), file)
    state = load_file(_import(file, CLIP))
    assert all(th.equal(state[key], value) for key, value in small_clip().items())


def test_tensors_that_share_memory_or_lie_transposed_are_stored_as_they_read(manifest, tmp_path):
    state = dict(small_clip())
    state["visual.proj"] = state["visual.proj"].T.contiguous().T
    state["ln_final.weight"] = state["ln_final.bias"]
    th.save(state, tmp_path / "shared.pt")
    stored = load_file(_import(tmp_path / "shared.pt", CLIP))
    assert all(th.equal(stored[key], value) for key, value in state.items())


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(manifest, home, tmp_path):
    trace = tmp_path / "trace"
    th.save({"weight": _Intruder(str(trace))}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="holds other objects than tensors"):
        _import(tmp_path / "evil.pt", "repvit_sam")
    assert not trace.exists()
    assert [path.name for path in home.iterdir()] == [".lock"]


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        ("repvit_sam", {"weight": th.zeros(2)}, "does not hold the weights of segmenter 'repvit_sam'"),
        (CLIP, {"weight": th.zeros(2)}, "does not hold the weights of an OpenAI vision transformer"),
        (CLIP, {**small_clip(), "logit_scale": th.tensor(1.0).to_sparse()}, "cannot be used as clip-vit-base-patch16"),
        (CLIP, {**small_clip(), "extra": th.zeros(2)}, "'extra' is not expected"),
    ],
)
def test_weights_of_something_else_are_refused_at_import(manifest, home, tmp_path, name, state, words):
    th.save(state, tmp_path / "other.pt")
    with pytest.raises(InputError, match=words) as caught:
        _import(tmp_path / "other.pt", name)
    assert "\n" not in str(caught.value)
    assert [path.name for path in home.iterdir()] == [".lock"]


def test_a_model_of_another_size_than_the_manifest_s_is_refused(manifest, archive):
    shapes = {"visual.conv1.weight": [768, 3, 16, 16]}
    write_manifest(manifest, {CLIP: {"sha256": sha256(archive), "shapes": shapes}})
    with pytest.raises(InputError, match=r"'visual.conv1.weight' is \(64, 3, 16, 16\), not \(768, 3, 16, 16\)$"):
        import_weights(archive)


def test_a_vocabulary_becomes_a_tokenizer_that_merges_in_the_file_s_order(manifest, vocabulary):
    tokenizer = load_tokenizer(import_weights(vocabulary))
    _, merges = read_vocabulary(vocabulary)
    # The merges are of two bytes each, the second at a word's end; their ids follow the 512 of single bytes.
    for word, pair in (("ab", "a b</w>"), ("z!", "z !</w>"), ("!!", "! !</w>")):
        ids = tokenizer(word).input_ids
        expected = [512 + merges.index(pair)] if word != "z!" else [256 + 89, 256]
        assert ids == [49406, *expected, 49407]


def test_the_symbols_of_bytes_are_those_that_tokenizers_use():
    assert len(byte_symbols()) == 256
    assert set(byte_symbols()) == set(ByteLevel.alphabet())
    # In the order of CLIP's vocabulary: "a" is 64 there, and a space, the 33rd byte that stands not for itself, 220.
    assert byte_symbols()[64] == "a"
    assert byte_symbols()[220] == "Ġ"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[:-2000], "is not a readable .gz file"),
        (lambda content: b"hello", "is not a readable .gz file"),
        (lambda content: gzip.compress(b"\xff\xfe"), "is not a readable .gz file of text"),
        (lambda content: gzip.compress(b"title\na b\n"), "is not CLIP's vocabulary"),
        (lambda content: gzip.compress(gzip.decompress(content).replace(b"a b<", b"a b c<")), "two symbols each"),
        (lambda content: gzip.compress(gzip.decompress(content).replace(b"a b<", b"a c<")), "is not CLIP's vocabulary"),
        (lambda content: gzip.compress(bytes(2**26 + 1), compresslevel=1), "is not CLIP's vocabulary"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(manifest, vocabulary, home, tmp_path, damage, words):
    file = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    file.write_bytes(damage(vocabulary.read_bytes()))
    with pytest.raises(InputError, match=words) as caught:
        _import(file, VOCABULARY)
    assert "\n" not in str(caught.value)
    assert [path.name for path in home.iterdir()] == [".lock"]


def test_a_vocabulary_with_too_few_merges_is_refused(manifest, tmp_path):
    file = write_vocabulary(tmp_path / "few.txt.gz", 48_000)
    with pytest.raises(InputError, match="is not CLIP's vocabulary"):
        _import(file, VOCABULARY)
