"""An agent on pictures of which nothing is known: the same clicks as in evaluation, and none of its ground truth."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch as th
from sb3_contrib import MaskablePPO

from sb3_alignsam.envs import make_env
from sb3_alignsam.envs.episode import enlarged
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.agents import load_agent
from sb3_alignsam.evaluation.protocol import play
from sb3_alignsam.inference import unseen
from sb3_alignsam.inference.annotator import Annotator, Result
from sb3_alignsam.perception import Click
from sb3_alignsam.policies import MaskableImplicitPolicy
from sb3_alignsam.policies.loading import DESCRIPTION_MEMBER, AgentDescription, save_zip
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def annotator(run_folder):
    return Annotator(run_folder)


@pytest.fixture(scope="module")
def stopping(tmp_path_factory):
    """A zip whose agent stops at once."""
    kwargs = {"allow_stop": True, "num_patches": 8, "max_steps": 3}
    env = make_env("SamSegShapes-v0", kwargs)
    model = MaskablePPO(MaskableImplicitPolicy, env, n_steps=8, batch_size=8)
    with th.no_grad():
        model.policy.mlp_extractor.stop_logit.bias.fill_(1e6)
    path = tmp_path_factory.mktemp("stopping") / "agent.zip"
    policy = "sb3_alignsam.policies.MaskableImplicitPolicy"
    description = AgentDescription("maskable_ppo", "SamSegShapes-v0", kwargs, policy)
    save_zip(model, path, replace(description, categories=list(env.dataset.categories)))
    return path


def test_of_a_photographs_masks_only_the_answer_is_enlarged(annotator, monkeypatch):
    """Which takes longer than a click at a photograph's full size; `watch` asks for each."""
    made = []
    monkeypatch.setattr(unseen, "enlarged", lambda *args: made.append(args) or enlarged(*args))
    image, watched = np.full((60, 80, 3), 90, np.uint8), []
    result = annotator.segment(image, annotator.categories[0])
    assert (len(made), len(result.clicks)) == (1, annotator.budget)
    annotator.segment_batch([image], [annotator.categories[0]], watch=lambda row, mask: watched.append(mask))
    assert len(watched) == annotator.budget
    assert any(np.array_equal(mask, result.mask) for mask in watched)


def _scene(env, index=0):
    sample = env.dataset.get(index)
    return sample.image, sample.category


@pytest.mark.parametrize("kind", ["run_folder", "explicit_run"])
def test_it_clicks_as_in_evaluation_without_ground_truth(kind, request):
    run = request.getfixturevalue(kind)
    agent, annotator = load_agent(run), Annotator(run)
    for index in range(3):
        episode = agent.env.fixed_episode(index)
        play(agent.env, agent.clicker, [episode], [index], agent.env.max_steps)
        result = annotator.segment(*_scene(agent.env, index))
        assert [each.click for each in result.clicks] == episode.clicks
        assert result.score == pytest.approx(episode.answer.predicted_iou, abs=1e-6)
        assert (result.mask != episode.answer.mask).mean() < 1e-3
        assert not any(each.given for each in result.clicks)
        assert not result.stopped


def test_the_answer_is_the_mask_of_highest_predicted_iou_unless_told_otherwise(run_folder, annotator, env):
    result = annotator.segment(*_scene(env))
    assert result.score == max(each.predicted_iou for each in result.clicks)
    last = Annotator(run_folder, env_kwargs={"answer": "last"}).segment(*_scene(env))
    assert last.score == last.clicks[-1].predicted_iou


def test_going_on_from_its_own_clicks_ends_as_if_it_had_never_been_left(annotator, env):
    whole = annotator.segment(*_scene(env))
    begun = [each.click for each in whole.clicks[:2]]
    result = annotator.segment(*_scene(env), begun)
    assert [(each.click, each.predicted_iou) for each in result.clicks] == [
        (each.click, each.predicted_iou) for each in whole.clicks
    ]
    assert [each.given for each in result.clicks] == [True, True, False, False, False]
    assert np.array_equal(result.mask, whole.mask)


def test_a_persons_click_at_any_pixel_is_part_of_the_episode_and_its_patch_is_not_clicked_again(annotator, env):
    image, category = _scene(env)
    height, width = image.shape[:2]
    corner = Click(width - 1, height - 1, False)
    result = annotator.segment(image, category, [corner], budget=8)
    assert result.clicks[0].click == corner
    assert len(result.clicks) == 8
    grid = annotator.env.grid
    assert len({grid.patch(each.click, height, width) for each in result.clicks}) == 8


