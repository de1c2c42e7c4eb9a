"""RepViT-SAM at full size, on weights from a seed, against what upstream's program prints for them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.preprocessing import preprocess_obs

from sb3_alignsam.envs import SamSegEnv
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception import Clicks, load_segmenter, shared_segmenter
from sb3_alignsam.perception.checkpoints import load_strict, read_state_dict
from sb3_alignsam.perception.fetching import import_weights
from sb3_alignsam.perception.geometry import resized_shape
from sb3_alignsam.perception.repvit import RepvitSam, upstream_key
from sb3_alignsam.policies import ImplicitExtractor
from tests.perception.seeded import blocks, fill

FOLDER = Path(__file__).resolve().parents[2] / "third_party" / "repvit_sam"
IMAGE_SIZE = (375, 500)
TOLERANCE = 2e-4
"""Of each array's largest absolute value."""
PROMPTS = [f"prompt{index}_{masks}" for index in range(2) for masks in ("single", "multi")]


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "repvit_sam_seed0.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def weights():
    shapes = json.loads((FOLDER / "repvit_sam_state_dict_shapes.json").read_text(encoding="utf-8"))
    return fill(shapes, 0)


@pytest.fixture(scope="module")
def repvit(weights):
    return load_segmenter("repvit_sam", checkpoint=weights)


@pytest.fixture(scope="module")
def unfused(weights):
    model = RepvitSam().eval().requires_grad_(False)
    load_strict(model, read_state_dict(weights)[1], "seed", "repvit_sam", upstream_key)
    return model


@pytest.fixture(scope="module")
def embeddings(repvit):
    return repvit.encode([blocks(0, *IMAGE_SIZE)])


def _clicks(golden, prompt, count=None):
    return Clicks(golden[f"{prompt}_points"][:count], golden[f"{prompt}_labels"][:count])


def _assert_close(ours, theirs):
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()


def test_embeddings_equal_upstreams(embeddings, golden):
    assert embeddings.shape == (1, 256, 64, 64)
    assert embeddings.dtype == th.float32
    embedding = embeddings[0].numpy()
    _assert_close(embedding[:, ::8, ::8], golden["embedding_every_8th"])
    _assert_close(embedding.mean((1, 2)), golden["embedding_channel_mean"])
    _assert_close(embedding.std((1, 2)), golden["embedding_channel_std"])


def test_the_image_is_resized_to_upstreams_size(golden):
    assert resized_shape(*IMAGE_SIZE, 1024) == tuple(golden["input_size"])


@pytest.mark.parametrize("prompt", PROMPTS)
def test_masks_and_predicted_iou_equal_upstreams(repvit, embeddings, golden, prompt):
    masks = repvit.segment(embeddings, [_clicks(golden, prompt)], [IMAGE_SIZE], multimask=prompt.endswith("multi"))
    _assert_close(masks.iou[0], golden[f"{prompt}_iou"])
    _assert_close(masks.low_res[0, :, ::4, ::4], golden[f"{prompt}_low_res_every_4th"])
    assert masks.upsample(0).shape[1:] == IMAGE_SIZE
    _assert_close(masks.upsample(0)[:, ::16, ::16], golden[f"{prompt}_mask_logits_every_16th"])


def test_feedback_of_previous_logits_equals_upstreams(repvit, embeddings, golden):
    first = repvit.segment(embeddings, [_clicks(golden, PROMPTS[-1], 1)], [IMAGE_SIZE], multimask=False)
    masks = repvit.segment(embeddings, [_clicks(golden, PROMPTS[-1])], [IMAGE_SIZE], previous=first.low_res)
    _assert_close(masks.iou[0], golden["feedback_iou"])
    _assert_close(masks.low_res[0, :, ::4, ::4], golden["feedback_low_res_every_4th"])


def test_fused_and_channels_last_change_the_output_by_rounding_only(repvit, unfused):
    # A quarter of the side: the encoder is convolutional, and two whole images would take most of this file's time.
    pixels = th.randn(2, 3, 256, 256, generator=th.Generator().manual_seed(0))
    with th.inference_mode():
        plain = unfused.encoder(pixels)
        fused = repvit._encoder(pixels.contiguous(memory_format=th.channels_last))
    assert (plain - fused).abs().max() <= 2e-5 * plain.abs().max()


