"""A SAM in transformers' format, small and random, against transformers' own model on the same files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch as th
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import SamImageProcessorPil

from sb3_alignsam.envs import SamSegEnv
from sb3_alignsam.perception import Clicks, load_segmenter
from sb3_alignsam.perception.geometry import to_square
from sb3_alignsam.perception.pretrained_sam import SHARED_ENCODING
from tests.perception.seeded import blocks
from tests.perception.small_sam import SIDE, edit_json, small_sam

SHAPE = (75, 120)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
OTHER = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5], "rescale_factor": 1 / 255}


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


@pytest.fixture(scope="module")
def sam(folder):
    return load_segmenter(str(folder))


@pytest.fixture(scope="module")
def photograph():
    return blocks(0, *SHAPE)


def _pixels(image, mean=MEAN, std=STD):
    """Preprocessing as `SamImageProcessor` describes it, in a few lines."""
    resized = np.asarray(Image.fromarray(image).resize((96, 60), Image.Resampling.BILINEAR), np.float32)
    square = np.zeros((SIDE, SIDE, 3), np.float32)
    square[:60] = (resized - np.float32(mean)) / np.float32(std)
    return th.from_numpy(square.transpose(2, 0, 1))[None]


def _clicks(count):
    rng = np.random.default_rng(count)
    return Clicks(rng.uniform(0, (120, 75), (count, 2)), rng.integers(0, 2, count))


@th.inference_mode()
def _their_masks(model, pixels, clicks, previous=None, multimask=False):
    out = model(
        pixel_values=pixels,
        input_points=th.from_numpy(to_square(clicks.points_xy, *SHAPE, SIDE))[None, None],
        input_labels=th.from_numpy(clicks.labels)[None, None],
        input_masks=previous,
        multimask_output=multimask,
    )
    return out.pred_masks[0, 0], out.iou_scores[0, 0]


def test_sizes_follow_from_the_configuration(sam, folder):
    assert sam.name == str(folder)
    assert sam.image_size == SIDE
    assert sam.embedding_shape == (32, 6, 6)
    assert sam.low_res_size == 24


def test_embeddings_equal_transformers(sam, theirs, photograph):
    with th.inference_mode():
        expected = theirs.get_image_embeddings(_pixels(photograph))
    ours = sam.encode([photograph])
    assert type(ours) is th.Tensor
    assert th.allclose(ours, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("count", "multimask"), [(1, True), (1, False), (2, False), (5, False), (5, True)])
def test_masks_and_predicted_iou_equal_transformers(sam, theirs, photograph, count, multimask):
    clicks = _clicks(count)
    low_res, iou = _their_masks(theirs, _pixels(photograph), clicks, multimask=multimask)
    ours = sam.segment(sam.encode([photograph]), [clicks], [SHAPE], multimask=multimask)
    assert th.allclose(ours.low_res[0], low_res, atol=2e-4, rtol=1e-4)
    assert th.allclose(ours.iou[0], iou, atol=2e-4, rtol=1e-4)
    assert ours.upsample(0).shape == (3 if multimask else 1, *SHAPE)
    moved = sam.segment(sam.encode([photograph]), [_clicks(count + 7)], [SHAPE], multimask=multimask)
    assert not th.allclose(ours.low_res, moved.low_res, atol=0.05)


def test_feedback_of_previous_logits_equals_transformers(sam, theirs, photograph):
    pixels, clicks = _pixels(photograph), _clicks(3)
    first, _ = _their_masks(theirs, pixels, clicks)
    low_res, iou = _their_masks(theirs, pixels, clicks, first[None])
    ours = sam.segment(sam.encode([photograph]), [clicks], [SHAPE], previous=first[None])
    assert th.allclose(ours.low_res[0], low_res, atol=2e-4, rtol=1e-4)
    assert th.allclose(ours.iou[0], iou, atol=2e-4, rtol=1e-4)
    assert not th.allclose(low_res, first, atol=0.05)


def test_several_images_at_once_give_what_each_gives_alone(sam, photograph):
    images = [photograph, photograph[::-1].copy()]
    embeddings = sam.encode(images)
    together = sam.segment(embeddings, [_clicks(2), _clicks(4)], [SHAPE] * 2)
    for row, count in enumerate((2, 4)):
        alone = sam.segment(sam.encode(images[row : row + 1]), [_clicks(count)], [SHAPE])
        assert th.allclose(alone.low_res[0], together.low_res[row], atol=2e-4, rtol=1e-4)


def test_transformers_default_epsilon_is_taken_for_sam_s_and_another_is_kept(theirs, sam, copy):
    def epsilons(segmenter):
        layers = segmenter._decoder.mask_decoder.transformer.layers
        return {norm.eps for layer in layers for norm in layer.modules() if isinstance(norm, th.nn.LayerNorm)}

    decoder = json.loads((copy / "config.json").read_text())["mask_decoder_config"]
    for written, used in ((1e-6, 1e-5), (None, 1e-5), (1e-4, 1e-4)):
        values = {k: v for k, v in decoder.items() if k != "layer_norm_eps"} | (
            {"layer_norm_eps": written} if written else {}
        )
        edit_json(copy / "config.json", mask_decoder_config=values)
        assert epsilons(load_segmenter(str(copy))) == {used}
    # The rest of SAM's layer norms have 1e-6, but for the last of the transformer.
    decoder = sam._decoder
    assert decoder.mask_decoder.transformer.layer_norm_final_attn.eps == 1e-5
    assert decoder.mask_decoder.upscale_layer_norm.eps == decoder.prompt_encoder.mask_embed.layer_norm1.eps == 1e-6
    assert {m.eps for m in sam._encoder.modules() if isinstance(m, th.nn.LayerNorm)} == {1e-6}


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_mean_and_deviation_come_from_the_folder_where_it_names_them(copy, photograph, file):
    default = load_segmenter(str(copy))
    assert np.abs(default.preprocess(photograph) - _pixels(photograph)[0].permute(1, 2, 0).numpy()).max() < 1e-5
    values = {**OTHER, "size": {"longest_edge": SIDE}}
    text = json.dumps({"image_processor": values} if file.startswith("processor") else values)
    (copy / file).write_text(text)
    mean, std = 255 * np.array(OTHER["image_mean"]), 255 * np.array(OTHER["image_std"])
    expected = _pixels(photograph, mean, std)[0].permute(1, 2, 0).numpy()
    assert np.abs(load_segmenter(str(copy)).preprocess(photograph) - expected).max() < 1e-5


def test_preprocessing_equals_transformers_processor(sam, photograph):
    processor = SamImageProcessorPil(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE})
    expected = processor(photograph, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    assert np.abs(sam.preprocess(photograph) - expected).max() < 1e-5


def test_a_pickled_checkpoint_gives_the_same_network(sam, theirs, copy):
    (copy / "model.safetensors").unlink()
    th.save(theirs.state_dict(), copy / "pytorch_model.bin")
    pickled = load_segmenter(str(copy))
    for module in ("_encoder", "_decoder"):
        state, other = getattr(sam, module).state_dict(), getattr(pickled, module).state_dict()
        assert all(th.equal(state[key], other[key]) for key in state)


def test_the_positional_encoding_is_found_by_either_of_its_names(sam, copy):
    state = load_file(copy / "model.safetensors")
    assert SHARED_ENCODING[1] not in state
    state[SHARED_ENCODING[1]] = state.pop(SHARED_ENCODING[0])
    save_file(state, copy / "model.safetensors")
    assert th.equal(load_segmenter(str(copy))._decoder.dense_position(), sam._decoder.dense_position())


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        ({"do_normalize": False}, 0, 255),
        ({"do_rescale": False, "image_mean": [10, 20, 30], "image_std": [4, 5, 6]}, (10, 20, 30), (4, 5, 6)),
        ({"rescale_factor": 0.5, "image_mean": [10, 20, 30], "image_std": [4, 5, 6]}, (20, 40, 60), (8, 10, 12)),
    ],
)
def test_scaling_and_normalising_can_be_switched_off(copy, photograph, values, mean, std):
    (copy / "preprocessor_config.json").write_text(json.dumps(values))
    expected = _pixels(photograph, mean, std)[0].permute(1, 2, 0).numpy()
    assert np.abs(load_segmenter(str(copy)).preprocess(photograph) - expected).max() < 1e-4


def test_weights_in_half_precision_are_widened(copy):
    state = {key: value.half() for key, value in load_file(copy / "model.safetensors").items()}
    save_file(state, copy / "model.safetensors")
    assert load_segmenter(str(copy)).encode([blocks(0, 30, 40)]).dtype == th.float32


def test_it_runs_in_bfloat16(folder, sam, photograph):
    half = load_segmenter(str(folder), dtype=th.bfloat16)
    masks = half.segment(half.encode([photograph]), [_clicks(2)], [SHAPE])
    full = sam.segment(sam.encode([photograph]), [_clicks(2)], [SHAPE])
    assert masks.low_res.dtype == th.float32
    assert (masks.low_res - full.low_res).abs().max() < 0.2 * full.low_res.abs().max()


def test_an_environment_makes_an_episode_with_it(folder):
    env = SamSegEnv(segmenter=str(folder), split="dev")
    observation, _ = env.reset(seed=0)
    assert observation["sam_image_embeddings"].shape == (32, 6, 6)
    assert observation in env.observation_space
    done = False
    while not done:
        action = int(np.flatnonzero(env.action_masks())[0])
        observation, reward, terminated, truncated, _ = env.step(np.int64(action))
        done = terminated or truncated
    assert observation in env.observation_space
    assert np.isfinite(reward)
