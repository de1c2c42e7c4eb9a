"""Figures of a benchmark as tables of at most 80 columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PERCEPTION_LEGEND = """\
Median (quartiles) of a call's time; baseline and product take turns in one run.
encode: one image. Baseline: the network as trained, in contiguous memory.
  Product: branches and BatchNorms fused, channels-last memory.
N envs, K clicks: Segmenter.segment, one call for all. Baseline:
  transformers' SamModel.forward, a call for each environment."""
ENV_LEGEND = """\
Median (quartiles) of turns; a turn plays every kind once, at random actions.
steps/s: of all environments together. of limit: of what bare calls of the
  dataset, the encoder and the segmenter would allow, one after the other.
segmenter: share of the time in Segmenter.segment; subproc has it elsewhere."""
TRAIN_LEGEND = """\
Median (quartiles) over iterations, each a rollout and its update.
of limit: of what bare calls of the same process would allow, one after the
  other, every core free for each. memory: most of all processes together,
  what they share counted once (PSS)."""

DATA_LEGEND = """\
processor: seconds of one core, whatever else the machine does. memory: most of
the process, libraries included; of a worker: what no other process shares.
sample: median (quartiles) of decoding, resizing for SAM and building masks."""


TRACKING_LEGEND = """\
Median (quartiles) over blocks, which take turns. on: MLflow, films, checkpoints
and pictures; off: none of them. Time in evaluations is not counted.
end: what is left is sent after training, before the process ends."""


DISTRIBUTED_LEGEND = """\
Median (quartiles) of turns, each an update by one rank and one by all, every
rank on a core of its own with one thread. The rollouts are as many steps, of
one rank's environments or of all ranks'. waiting: share of the ranks' update
that the first one spends on sending, and on waiting for the others."""


INFER_LEGEND = """\
A photograph of {shape}, from pixels to mask, {clicks} clicks; median and p99 over
photographs, on which torch and onnxruntime take turns. Networks: all of their
calls in such a run together. times networks: median (quartiles) of the whole
as a multiple of their sum."""


def print_perception(figures: dict[str, Any], console: Console) -> None:
    """Show what `benchmark_perception` found."""
    _print_machine(figures, console, f"{figures['threads']} threads, {figures['repeats']} repeats")
    for group in figures["groups"]:
        height, width = group["image_shape"]
        console.print(f"\n{group['name']}, {group['weights']}, image {height}×{width}", highlight=False)
        console.print(_table(group["rows"]))
    console.print(f"\n{PERCEPTION_LEGEND}", highlight=False)
    if figures["peak_memory_bytes"] is not None:
        console.print(f"Peak memory of the whole process: {figures['peak_memory_bytes'] / 1e6:.0f} MB", highlight=False)


def print_env(figures: dict[str, Any], console: Console) -> None:
    """Show what `benchmark_env` found."""
    said = f"{figures['steps']} steps of each environment, {figures['repeats']} turns"
    _print_machine(figures, console, said)
    _print_workload(figures, console)
    table = _columns("", "steps/s", "times dummy", "of limit", "segmenter")
    for row in figures["rows"]:
        for kind, each in row["kinds"].items():
            share = each["segment_share"]
            table.add_row(
                f"{row['num_envs']} {kind}",
                _cell(each["steps_per_second"]),
                _cell(each["times_dummy"]),
                _cell(each["of_limit"]),
                "-" if share is None else f"{share['median']:.2f}",
            )
    console.print(table)
    console.print(f"\n{ENV_LEGEND}", highlight=False)


def print_train(figures: dict[str, Any], console: Console) -> None:
    """Show what `benchmark_train` found."""
    _print_machine(figures, console, f"{figures['iterations']} iterations")
    _print_workload(figures, console)
    rows = figures["rows"]
    said = f"{figures['algo']}, {figures['agent']}, {rows[0]['num_envs']} environments, {figures['vec_env']}"
    console.print(said, highlight=False)
    table = _columns("", *(f"images {row['images']}" for row in rows))
    for name, cell in _TRAIN_ROWS:
        table.add_row(name, *(cell(row) for row in rows))
    console.print(table)
    console.print(f"\n{TRAIN_LEGEND}", highlight=False)


def print_data(figures: dict[str, Any], console: Console) -> None:
    """Show what `benchmark_data` found."""
    _print_machine(figures, console, "one process each")
    said = f"{figures['images']:,} images, {figures['annotations']:,} annotations, {_megabytes(figures['json_bytes'])}"
    console.print(f"\n{said} of JSON, index {_megabytes(figures['index_bytes'])}, made up", highlight=False)
    table = _columns("", "time", "processor", "memory")
    for name, part in (("opened the first time", "first"), ("opened from its index", "again")):
        row = figures["open"][part]
        times = (f"{_short(row[key])} s" for key in ("seconds", "cpu_seconds"))
        table.add_row(name, *times, _megabytes(row["peak_bytes"]))
    workers = figures["workers"]
    table.add_row("each worker's own share", "", "", _megabytes(max(workers["private_bytes"])))
    samples = figures["samples"]
    name = f"a sample of {samples['instances']:.1f} instances"
    table.add_row(name, *(_duration(samples[key]) for key in ("seconds", "cpu_seconds")), "")
    console.print(table)
    console.print(f"\n{DATA_LEGEND}", highlight=False)


