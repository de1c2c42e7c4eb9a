from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import pytest

from sb3_alignsam.errors import InputError
from sb3_alignsam.keywords import check_keywords, parse_value
from sb3_alignsam.yaml_files import as_number


def _function(
    *,
    count: int = 1,
    share: float = 0.5,
    kind: Literal["a", "b"] = "a",
    names: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    path: str | None = None,
    on: bool = False,
) -> None:
    """Takes one of each."""  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-3", 1e-3), ("2.5E4", 2.5e4), ("true", True), ("[a, b]", ["a", "b"]), ("{gain: 1.0}", {"gain": 1.0}),
     ("lin_3e-4", "lin_3e-4"), ("e", "e"), ("1east", "1east"), ("/a/b", "/a/b")],
)  # fmt: skip
def test_values_are_read_as_yaml_and_numbers_as_numbers(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_what_is_no_yaml_is_quoted():
    with pytest.raises(InputError, match=r"value '\[a' cannot be read"):
        parse_value("[a")


def test_only_words_are_turned_into_numbers():
    assert as_number(None) is None
    assert as_number(["1e-3"]) == ["1e-3"]


@pytest.mark.parametrize(
    "values",
    [{}, {"count": 2}, {"share": 1}, {"share": 0.1}, {"kind": "b"}, {"names": ["x"]}, {"names": None}, {"on": True},
     {"weights": {"a": 1}}, {"path": "x"}],
)  # fmt: skip
def test_what_fits_the_signature_passes(values):
    check_keywords(_function, values, "keyword")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cuont": 2}, "keyword 'cuont' is not known; did you mean count"),
        ({"count": 2.5}, "keyword 'count' needs a whole number, got 2.5"),
        ({"count": True}, "needs a whole number"),
        ({"share": "much"}, "'share' needs a number, got 'much'"),
        ({"kind": "c"}, "needs one of a, b"),
        ({"names": "x"}, "needs a list or null"),
        ({"names": [1]}, "needs a list or null"),
        ({"weights": 3}, "needs a mapping or null"),
        ({"on": "yes"}, "needs true or false"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(values, words):
    with pytest.raises(InputError, match=words):
        check_keywords(_function, values, "keyword")


def test_hidden_parameters_cannot_be_set():
    with pytest.raises(InputError, match="'path' is not known"):
        check_keywords(_function, {"path": "x"}, "keyword", hidden=("path",))
