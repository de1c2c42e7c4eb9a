from __future__ import annotations

import json
import pickle
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch as th
from transformers import CLIPTokenizer

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception import clip_files, hub_files
from sb3_alignsam.perception.clip_prompts import PROMPT_TEMPLATES, VOCABULARY, load_tokenizer
from sb3_alignsam.perception.clip_surgery import ClipSurgery
from sb3_alignsam.perception.clip_weights import openai_clip
from tests.perception.seeded import fill

GOLDEN = Path(__file__).parents[2] / "third_party" / "clip_surgery"
SIZES = (64, 96)
MAP = (48, 40)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "clip_surgery_seed0.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def weights():
    shapes = json.loads((GOLDEN / "clip_state_dict_shapes.json").read_text())
    return {key: th.tensor(value) for key, value in fill(shapes, 0).items()}


@pytest.fixture(scope="module")
def clip(weights):
    return ClipSurgery.from_openai_state_dict(weights)


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.RandomState(100)
    return {side: th.tensor(rng.standard_normal((2, 3, side, side)), dtype=th.float32) for side in SIZES}


@pytest.fixture(scope="module")
def tokens(clip, pixels):
    return {side: clip.image_tokens(pixels[side]) for side in SIZES}


@pytest.fixture(scope="module")
def texts(golden):
    return th.tensor(golden["ensemble_features"])


@pytest.fixture(scope="module")
def ensemble():
    with np.load(GOLDEN / "ensemble_token_ids.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def stub_tokenizer():
    """A tokenizer of CLIP's size that knows letters only."""
    letters = {f"{letter}{end}": 0 for letter in "abcdefghijklmnopqrstuvwxyz." for end in ("", "</w>")}
    words = [*letters, *(f"filler{index}" for index in range(VOCABULARY - len(letters) - 2))]
    vocab = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=[])


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def real_tokenizer(offline):
    """CLIP's own tokenizer where its files are in the hub's cache."""
    try:
        return load_tokenizer("openai/clip-vit-base-patch16")
    except InputError as error:
        pytest.skip(str(error))


def assert_close(ours, theirs):
    ours = ours.numpy()
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max() <= 2e-4 * abs(theirs).max()


@pytest.mark.parametrize("side", SIZES)
def test_image_tokens_equal_upstream(golden, pixels, tokens, side):
    np.testing.assert_array_equal(pixels[side].flatten()[:8], golden[f"pixel_values_{side}_first8"])
    assert_close(tokens[side], golden[f"tokens_{side}"])


def test_text_features_equal_upstream(clip, golden):
    assert_close(clip.text_features(th.tensor(golden["token_ids"])), golden["text_features"])


def test_ensemble_features_equal_upstream(clip, golden, ensemble):
    features = clip.ensemble_features(th.tensor(ensemble["token_ids"].astype(np.int64)))
    assert ensemble["names"].tolist() == [*golden["ensemble_texts"], ""]
    assert_close(features[:3], golden["ensemble_features"])
    assert_close(features[3:], golden["empty_ensemble_features"])


def test_the_ensemble_s_sentences_are_those_of_the_reference_ids(ensemble):
    assert len(set(PROMPT_TEMPLATES)) == 85
    for name, prompts in zip(ensemble["names"], ensemble["prompts"], strict=True):
        assert prompts.tolist() == [template.format(name) for template in PROMPT_TEMPLATES]


@pytest.mark.parametrize("side", SIZES)
def test_feature_surgery_equals_upstream(golden, tokens, texts, side):
    scores = ClipSurgery.surgery(tokens[side], texts)
    assert_close(scores[:1], golden[f"surgery_scores_{side}"])
    assert_close(ClipSurgery.surgery(tokens[side][:1], texts), golden[f"surgery_scores_{side}"])


@pytest.mark.parametrize("side", SIZES)
def test_feature_surgery_of_a_single_text_equals_upstream(golden, tokens, texts, side):
    redundant = th.tensor(golden["empty_ensemble_features"])
    scores = ClipSurgery.surgery(tokens[side], texts[:1], redundant)
    assert_close(scores[:1], golden[f"surgery_scores_single_text_{side}"])
    several = ClipSurgery.surgery(tokens[side], texts, redundant)
    th.testing.assert_close(several[..., :1], scores)


@pytest.mark.parametrize("side", SIZES)
def test_similarity_map_and_points_equal_upstream(golden, tokens, texts, side):
    scores = ClipSurgery.surgery(tokens[side], texts)[:, 1:]
    assert_close(ClipSurgery.similarity_map(scores, MAP)[:1], golden[f"similarity_map_48x40_{side}"])
    points, labels = ClipSurgery.points(scores[0, :, 0], MAP)
    np.testing.assert_array_equal(points, golden[f"points_{side}"])
    np.testing.assert_array_equal(labels, golden[f"point_labels_{side}"])
    assert points.dtype == np.int64
    assert labels.dtype == np.uint8


