from __future__ import annotations

from sb3_alignsam.tracking.journal import Journal, read_entries


def _values(path, offset=0):
    return [entry for entry, _ in read_entries(path, offset)]


def test_entries_are_read_as_they_were_written_and_from_any_offset(tmp_path):
    path = tmp_path / "a" / "journal.jsonl"
    journal = Journal(path, print)
    for number in range(3):
        journal.append({"n": number, "nan": float("nan")})
    assert [each["n"] for each in _values(path)] == [0, 1, 2]
    (_, end), *_ = read_entries(path)
    assert [each["n"] for each in _values(path, end)] == [1, 2]


def test_a_line_that_a_kill_has_torn_is_left_out_and_replaced(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, print).append({"n": 0})
    with path.open("ab") as file:
        file.write(b'{"n": 1, "va')
    assert _values(path) == [{"n": 0}]
    Journal(path, print).append({"n": 2})
    assert _values(path) == [{"n": 0}, {"n": 2}]


def test_a_damaged_line_does_not_hide_those_behind_it(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"n": 0}\n\xff\xfe\n[1]\n{"n": 3}\n')
    assert _values(path) == [{"n": 0}, None, None, {"n": 3}]


def test_where_nothing_can_be_written_entries_wait_and_it_is_told_once(tmp_path):
    lines = []
    (tmp_path / "tracking").write_text("in the way")
    journal = Journal(tmp_path / "tracking" / "journal.jsonl", lines.append)
    journal.append({"n": 0})
    journal.append({"n": 1})
    assert len(lines) == 1
    assert "training goes on" in lines[0]
    (tmp_path / "tracking").unlink()
    journal.append({"n": 2})
    assert [each["n"] for each in _values(journal.path)] == [0, 1, 2]
    assert len(lines) == 1


def test_without_a_journal_there_are_no_entries(tmp_path):
    assert _values(tmp_path / "none") == []
