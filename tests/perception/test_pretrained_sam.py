"""A SAM in transformers' format, small and random, against transformers' own model on the same files."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch as th
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, SamConfig, SamImageProcessorPil, SamModel

from sb3_alignsam.envs import SamSegEnv
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception import Clicks, hub_files, load_segmenter
from sb3_alignsam.perception.geometry import to_square
from sb3_alignsam.perception.pretrained_sam import SHARED_ENCODING
from tests.perception.seeded import blocks

SIDE, SHAPE = 96, (75, 120)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
OTHER = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5], "rescale_factor": 1 / 255}


def _model(**decoder):
    """A SAM for 96-pixel images with 6×6 patches, weights of a size that lets prompts matter."""
    config = SamConfig(
        vision_config={
            "hidden_size": 32, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_pos_feats": 16, "image_size": SIDE, "window_size": 4, "global_attn_indexes": [1], "mlp_dim": 64,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": SIDE},
        mask_decoder_config={
            "hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 4, "iou_head_hidden_dim": 32, **decoder,
        },
    )  # fmt: skip
    model = SamModel(config).eval()
    generator = th.Generator().manual_seed(0)
    with th.no_grad():
        for parameter in model.parameters():
            drawn = th.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 1 + 0.1 * drawn)
    return model


@pytest.fixture(scope="module")
def theirs():
    """transformers' model with the constant that SAM's own code has."""
    return _model(layer_norm_eps=1e-5)


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


def _edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


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
        _edit(copy / "config.json", mask_decoder_config=values)
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
    _edit(copy / "config.json", **{part: {**config[part], **values}})
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
