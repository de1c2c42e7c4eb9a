"""What the benchmark tells, not how fast it is: a test must not depend on who else uses the machine."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch as th
from rich.console import Console

from sb3_alignsam.benchmark.perception import encode_as_trained, photograph, random_repvit_sam
from sb3_alignsam.benchmark.tables import print_perception
from sb3_alignsam.benchmark.timing import Spread, cores, ratio, take_turns, threads
from sb3_alignsam.cli import main
from sb3_alignsam.perception.loading import load_network

ROWS = [
    "encode",
    "cache hit",
    *(f"{envs} env{'s' * (envs > 1)}, {clicks}" for envs in (1, 4, 16, 64) for clicks in ("1 click", "5 clicks")),
]


def _call(args, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", *map(str, args)])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_the_table_fits_80_columns_and_the_json_holds_what_it_shows(tmp_path, capsys):
    path = tmp_path / "figures.json"
    before = th.get_num_threads()
    args = ["perception", "--segmenter", "tiny", "--repeats", 2, "--threads", 1, "--clip", "--json", path]
    code, out, err = _call(args, capsys)
    assert (code, err) == (0, "")
    assert max(map(len, out.replace(str(path), "").splitlines())) <= 80
    assert "tiny, shipped weights, image 480×640" in out
    assert "…" not in out
    assert all(sum(line.lstrip().startswith(row) for line in out.splitlines()) >= 1 for row in ROWS)
    assert "Peak memory of the whole process" in out
    assert th.get_num_threads() == before

    figures = json.loads(path.read_text())
    assert (figures["threads"], figures["repeats"], figures["device"]) == (1, 2, "cpu")
    assert figures["peak_memory_bytes"] > 1e8
    assert [group["name"] for group in figures["groups"]] == ["tiny", "clip_surgery, ViT-B/16"]
    rows = [row for group in figures["groups"] for row in group["rows"]]
    assert [row["what"] for row in rows] == [*ROWS, "image_tokens"]
    for row in rows:
        compared = row["what"] not in ("cache hit", "image_tokens")
        keys = ["product_seconds", *(["baseline_seconds", "times_faster"] if compared else [])]
        assert sorted(row) == sorted(["what", *keys])
        for key in keys:
            low, high = row[key]["quartiles"]
            assert len(row[key]["values"]) == 2
            assert 0 < low <= row[key]["median"] <= high


@pytest.mark.parametrize("seconds", [0.0000123, 0.0987654, 0.9876, 98.76])
def test_the_widest_figures_are_not_cut_off(seconds, capsys):
    spread = Spread((seconds, 1.1 * seconds)).figures()
    names = ("product_seconds", "baseline_seconds")
    row = {"what": ROWS[-1], "times_faster": Spread((12.3, 13.4)).figures(), **dict.fromkeys(names, spread)}
    group = {"name": "x", "weights": "y", "image_shape": [480, 640], "rows": [row]}
    about = {"processor": "p", "threads": 2, "cores": 2, "device": "cpu", "torch": "2.15.0", "repeats": 10}
    print_perception({**about, "groups": [group], "peak_memory_bytes": None}, Console(width=80))
    out = capsys.readouterr().out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--repeats", "0"], "--repeats needs a whole number >= 1, got 0"),
        (["--repeats", "many"], "'many' is not a valid integer"),
        (["--threads", "0"], f"--threads needs a whole number from 1 to {cores()}"),
        (["--threads", cores() + 1], f"--threads needs a whole number from 1 to {cores()}"),
        (["--segmenter", "huge"], "'huge' is not one of 'tiny', 'repvit_sam'"),
        (["--device", "abacus"], "device 'abacus' is not there"),
        (["--segmenter", "tiny", "--checkpoint", "x.pt"], "--checkpoint is for repvit_sam"),
        (["--segmenter", "repvit_sam", "--checkpoint", "none.pt"], "none.pt does not exist"),
        (["--segmenter", "tiny", "--json", "/"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(args, words, capsys):
    code, out, err = _call(["perception", *args], capsys)
    assert (code, out) == (2, "")
    assert words in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_an_unknown_part_is_named(capsys):
    code, _, err = _call(["perceptoin"], capsys)
    assert code == 2
    assert err.startswith("Error: No such command 'perceptoin'.")


def test_help_shows_examples(capsys):
    for args in (["--help"], ["perception", "--help"]):
        code, out, _ = _call(args, capsys)
        assert code == 0
        assert "sb3-alignsam benchmark perception --threads 2 --json figures.json" in out


def test_both_encoders_give_the_same_embedding(segmenter):
    image = photograph((48, 64))
    as_trained = encode_as_trained(load_network("tiny"), segmenter, image)
    assert th.allclose(as_trained, segmenter.encode([image]), atol=1e-3, rtol=1e-3)


def test_random_weights_are_the_same_each_time_and_fit(segmenter):
    first, second = random_repvit_sam(0), random_repvit_sam(0)
    assert all(th.equal(first[key], second[key]) for key in first)
    network = load_network("repvit_sam", first)
    inside = []
    network.encoder.neck[0].register_forward_pre_hook(lambda module, inputs: inside.append(inputs[0].std()))
    with th.inference_mode():
        embedding = network.encoder(th.randn(1, 3, 64, 64))
    assert embedding.std() > 0.1
    # Neither lost nor blown up on the way, which would make rounding the result, and no export could be checked.
    assert 0.1 < inside[0] < 10


def test_the_picture_has_smooth_areas_and_grain():
    image = photograph((480, 640)).astype(float)
    assert image.shape == (480, 640, 3)
    assert image.std() > 3 * np.abs(np.diff(image, axis=1)).mean() > 10
    assert np.array_equal(image, photograph((480, 640)))


def test_calls_take_turns_after_one_to_warm_up():
    seen = []
    spreads = take_turns(
        {"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 3, step=lambda: seen.append("|")
    )
    assert "".join(seen) == "abab|ab|ab|"
    assert {name: len(spread.values) for name, spread in spreads.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_of_each_round_and_its_spread_of_all_rounds():
    faster = ratio(Spread((2.0, 30.0, 4.0)), Spread((1.0, 10.0, 4.0)))
    assert faster.values == (2.0, 3.0, 1.0)
    assert (faster.median, faster.quartiles) == (2.0, (1.5, 2.5))
    assert faster.figures() == {"median": 2.0, "quartiles": [1.5, 2.5], "values": [2.0, 3.0, 1.0]}


def test_threads_are_given_back_after_an_error():
    before = th.get_num_threads()
    seen = []

    def fail():
        with threads(before + 1):
            seen.append(th.get_num_threads())
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert (seen, th.get_num_threads()) == ([before + 1], before)
