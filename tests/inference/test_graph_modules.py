"""What is exported with the networks computes what the environment does."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.envs import make_env
from sb3_alignsam.inference.graph_modules import ClipGraph, PolicyGraph
from sb3_alignsam.perception import load_text_model
from sb3_alignsam.perception.geometry import resize_longest_side
from sb3_alignsam.perception.similarity import SimilarityMaps, image_tokens
from sb3_alignsam.policies import ImplicitPolicy, MaskableImplicitPolicy

KEYS = ("clip_text", "clip_tokens", "clip_similarity")
SIDE = 16


@pytest.mark.parametrize(("algorithm", "policy"), [(PPO, ImplicitPolicy), (MaskablePPO, MaskableImplicitPolicy)])
def test_the_policys_graph_clicks_as_policy_and_environment_do(algorithm, policy):
    env = make_env("SamSegShapes-v0", {"allow_stop": True, "num_patches": 4, "split": "dev"})
    model = algorithm(policy, env, n_steps=8, batch_size=8, seed=0, device="cpu")
    maskable, keys = algorithm is MaskablePPO, env.observations.keys
    graph = PolicyGraph(model.policy.eval(), env.grid, keys, maskable)
    with th.no_grad():
        model.policy.mlp_extractor.click_logits.weight.normal_()
    seen = set()
    for bias in (-100.0, 0.0, 3.0, 100.0):
        with th.no_grad():
            model.policy.mlp_extractor.stop_logit.bias.fill_(bias)
        for index in range(3):
            observation, _ = env.reset(options={"index": index})
            for _ in range(2):
                masks = {"action_masks": env.action_masks()} if maskable else {}
                action, _ = model.predict(observation, deterministic=True, **masks)
                tensors = [th.from_numpy(np.asarray(observation[key]))[None] for key in keys]
                tensors.append(th.tensor([env.episode.image_size]))
                found, _, point, label, placed, click_map = (each[0] for each in graph(*tensors))
                stop = int(action) == env.grid.stop_action
                assert int(found) == int(action)
                assert bool(placed) == (not stop and bool(env.action_masks()[int(action)]))
                seen.add((stop, bool(placed)))
                observation, _, ended, *_ = env.step(action)
                assert np.array_equal(click_map.numpy(), observation["click_map"])
                if placed:
                    click = env.episode.clicks[-1]
                    assert (*point.tolist(), bool(label)) == (click.x, click.y, click.positive)
                if ended:
                    break
    # An agent without masks clicks the same patch again, to no effect.
    assert seen == {(False, True), (True, False), *([] if maskable else [(False, False)])}


def test_where_every_patch_was_clicked_the_graph_masks_none_of_them():
    env = make_env("SamSegShapes-v0", {"num_patches": 2, "split": "dev"})
    model = MaskablePPO(MaskableImplicitPolicy, env, n_steps=8, batch_size=8, seed=0, device="cpu")
    graph = PolicyGraph(model.policy.eval(), env.grid, env.observations.keys, True)
    observation, _ = env.reset(seed=0)
    shape = env.episode.image_size
    for clicked in (np.zeros((2, 2), bool), np.ones((2, 2), bool), np.eye(2, dtype=bool)):
        tensors = [th.from_numpy(np.asarray(value))[None] for value in observation.values()]
        tensors[list(observation).index("click_map")] = th.from_numpy(np.stack([clicked, clicked]).astype(np.uint8))[
            None
        ]
        action, _, _, _, placed, _ = graph(*tensors, th.tensor([shape]))
        assert bool(placed) == bool(env.grid.action_mask(clicked, *shape)[int(action)]) == True  # noqa: E712


@pytest.fixture(scope="module")
def clip():
    return load_text_model("tiny")


def _of_graph(graph, images, targets):
    """Outputs for photographs of the same patches, each with its own category."""
    patch, resized = graph.patch, [resize_longest_side(image, graph.map_size) for image in images]
    height, width = (max(-(-each.shape[axis] // patch) * patch for each in resized) for axis in (0, 1))
    padded = np.zeros((len(images), height, width, 3), np.uint8)
    for square, image in zip(padded, resized, strict=True):
        square[: image.shape[0], : image.shape[1]] = image
    shapes = th.tensor([image.shape[:2] for image in images])
    with th.inference_mode():
        return dict(zip(graph.keys, graph(th.from_numpy(padded), th.tensor(targets), shapes), strict=True))


@pytest.mark.parametrize(
    ("vocabulary", "extra"), [(["circle", "star", "ring"], ["traffic light"]), (["star"], []), (["star"], ["lamp"])]
)
def test_clips_graph_sees_what_the_environment_sends(clip, vocabulary, extra):
    maps, names = SimilarityMaps(clip, vocabulary), [*vocabulary, *extra]
    graph = ClipGraph(maps, names, KEYS, SIDE, th.float32)
    scene = ShapesDataset("val").get(3).image
    # Of the same patches, but of other shapes.
    images = [scene[:200, :256], scene[:198, :255], scene[:200, :256]]
    targets = [0, len(names) - 1, len(names) // 2]
    found = _of_graph(graph, images, targets)
    for row, (image, target) in enumerate(zip(images, targets, strict=True)):
        tokens, shape = image_tokens(clip, image), image.shape[:2]
        assert np.array_equal(found["clip_text"][row].numpy(), maps.text_features(names[target]).numpy())
        assert np.abs(found["clip_tokens"][row].numpy() - maps.token_map(tokens, shape)).max() < 2e-3
        expected = maps.maps(tokens, shape, names[target], SIDE)
        assert expected[0].max() > 0.3  # there is something to see
        assert np.abs(found["clip_similarity"][row].numpy() - expected).max() < 5e-3


def test_a_map_that_is_the_same_everywhere_is_zero_in_the_graph_too(clip):
    graph = ClipGraph(SimilarityMaps(clip, ["circle", "star"]), ["circle", "star"], KEYS, SIDE, th.float32)
    tokens = graph.texts[:1, None].expand(1, 7, -1)
    assert not graph._scores(tokens, th.tensor([0])).any()
