from __future__ import annotations

import pytest

from sb3_alignsam.errors import InputError
from sb3_alignsam.inference.files import as_json, write_whole


def test_a_write_that_fails_leaves_the_previous_file(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, as_json({"a": 1}))
    (tmp_path / "a.json.tmp").mkdir()
    with pytest.raises(InputError, match=r"a.json cannot be written"):
        write_whole(path, b"new")
    assert path.read_text() == '{\n "a": 1\n}\n'
    (tmp_path / "a.json.tmp").rmdir()
    write_whole(path, b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