def test_given_clicks_beyond_the_budget_and_outside_the_image_are_refused(annotator, env):
    image, category = _scene(env)
    with pytest.raises(InputError, match="no fewer than the 6 given"):
        annotator.segment(image, category, [Click(n, n, True) for n in range(6)])
    with pytest.raises(InputError, match="outside the"):
        annotator.segment(image, category, [Click(image.shape[1], 0, True)])


def test_an_agent_that_stops_at_once_answers_with_the_empty_mask(stopping, env):
    image, category = _scene(env)
    annotator = Annotator(stopping)
    result = annotator.segment(image, category)
    assert result.stopped
    assert (result.clicks, result.score, result.mask.any()) == ((), 0.0, False)
    assert annotator.segment(image, category, [Click(5, 5, True)]).clicks[0].given
    assert len(Annotator(stopping, env_kwargs={"target": "instance"}).segment_objects(image, category, 5)) == 1


def test_objects_are_found_one_by_one_and_share_no_pixel(instance_zip, env):
    annotator = Annotator(instance_zip)
    counts = []
    for index in range(6):
        image, category = _scene(env, index)
        results = annotator.segment_objects(image, category, 4)
        counts.append(len(results))
        assert np.sum([result.mask for result in results], axis=0).max() <= 1
        assert not any(result.fault for result in results[:-1])
        assert np.array_equal(results[0].mask, annotator.segment(image, category).mask)
        assert len(annotator.segment_objects(image, category, 1)) == 1
    assert max(counts) > 2


@pytest.mark.parametrize(
    ("filled", "score", "excluded_share", "fault"),
    [
        (True, 0.9, 0.0, ""),
        (True, 0.9, 0.4, ""),
        (True, 0.9, 0.8, "it is the rest of an object found before"),
        (True, 0.4, 0.0, "predicted IoU is below 0.5"),
        (False, 0.9, 1.0, "the mask is empty"),
    ],
)
def test_what_is_no_new_object_says_why(filled, score, excluded_share, fault):
    assert Result(np.full((4, 4), filled), score, (), False, excluded_share).fault == fault


def test_a_picture_is_embedded_once_for_all_categories_and_anew_when_its_pixels_change(run_folder, env):
    annotator = Annotator(run_folder, env_kwargs={"cache": False})
    image = _scene(env)[0].copy()
    for category in annotator.categories[:3]:
        annotator.segment(image, category)
    assert annotator.env.features.computed == 1
    image[:] = 0
    annotator.segment(image, annotator.categories[0])
    assert annotator.env.features.computed == 2


def test_an_implicit_agent_takes_the_categories_of_its_training_an_explicit_one_any_name(annotator, explicit_run, env):
    image = _scene(env)[0]
    with pytest.raises(InputError, match=r"category 'stra' is not in .*; did you mean star"):
        annotator.segment(image, "stra")
    explicit = Annotator(explicit_run)
    assert len(explicit.segment(image, "traffic light").clicks) == explicit.budget
    with pytest.raises(InputError, match="is no name"):
        explicit.segment(image, " \n")
    with pytest.raises(InputError, match="long"):
        explicit.segment(image, "light " * 500)


def test_names_that_training_left_out_cannot_be_asked_of_an_implicit_agent(run_folder, tmp_path, env):
    path = _described_anew(run_folder, tmp_path, env_kwargs={"categories": ["star"]})
    assert Annotator(path).categories == ("star",)
    with pytest.raises(InputError, match="category 'ring'"):
        Annotator(path).segment(_scene(env)[0], "ring")


def _pictures(env, count):
    samples = [env.dataset.get(index) for index in range(count)]
    images = [sample.image[: 100 + 20 * index] for index, sample in enumerate(samples)]  # of different shapes
    return images, [sample.category for sample in samples]


def test_photographs_side_by_side_have_the_clicks_that_each_has_alone(annotator, stopping, env):
    images, categories = _pictures(env, 5)
    for results in (annotator.segment_batch(images, categories), Annotator(stopping).segment_batch(images, categories)):
        assert [result.mask.shape for result in results] == [image.shape[:2] for image in images]
    alone = [annotator.segment(image, category) for image, category in zip(images, categories, strict=True)]
    for one, other in zip(annotator.segment_batch(images, categories), alone, strict=True):
        assert [each.click for each in one.clicks] == [each.click for each in other.clicks]
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert (one.mask == other.mask).mean() > 0.999
    assert annotator.segment_batch([], []) == []
    with pytest.raises(InputError, match="5 images, 4 categories"):
        annotator.segment_batch(images, categories[1:])


