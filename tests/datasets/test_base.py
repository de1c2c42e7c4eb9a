from __future__ import annotations

import pytest

from sb3_alignsam.datasets.base import check_categories
from sb3_alignsam.errors import InputError
from tests.conftest import square_sample


def test_the_union_covers_every_instance():
    sample = square_sample()
    assert sample.union.sum() == sample.instances.sum()


def test_an_unknown_category_is_answered_with_near_ones():
    with pytest.raises(InputError, match="category 'stra' is not in shapes; did you mean star"):
        check_categories(["ring", "stra"], ["ring", "star"], "shapes")


def test_known_categories_come_back_once_each_in_order():
    assert check_categories(["b", "a", "b"], ["a", "b", "c"], "x") == ["b", "a"]