def test_a_result_does_not_depend_on_its_batch(clip, pixels, tokens, texts):
    alone = clip.image_tokens(pixels[96][1:])
    th.testing.assert_close(alone, tokens[96][1:], rtol=0, atol=1e-5)
    together = ClipSurgery.surgery(tokens[96], texts)
    th.testing.assert_close(ClipSurgery.surgery(alone, texts), together[1:], rtol=0, atol=1e-5)


def test_images_of_other_sizes_leave_the_position_embeddings_as_they_were(clip, pixels, tokens):
    table = clip._model.vision_model.embeddings.position_embedding.weight
    before = table.clone()
    assert clip.image_tokens(th.zeros(1, 3, 48, 80)).shape == (1, 1 + 3 * 5, 64)
    assert th.equal(table, before)
    for side in reversed(SIZES):
        assert th.equal(clip.image_tokens(pixels[side]), tokens[side])


def test_tokens_and_features_have_unit_length(clip, tokens, golden):
    for vectors in (tokens[64], clip.text_features(th.tensor(golden["token_ids"]))):
        th.testing.assert_close(vectors.norm(dim=-1), th.ones(vectors.shape[:-1]))


def test_cls_is_that_of_the_untouched_model(clip, pixels, tokens):
    with th.inference_mode():
        pooled = clip._model.get_image_features(pixels[64]).pooler_output
    th.testing.assert_close(tokens[64][:, 0], pooled / pooled.norm(dim=-1, keepdim=True), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64), (1, 3, 64, 70), (1, 3, 0, 64)])
def test_pixel_values_that_do_not_fit_are_refused(clip, shape):
    with pytest.raises(ValueError, match="multiples of 16"):
        clip.image_tokens(th.zeros(shape))


def test_constant_scores_give_zeros_and_no_points(texts, tokens):
    scores = th.full((2, 16, 3), 0.37)
    scores[1, :, 2] = th.arange(16.0)
    maps = ClipSurgery.similarity_map(scores, MAP)
    assert maps.shape == (2, *MAP, 3)
    assert (maps[0] == 0).all()
    assert (maps[1, ..., :2] == 0).all()
    assert maps[1, ..., 2].max() == 1
    points, labels = ClipSurgery.points(scores[0, :, 0], MAP)
    assert points.shape == (0, 2)
    assert labels.shape == (0,)
    alone = ClipSurgery.surgery(tokens[64], texts[:1])[:, 1:]
    assert (ClipSurgery.similarity_map(alone, MAP) == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual.ln_post.bias": None}, "'visual.ln_post.bias' is missing$"),
        ({"visual.proj": None}, "'visual.proj' is missing"),
        ({"visual.positional_embedding": None}, "'visual.positional_embedding' is missing"),
        ({"visual.layer1.0.bn1.weight": th.ones(4)}, "'visual.layer1.0.bn1.weight' is not expected$"),
        ({"ln_final.weight": th.ones(64)}, r"'ln_final.weight' has shape \(64,\), not \(128,\)$"),
        ({"visual.proj": th.ones(64, 128)}, r"'visual.proj' has shape \(64, 128\), not \(128, 64\)$"),
        ({"visual.conv1.weight": th.ones(96, 3, 16, 16)}, "no whole number of heads"),
        ({"visual.positional_embedding": th.ones(16, 128)}, "16 rows"),
        ({"visual.positional_embedding": th.ones(16)}, "not 2 dimensions"),
        ({"ln_final.weight": None, "ln_final.bias": None}, r"\(and 1 more\)$"),
    ],
)
def test_a_state_dict_of_something_else_is_refused_by_name(weights, change, message):
    changed = {key: value for key, value in (weights | change).items() if value is not None}
    with pytest.raises(InputError, match=message) as caught:
        ClipSurgery.from_openai_state_dict(changed)
    assert "\n" not in str(caught.value)


def test_a_state_dict_without_a_text_tower_is_refused(weights):
    with pytest.raises(InputError, match=r"'transformer.resblocks' is missing"):
        openai_clip({k: v for k, v in weights.items() if not k.startswith("transformer.")}, "it")


def test_half_precision_weights_and_the_sizes_of_published_archives_are_taken(weights, golden):
    state = {key: value.half() for key, value in weights.items()}
    state |= {"input_resolution": th.tensor(64), "context_length": th.tensor(77), "vocab_size": th.tensor(VOCABULARY)}
    features = ClipSurgery.from_openai_state_dict(state).text_features(th.tensor(golden["token_ids"]))
    assert features.dtype == th.float32
    np.testing.assert_allclose(features, golden["text_features"], atol=5e-3)


def test_without_a_tokenizer_names_are_refused(clip):
    with pytest.raises(InputError, match="has no tokenizer"):
        clip.prompt_features(["dog"])


