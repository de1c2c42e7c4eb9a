from __future__ import annotations

import pytest

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.datasets.loading import load_dataset
from sb3_alignsam.errors import InputError


def test_shapes_choose_the_best_model_on_their_own_dev_split():
    assert load_dataset("shapes").split == "train"
    assert load_dataset("shapes", "val", subset="dev").split == "dev"
    assert load_dataset("shapes", "val", subset="fit").split == "val"


def test_dev_and_fit_share_no_image_and_together_are_the_split(tmp_path):
    ShapesDataset("val").write_coco(tmp_path, 60)
    parts = {}
    for subset in ("all", "fit", "dev"):
        dataset = load_dataset("coco", "val", root=tmp_path, subset=subset)
        parts[subset] = set(dataset.configure_targets(None)[1])
    assert parts["fit"] | parts["dev"] == parts["all"]
    assert not parts["fit"] & parts["dev"]
    assert 1 <= len(parts["dev"]) <= 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "cocoa"}, "dataset 'cocoa' is not known"),
        ({"name": "coco"}, "needs the folder that holds it: root:FOLDER"),
        ({"name": "shapes", "root": "x"}, "it has no root"),
    ],
)
def test_what_cannot_be_opened_is_named(arguments, words):
    with pytest.raises(InputError, match=words):
        load_dataset(**arguments)


def test_one_category_may_be_given_without_a_list():
    assert len(load_dataset("shapes", "val", categories="star")) == 63
