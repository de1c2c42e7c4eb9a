"""Whatever ends a job, its file is of use to the next start, or says why not."""

from __future__ import annotations

import json

import pytest

from sb3_alignsam.errors import InputError
from sb3_alignsam.inference.progress import Progress

CONFIGURATION = {"categories": ["star"], "max-objects": 20}


@pytest.fixture
def path(tmp_path):
    progress = Progress(tmp_path / "p.jsonl", CONFIGURATION)
    for name in ("a", "b", "c"):
        progress.add({"image": name, "objects": []})
    return progress.path


def test_what_was_added_is_there_at_the_next_start_and_the_latest_line_counts(path):
    Progress(path, CONFIGURATION).add({"image": "b", "objects": [1]})
    again = Progress(path, CONFIGURATION)
    assert sorted(again.entries) == ["a", "b", "c"]
    assert again.entries["b"]["objects"] == [1]


def test_cut_anywhere_the_file_loses_at_most_the_line_that_was_cut(path):
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        progress = Progress(path, CONFIGURATION)
        assert len(progress.entries) == max(content[:length].count(b"\n") - 1, 0)
        progress.add({"image": "d"})
        assert "d" in Progress(path, CONFIGURATION).entries
        assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_last_line_that_a_power_cut_left_as_zeros_is_taken_away(path):
    path.write_bytes(path.read_bytes() + bytes(30) + b"\n")
    assert len(Progress(path, CONFIGURATION).entries) == 3


def test_a_damaged_line_before_the_last_is_named_and_nothing_is_lost(path):
    lines = path.read_bytes().splitlines(keepends=True)
    content = b"".join([*lines[:2], b"{,}\n", *lines[2:]])
    path.write_bytes(content)
    with pytest.raises(InputError, match="line 3 is damaged"):
        Progress(path, CONFIGURATION)
    assert path.read_bytes() == content


def test_another_configuration_is_refused_by_what_differs(path):
    content = path.read_bytes()
    with pytest.raises(InputError, match="begun with another max-objects; choose another place with -o"):
        Progress(path, CONFIGURATION | {"max-objects": 3})
    assert path.read_bytes() == content


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"image": "a"}\n')
    with pytest.raises(InputError, match="was not written by this command"):
        Progress(tmp_path / "p.jsonl", CONFIGURATION)