def test_the_encoder_is_fused_frozen_and_in_channels_last(repvit):
    kinds = {type(module).__name__ for module in repvit._encoder.modules()}
    assert "BatchNorm2d" not in kinds
    assert not any(parameter.requires_grad for parameter in repvit._encoder.parameters())
    neck = repvit._encoder.neck[2].weight
    assert neck.is_contiguous(memory_format=th.channels_last)
    assert not neck.is_contiguous()


def test_the_key_map_is_one_to_one_onto_upstreams_keys(unfused, weights):
    keys = [upstream_key(key) for key in unfused.state_dict()]
    assert len(keys) == len(set(keys)) == 1598
    assert set(keys) == set(weights)


def test_every_weight_lies_where_upstream_has_it(unfused, weights):
    own = unfused.state_dict()
    assert all(np.array_equal(value.numpy(), weights[upstream_key(key)]) for key, value in own.items())


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        ("image_encoder.features.16.token_mixer.2.c.weight", None, "is missing"),
        ("pixel_mean", (3, 1, 1), "is not expected"),
        ("mask_decoder.iou_token.weight", (2, 256), "has shape (2, 256), not (1, 256)"),
    ],
)
def test_a_weight_too_few_too_many_or_of_another_shape_is_named_in_upstreams_words(unfused, key, shape, words):
    state = {upstream_key(mine): value for mine, value in unfused.state_dict().items()}
    state.pop(key, None)
    if shape is not None:
        state[key] = th.zeros(shape)
    with pytest.raises(InputError) as caught:
        load_strict(unfused, state, "x.pt", "segmenter 'repvit_sam'", upstream_key)
    assert str(caught.value) == f"x.pt does not hold the weights of segmenter 'repvit_sam': '{key}' {words}"


def test_a_checkpoint_of_another_network_is_refused():
    with pytest.raises(InputError, match=r"'image_encoder\.features\.0\.0\.c\.weight' is missing \(and 1598 more\)"):
        load_segmenter("repvit_sam", checkpoint={"weight": np.zeros(2, np.float32)})


def test_without_a_checkpoint_the_message_says_how_to_get_the_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("SB3_ALIGNSAM_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"weights fetch repvit_sam; or .* weights import repvit_sam\.pt"):
        load_segmenter("repvit_sam")


def test_upstreams_pickle_once_imported_is_found_by_name_and_loaded_once_a_process(
    repvit, weights, tmp_path, monkeypatch
):
    monkeypatch.setenv("SB3_ALIGNSAM_HOME", str(tmp_path / "home"))
    path = tmp_path / "repvit_sam.pt"
    th.save({key: th.from_numpy(array) for key, array in weights.items()}, path)
    import_weights(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    path.unlink()
    shared = shared_segmenter("repvit_sam")
    assert shared is shared_segmenter("repvit_sam")
    for module in ("_encoder", "_decoder"):
        ours, theirs = getattr(shared, module).state_dict(), getattr(repvit, module).state_dict()
        assert all(th.equal(ours[key], theirs[key]) for key in theirs)
    shared_segmenter.cache_clear()


def test_an_environment_and_the_implicit_extractor_run_on_it(repvit):
    env = SamSegEnv(segmenter=repvit, split="dev")
    observation, _ = env.reset(seed=0)
    assert observation["sam_image_embeddings"].shape == (256, 64, 64)
    action = int(np.flatnonzero(env.action_masks())[0])
    observation, reward, *_ = env.step(np.int64(action))
    assert env.episode.low_res.shape == (1, 256, 256)
    assert np.isfinite(reward)
    assert observation in env.observation_space
    extractor = ImplicitExtractor(env.observation_space)
    batch = {key: th.as_tensor(np.asarray(value))[None] for key, value in observation.items()}
    with th.inference_mode():
        features = extractor(preprocess_obs(batch, env.observation_space))
    assert features.shape == (1, extractor.features_dim)
    assert features.isfinite().all()
