"""What is said of a folder of transformers' SAM that cannot be used, and how one is fetched by name."""

from __future__ import annotations

import json
import pickle

import pytest
import torch as th
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception import hub_files, load_segmenter
from sb3_alignsam.perception.pretrained_sam import SHARED_ENCODING
from tests.perception.small_sam import edit_json, small_sam


@pytest.fixture(scope="module")
def theirs():
    """transformers' model with the constant that SAM's own code has."""
    return small_sam(layer_norm_eps=1e-5)


@pytest.fixture(scope="module")
def folder(theirs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam")
    theirs.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(theirs, tmp_path):
    """A folder of one's own, to be damaged."""
    theirs.save_pretrained(tmp_path)
    return tmp_path


def _refused(name, words, **keywords):
    with pytest.raises(InputError) as caught:
        load_segmenter(str(name), **keywords)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_beside_a_folder_is_refused(folder):
    _refused(folder, "has its weights in its own folder: leave out checkpoint", checkpoint="x.pt")


@pytest.mark.parametrize("name", ["huge", "", "model.safetensors"])
def test_what_is_no_name_and_no_folder_is_told_what_may_be_given(name):
    _refused(name, "or its name on the Hugging Face hub such as facebook/sam-vit-base")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("mask_decoder.iou_token.weight"), "'mask_decoder.iou_token.weight' is missing"),
        (lambda state: state.update(extra=th.zeros(2)), "'extra' is not expected"),
        (lambda state: state.pop(SHARED_ENCODING[0]), f"'{SHARED_ENCODING[0]}' is missing (and 1 more)"),
        (lambda state: state.update({SHARED_ENCODING[1]: th.zeros(2, 16)}), "holds two different positional encodings"),
        (
            lambda state: state.update({"mask_decoder.iou_token.weight": th.zeros(2, 32)}),
            "has shape (2, 32), not (1, 32)",
        ),
    ],
)
def test_weights_too_few_too_many_or_of_another_shape_are_named(copy, change, words):
    state = load_file(copy / "model.safetensors")
    change(state)
    save_file(state, copy / "model.safetensors")
    _refused(copy, words)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, "config.json does not exist"),
        ("config.json", b"{", "config.json cannot be read"),
        ("config.json", b"[]", "config.json holds no mapping"),
        ("config.json", b"\xff", "config.json cannot be read"),
        ("model.safetensors", None, "holds no weights"),
        ("model.safetensors", b"not weights", "is not a readable .safetensors file"),
        ("preprocessor_config.json", b"{", "preprocessor_config.json cannot be read"),
        ("preprocessor_config.json", b'{"image_mean": [1]}', "need three numbers each"),
        ("preprocessor_config.json", b'{"image_std": [0, 1, 1]}', "image_std above 0"),
        ("preprocessor_config.json", b'{"image_mean": "grey"}', "cannot be used"),
        ("preprocessor_config.json", b'{"rescale_factor": 0}', "cannot be used"),
        ("preprocessor_config.json", b'{"size": {"longest_edge": 1024}}', "scales images to 1024 pixels"),
    ],
)
def test_missing_and_damaged_files_give_one_line(copy, file, content, words):
    if content is None:
        (copy / file).unlink()
    else:
        (copy / file).write_bytes(content)
    _refused(copy, words)


@pytest.mark.parametrize(
    ("part", "values", "words"),
    [
        ("vision_config", {"image_size": 100}, "is no square of patches"),
        ("vision_config", {"image_size": [96, 96]}, "is no square of patches"),
        ("vision_config", {"image_size": 112}, "its prompt encoder 96 to 6"),
        ("vision_config", {"num_pos_feats": 128}, "have widths (32, 32, 32, 256)"),
        ("vision_config", {"num_attention_heads": 0}, "describes no SAM"),
        ("vision_config", {"hidden_act": "softer"}, "describes no SAM"),
        ("vision_config", {"num_hidden_layers": "two"}, "describes no SAM"),
        ("mask_decoder_config", {"num_multimask_outputs": 4}, "3 candidate masks"),
        ("mask_decoder_config", {"num_attention_heads": 3}, "num_attention_heads must divide hidden_size"),
    ],
)
def test_a_configuration_that_fits_no_sam_is_refused(copy, part, values, words):
    config = json.loads((copy / "config.json").read_text())
    edit_json(copy / "config.json", **{part: {**config[part], **values}})
    _refused(copy, words)


def test_another_model_s_folder_is_refused(tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**sizes, "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config={**sizes, "vocab_size": 20}, vision_config=vision)).save_pretrained(tmp_path)
    _refused(tmp_path, "its model_type is 'clip', not 'sam'")


def test_a_pickle_of_more_than_tensors_is_not_run(copy, tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("run",))

    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Trap()}, protocol=2))
    _refused(copy, "not loaded")


def test_a_name_that_cannot_be_fetched_gives_one_line(monkeypatch):
    def unreachable(name, **keywords):
        raise OSError("the hub cannot be reached\nand more")

    monkeypatch.setattr(hub_files, "snapshot_download", unreachable)
    words = "is no folder and cannot be fetched by that name: the hub cannot be reached; give a folder with config.json"
    _refused("someone/sam", words)


def test_a_path_that_is_not_there_gives_one_line(tmp_path):
    _refused(tmp_path / "none", "is no folder and cannot be fetched by that name")


def test_a_name_is_fetched_once_and_with_one_file_of_weights(theirs, tmp_path, monkeypatch):
    asked = []

    def snapshot(name, local_files_only=False, allow_patterns=()):
        if local_files_only and not asked:
            raise FileNotFoundError("not in the cache")
        asked.append(list(allow_patterns))
        theirs.save_pretrained(tmp_path)
        return str(tmp_path)

    monkeypatch.setattr(hub_files, "snapshot_download", snapshot)
    assert load_segmenter("someone/sam").name == "someone/sam"
    assert asked == [["config.json", "processor_config.json", "preprocessor_config.json", "model.safetensors"]]
    load_segmenter("someone/sam")
    assert asked[1:] == [[]]