def print_tracking(figures: dict[str, Any], console: Console) -> None:
    """Show what `benchmark_tracking` found."""
    said = f"{figures['blocks']} blocks of {figures['seconds']:g} s"
    _print_machine(figures, console, said)
    _print_workload(figures, console)
    table = _columns("", "on", "off")
    on, off = figures["on"], figures["off"]
    table.add_row("steps/s", *(_cell(each["steps_per_second"]) for each in (on, off)))
    table.add_row("steps", *(str(each["steps"]) for each in (on, off)))
    table.add_row("films", *(str(each["films"]) for each in (on, off)))
    table.add_row("checkpoints", *(str(each["checkpoints"]) for each in (on, off)))
    table.add_row("end of a run", _duration(on["end_seconds"]), "-")
    console.print(table)
    console.print(f"\non / off: {_cell(figures['ratio'])} of the steps a second", highlight=False)
    console.print(f"\n{TRACKING_LEGEND}", highlight=False)


def print_distributed(figures: dict[str, Any], console: Console) -> None:
    """Show what `benchmark_distributed` found."""
    _print_machine(figures, console, f"{figures['repeats']} turns")
    _print_workload(figures, console)
    said = f"{figures['algo']}, {figures['agent']}, {figures['num_envs']} environments, {figures['steps']} steps"
    console.print(said, highlight=False)
    table = _columns("", "1 rank", f"{figures['ranks']} ranks", "times faster", "waiting")
    cells = (_duration(figures["alone_seconds"]), _duration(figures["together_seconds"]))
    table.add_row("update", *cells, _cell(figures["ratio"]), f"{figures['waiting_share']['median']:.2f}")
    console.print(table)
    console.print(f"\n{DISTRIBUTED_LEGEND}", highlight=False)


_TRAIN_ROWS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("steps/s", lambda row: _cell(row["steps_per_second"])),
    ("steps/s, start included", lambda row: _short(row["steps"] / row["wall_seconds"])),
    ("rollout, a step", lambda row: _duration(row["rollout_seconds_per_step"])),
    ("update, a step", lambda row: _duration(row["update_seconds_per_step"])),
    ("segmenter's share of a rollout", lambda row: _cell(row["segment_share_of_rollout"])),
    ("limit, steps/s", lambda row: _short(row["limit_steps_per_second"])),
    ("of limit", lambda row: _cell(row["of_limit"])),
    ("bare: draw a sample", lambda row: f"{_short(1000 * row['bare']['draw'])} ms"),
    ("bare: encode an image", lambda row: f"{_short(1000 * row['bare']['encode'])} ms"),
    ("bare: segment a click", lambda row: f"{_short(1000 * row['bare']['segment'])} ms"),
    ("memory", lambda row: _megabytes(row["peak_pss_bytes"]) + f", {row['processes']} processes"),
    ("stored, a step", lambda row: f"{_short(row['stored_bytes_per_step'] / 1e3)} kB"),
    ("policy's weights", lambda row: f"{_short(row['policy_bytes'] / 1e3)} kB"),
    ("largest zip", lambda row: f"{_short(max(row['zip_bytes'].values()) / 1e3)} kB"),
)


def print_infer(figures: dict[str, Any], console: Console) -> None:
    """Show what `benchmark_infer` found."""
    said = f"{figures['threads']} threads, {figures['repeats']} photographs"
    _print_machine(figures, console, said)
    console.print(f"\n{figures['agent']}, {figures['segmenter']}, {figures['weights']}", highlight=False)
    rows = figures["rows"]
    table = _columns("", *(f"{backend}, p99" for backend in rows))
    table.add_row("whole agent", *(_latency(row["whole_seconds"]) for row in rows.values()))
    for name in next(iter(rows.values()))["networks_seconds"]:
        table.add_row(name, *(_latency(row["networks_seconds"][name]) for row in rows.values()))
    table.add_row("times networks", *(_cell(row["times_networks"]) for row in rows.values()))
    console.print(table)
    shape = "×".join(str(side) for side in figures["image_shape"])
    console.print(f"\n{INFER_LEGEND.format(shape=shape, clicks=figures['clicks'])}", highlight=False)


def _latency(seconds: dict[str, Any]) -> str:
    return f"{_short(1000 * seconds['median'])} ms, {_short(1000 * seconds['p99'])} ms"


def _print_machine(figures: dict[str, Any], console: Console, said: str) -> None:
    console.print(figures["processor"], highlight=False)
    about = f"{figures['cores']} cores, device {figures['device']}, torch {figures['torch']}, {said}"
    console.print(about, highlight=False)


def _print_workload(figures: dict[str, Any], console: Console) -> None:
    console.print(f"\n{figures['env_id']}, {figures['segmenter']}, {figures['weights']}", highlight=False)


def _megabytes(size: int | None) -> str:
    return "not known" if size is None else f"{size / 1e6:.0f} MB"


def _columns(*titles: str) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if index else "left", no_wrap=True)
    return table


def _table(rows: list[dict[str, Any]]) -> Table:
    table = _columns("", "baseline", "product", "times faster")
    for row in rows:
        table.add_row(
            row["what"],
            _duration(row.get("baseline_seconds")),
            _duration(row["product_seconds"]),
            _cell(row["times_faster"]) if "times_faster" in row else "-",
        )
    return table


def _duration(spread: dict[str, Any] | None) -> str:
    if spread is None:
        return "-"
    return _cell(spread, 1, " s") if spread["median"] >= 1 else _cell(spread, 1000, " ms")


def _cell(spread: dict[str, Any], scale: float = 1, unit: str = "") -> str:
    low, high = spread["quartiles"]
    return f"{_short(scale * spread['median'])}{unit} ({_short(scale * low)}..{_short(scale * high)})"


def _short(value: float) -> str:
    """Three digits that count, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
