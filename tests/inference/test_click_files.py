from __future__ import annotations

import json

import pytest

from sb3_alignsam.errors import InputError
from sb3_alignsam.inference.annotator import PlacedClick
from sb3_alignsam.inference.click_files import click_entry, read_clicks
from sb3_alignsam.perception import Click

SIZE = (60, 80)


def test_what_is_written_is_read_again(tmp_path):
    clicks = [Click(0, 0, True), Click(79, 59, False)]
    path = tmp_path / "clicks.json"
    path.write_text(json.dumps({"clicks": [click_entry(PlacedClick(each, 0.5, given=False)) for each in clicks]}))
    assert read_clicks(path, SIZE) == clicks


def test_a_person_need_not_write_more_than_places_and_labels(tmp_path):
    path = tmp_path / "clicks.json"
    path.write_text('{"clicks": [{"x": 12, "y": 8, "positive": true}]}')
    assert read_clicks(path, SIZE) == [Click(12, 8, True)]
    path.write_text('{"clicks": []}')
    assert read_clicks(path, SIZE) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no valid JSON"),
        ("[" * 100_000, "no valid JSON"),
        ("\ud800", "no valid JSON"),
        ("[1, 2]", "no list 'clicks'"),
        ('{"clicks": {}}', "no list 'clicks'"),
        ('{"clicks": [7]}', "click 1 is 7"),
        ('{"clicks": [{"x": 1, "y": 1, "positive": true}, {"y": 1, "positive": true}]}', "click 2: 'x' is None"),
        ('{"clicks": [{"x": 80, "y": 1, "positive": true}]}', "'x' is 80; it must be .* from 0 to 79"),
        ('{"clicks": [{"x": 1, "y": -1, "positive": true}]}', "'y' is -1"),
        ('{"clicks": [{"x": 1.5, "y": 1, "positive": true}]}', "'x' is 1.5"),
        ('{"clicks": [{"x": true, "y": 1, "positive": true}]}', "'x' is True"),
        ('{"clicks": [{"x": NaN, "y": 1, "positive": true}]}', "'x' is nan"),
        ('{"clicks": [{"x": 1, "y": 1, "positive": 1}]}', "'positive' is 1"),
        ('{"width": 640, "height": 480, "clicks": []}', "made for an image of 640x480 pixels, this one has 80x60"),
        (json.dumps({"clicks": [{"x": 1, "y": 1, "positive": True}] * 1001}), "at most 1000"),
    ],
)  # fmt: skip
def test_what_cannot_be_placed_is_one_line_that_says_why(content, words, tmp_path):
    path = tmp_path / "clicks.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match=words) as caught:
        read_clicks(path, SIZE)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none.json cannot be read .* --from-clicks"):
        read_clicks(tmp_path / "none.json", SIZE)
