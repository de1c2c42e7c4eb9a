from __future__ import annotations

import numpy as np

from sb3_alignsam.evaluation.parts import Parts
from tests.evaluation.made_up import episode_id, made_record


def _batch():
    ids = [episode_id(0, 11, "star"), episode_id(3, 14, "ring")]
    scores = np.random.default_rng(0).random((2, 3))
    return ids, [made_record("agent", scores), made_record("oracle", scores / 3, True)]


def test_what_was_kept_comes_back_exactly(tmp_path):
    ids, records = _batch()
    Parts(tmp_path, {"a": 1}).write(4, ids, records)
    read_ids, read_records = Parts(tmp_path, {"a": 1}).read(4)
    assert read_ids == ids
    for read, record in zip(read_records, records, strict=True):
        assert read.to_plain() == record.to_plain()
        assert read.answer_iou.dtype == np.float64
        assert read.clicks == record.clicks


def test_another_evaluation_sees_nothing_of_it(tmp_path):
    parts = Parts(tmp_path, {"clicks": 5})
    parts.write(0, *_batch())
    assert Parts(tmp_path, {"clicks": 6}).read(0) is None
    assert parts.read(1) is None
    parts.remove()
    assert parts.read(0) is None
    assert list(tmp_path.iterdir()) == []


def test_a_torn_part_is_ignored(tmp_path):
    parts = Parts(tmp_path, {})
    parts.write(0, *_batch())
    (path,) = parts.folder.iterdir()
    whole = path.read_bytes()
    for torn in (whole[:-1], whole[: len(whole) // 2], b"", b"\xff\xfe", whole.replace(b"oracle", b"orakel")):
        path.write_bytes(torn)
        assert parts.read(0) is None
    path.write_bytes(whole)
    assert parts.read(0) is not None
