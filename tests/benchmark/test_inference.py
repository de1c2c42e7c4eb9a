"""What `benchmark infer` tells, not how fast it is."""

from __future__ import annotations

import json

import pytest

from sb3_alignsam.cli import main
from tests.cli.commands import assert_refused


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--device", "tpu"], "device 'tpu' is not there; on this machine: cpu"),
        (["--repeats", "0"], "--repeats needs a whole number >= 1"),
        (["--checkpoint", "sam.pt"], "--checkpoint is for repvit_sam"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(args, words, capsys):
    assert_refused(["benchmark", "infer", *args], words, capsys)


@pytest.mark.long
def test_whole_and_parts_are_told_for_torch_and_onnxruntime(tmp_path, capsys):
    path = tmp_path / "figures.json"
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", "infer", "--agent", "explicit", "--repeats", "2", "--threads", "1", "--json", str(path)])
    captured = capsys.readouterr()
    assert (ended.value.code, captured.err) == (0, "")
    assert max(map(len, captured.out.replace(str(path), "").splitlines())) <= 80
    assert "explicit, tiny, shipped weights" in captured.out
    figures = json.loads(path.read_text())
    assert (figures["clicks"], figures["repeats"], figures["threads"]) == (5, 2, 1)
    assert list(figures["rows"]) == ["torch", "onnxruntime"]
    for row in figures["rows"].values():
        assert set(row["networks_seconds"]) == {"sam_encoder", "clip", "policy", "sam_decoder"}
        for index in range(2):
            inside = sum(each["values"][index] for each in row["networks_seconds"].values())
            whole = row["whole_seconds"]["values"][index]
            assert 0 < inside < whole
            assert row["times_networks"]["values"][index] == pytest.approx(whole / inside)
        assert row["whole_seconds"]["median"] <= row["whole_seconds"]["p99"]