def test_a_folder_in_transformers_format_loads_the_same_model(clip, tokens, pixels, stub_tokenizer, tmp_path, offline):
    clip._model.save_pretrained(tmp_path)
    stub_tokenizer.save_pretrained(tmp_path)
    loaded = ClipSurgery.from_pretrained(tmp_path)
    assert th.equal(loaded.image_tokens(pixels[64]), tokens[64])
    features = loaded.prompt_features(["dog", "bus"], templates=["a {}.", "the {}."])
    ids = th.stack([loaded.token_ids([f"a {name}.", f"the {name}."]) for name in ("dog", "bus")])
    assert ids.shape == (2, 2, 77)
    assert th.equal(features, clip.ensemble_features(ids))
    with pytest.raises(InputError, match="too long for CLIP: 84 tokens, 77 at most"):
        loaded.prompt_features(["x" * 80], templates=["a {} ."])

    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no weights: neither model.safetensors nor") as caught:
        ClipSurgery.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", b"junk", "is not a readable .safetensors file"),
        ("config.json", b"{", "config.json cannot be read"),
        ("config.json", b"[]", "holds no mapping"),
        ("config.json", b'{"model_type": "siglip"}', "its model_type is 'siglip'"),
        ("config.json", b'{"model_type": "clip"}', "does not hold the weights of CLIP"),
        ("config.json", b'{"model_type": "clip", "projection_dim": "wide"}', "describes no CLIP"),
        ("config.json", b'{"model_type": "clip", "vision_config": {"patch_size": 0}}', "describes no CLIP"),
        ("config.json", b'{"model_type": "clip", "text_config": {"hidden_act": "nope"}}', "describes no CLIP"),
        ("tokenizer.json", b'{"a":', "tokenizer cannot be read"),
        ("pytorch_model.bin", pickle.dumps({"a": print}, protocol=2), "other objects than tensors"),
        ("pytorch_model.bin", b"junk", "not a readable torch file|other objects than tensors"),
    ],
)
def test_damaged_files_give_one_line(clip, stub_tokenizer, tmp_path, offline, file, content, message):
    clip._model.save_pretrained(tmp_path)
    stub_tokenizer.save_pretrained(tmp_path)
    if file == "pytorch_model.bin":
        (tmp_path / "model.safetensors").unlink()
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        ClipSurgery.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_name_in_the_hub_s_cache_needs_no_network(clip, stub_tokenizer, tmp_path, monkeypatch):
    clip._model.save_pretrained(tmp_path)
    stub_tokenizer.save_pretrained(tmp_path)
    asked = []

    def snapshot(name, **keywords):
        asked.append((name, keywords))
        return str(tmp_path)

    monkeypatch.setattr(hub_files, "snapshot_download", snapshot)
    assert clip_files.clip_folder("someone/clip") == tmp_path
    assert asked == [("someone/clip", {"local_files_only": True})]
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert clip_files.clip_folder("someone/clip") == tmp_path
    assert len(asked) == 2


def test_a_name_is_fetched_without_what_is_not_needed(stub_tokenizer, tmp_path, monkeypatch):
    asked = []

    def snapshot(name, local_files_only=False, allow_patterns=()):
        if local_files_only:
            raise FileNotFoundError("not in the cache")
        asked.append(set(allow_patterns) & set(hub_files.WEIGHT_FILES))
        stub_tokenizer.save_pretrained(tmp_path)
        if "pytorch_model.bin" in allow_patterns:
            (tmp_path / "pytorch_model.bin").touch()
        return str(tmp_path)

    monkeypatch.setattr(hub_files, "snapshot_download", snapshot)
    assert clip_files.clip_folder("someone/clip", weights=False) == tmp_path
    assert asked == [set()]
    assert clip_files.clip_folder("someone/clip") == tmp_path
    assert asked[1:] == [{"model.safetensors"}, {"pytorch_model.bin"}]


def test_a_folder_that_lacks_weights_is_refused(clip, stub_tokenizer, tmp_path, offline):
    state = {k: v for k, v in clip._model.state_dict().items() if k != "visual_projection.weight"}
    clip._model.save_pretrained(tmp_path, state_dict=state)
    stub_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"'visual_projection.weight' is missing"):
        ClipSurgery.from_pretrained(tmp_path)


def test_missing_or_foreign_tokenizers_are_refused(clip, weights, tmp_path, offline):
    with pytest.raises(InputError, match="is no folder and cannot be fetched"):
        ClipSurgery.from_pretrained(tmp_path / "nowhere")
    clip._model.config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=f"instead of {VOCABULARY}"):
        ClipSurgery.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="tokenizer has 2 entries"):
        ClipSurgery.from_openai_state_dict(weights, tokenizer=CLIPTokenizer())


def test_the_real_tokenizer_gives_upstream_s_ids(weights, golden, ensemble, real_tokenizer):
    clip = ClipSurgery.from_openai_state_dict(weights, tokenizer=real_tokenizer)
    np.testing.assert_array_equal(clip.token_ids(golden["texts"].tolist()), golden["token_ids"])
    ids = clip.token_ids(ensemble["prompts"].flatten().tolist()).reshape(*ensemble["prompts"].shape, -1)
    np.testing.assert_array_equal(ids[..., : ensemble["token_ids"].shape[-1]], ensemble["token_ids"])
    assert_close(clip.prompt_features(golden["ensemble_texts"].tolist()), golden["ensemble_features"])