def test_photographs_side_by_side_go_on_each_from_its_own_clicks_within_its_own_budget(annotator, env):
    images, categories = _pictures(env, 3)
    clicks = [[], [Click(3, 4, True)], [Click(9, 9, False), Click(50, 60, True)]]
    masks = [[], [], []]
    together = annotator.segment_batch(
        images, categories, clicks, [5, 1, 4], lambda row, mask: masks[row].append(mask.copy())
    )
    assert [len(result.clicks) for result in together] == [5, 1, 4]
    for row, result in enumerate(together):
        alone = annotator.segment(images[row], categories[row], clicks[row], [5, 1, 4][row])
        assert [(each.click, each.given) for each in result.clicks] == [
            (each.click, each.given) for each in alone.clicks
        ]
        best = max(range(len(result.clicks)), key=lambda index: result.clicks[index].predicted_iou)
        assert len(masks[row]) == len(result.clicks)
        assert np.array_equal(masks[row][best], result.mask)
    with pytest.raises(InputError, match="no fewer than the 2 given"):
        annotator.segment_batch(images, categories, clicks, [5, 1, 1])


def test_several_pictures_can_be_kept_for_the_corrections_to_come(run_folder, env):
    annotator = Annotator(run_folder, env_kwargs={"cache": False}, keep=2)
    images, categories = _pictures(env, 3)
    for row in (0, 1, 0, 1, 2, 1):
        annotator.segment(images[row], categories[row])
    assert annotator.env.features.computed == 3
    annotator.segment(images[0], categories[0])
    assert annotator.env.features.computed == 4


def test_a_view_that_runs_backwards_is_a_picture_too(explicit_run):
    """As `cv2.imread(file)[..., ::-1]` gives it, of a size that is not resized for CLIP."""
    annotator, image = Annotator(explicit_run), np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    backwards, copied = (annotator.segment(each, "star") for each in (image[..., ::-1], image[..., ::-1].copy()))
    assert [each.click for each in backwards.clicks] == [each.click for each in copied.clicks]
    assert np.array_equal(backwards.mask, copied.mask)


def test_threads_that_share_one_get_what_each_would_get_alone(annotator, env):
    images, categories = _pictures(env, 4)
    expected = [annotator.segment(image, category) for image, category in zip(images, categories, strict=True)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(annotator.segment, images * 3, categories * 3))
    for result, one in zip(results, expected * 3, strict=True):
        assert [each.click for each in result.clicks] == [each.click for each in one.clicks]
        assert np.array_equal(result.mask, one.mask)


def test_a_warm_up_leaves_nothing_behind(run_folder, explicit_run):
    for run in (run_folder, explicit_run):
        annotator = Annotator(run)
        computed = annotator.env.features.computed
        annotator.warm_up()
        assert annotator.env.features.computed == computed


def test_it_is_imported_from_the_package_itself_which_does_not_load_torch_for_it():
    code = "import sys, sb3_alignsam; assert 'torch' not in sys.modules; print(sb3_alignsam.Annotator.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "Annotator\n"


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (700, 2), (33, 65)])
def test_any_shape_of_picture_gives_a_mask_of_its_shape(annotator, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert annotator.segment(image, "star", budget=2).mask.shape == size


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(annotator, image):
    with pytest.raises(InputError, match="an image is"):
        annotator.segment(image, "star")


def test_keywords_replace_those_of_training_but_for_the_datasets(run_folder, env):
    assert Annotator(run_folder, env_kwargs={"max_steps": 5, "text_model": "tiny"}).env.features.maps is not None
    for kwargs, words in (
        ({"root": "somewhere"}, "'root' says nothing about photographs"),
        ({"segmenter": "tinny"}, "segmenter 'tinny' is not known"),
        ({"num_patches": 8.5}, "'num_patches' needs a whole number"),
        ({"max_steps": 3}, "weights do not fit"),
    ):
        with pytest.raises(InputError, match=words):
            Annotator(run_folder, env_kwargs=kwargs)


def test_a_run_whose_dataset_is_gone_is_still_of_use(run_folder, tmp_path, env):
    kwargs = {"dataset": "coco", "root": "/no/such/folder", "split": "train2017"}
    path = _described_anew(run_folder, tmp_path, env_kwargs=kwargs)
    assert Annotator(path).segment(*_scene(env)).clicks


def test_a_zip_that_does_not_say_its_categories_is_refused(run_folder, tmp_path):
    with pytest.raises(InputError, match="does not say which categories it was trained on"):
        Annotator(_described_anew(run_folder, tmp_path, categories=[]))


def _described_anew(run, folder, **fields):
    """A copy of a run's zip with other fields in its description."""
    with zipfile.ZipFile(run / "SamSegShapes-v0.zip") as before, zipfile.ZipFile(folder / "agent.zip", "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name == DESCRIPTION_MEMBER:
                content = json.dumps(json.loads(content) | fields).encode()
            after.writestr(name, content)
    return folder / "agent.zip"
