"""`sb3-alignsam export`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from tqdm import tqdm

from sb3_alignsam.cli.options import PairsCommand, check_at_least, read_env_kwargs, trust_options
from sb3_alignsam.evaluation.agents import load_agent
from sb3_alignsam.evaluation.protocol import spread
from sb3_alignsam.evaluation.report import check_writable, write_json
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.export import FORMATS, RUNNER, export_agent
from sb3_alignsam.inference.parity import compare
from sb3_alignsam.inference.runner import Runner
from sb3_alignsam.policies.foreign import Trust


@click.command("export", cls=PairsCommand)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(tuple(FORMATS)), default="onnx", show_default=True)
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of graphs.")
@click.option("--half", is_flag=True, help="SAM and CLIP in float16: half the size.")
@click.option("--categories", help="To ask an Explicit agent for, beside those of training; commas between.")
@click.option("--check", default=0, help="Also play so many episodes with the agent and with what was exported.")
@click.option("--split", help="Whose episodes; else val of shapes, or the run's own.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures of --check here.")
@click.option("--load-best", is_flag=True, help="The best model on dev, not the last one.")
@click.option("--env-kwargs", multiple=True, metavar="KEY:VALUE ...", help="Replace keywords of the environment.")
@trust_options
def command(
    run: Path,
    kind: str,
    out: Path,
    half: bool,
    categories: str | None,
    check: int,
    split: str | None,
    json_file: Path | None,
    load_best: bool,
    env_kwargs: tuple[str, ...],
    trust: bool,
    env_id: str | None,
) -> None:
    """Write an agent, RUN folder or zip, as graphs for onnxruntime or torch.export.

    Policy, SAM's encoder and decoder, and CLIP's image encoder where the agent reads similarity maps; agent.json with
    class names, grid, preprocessing and digests; and runner.py, which segments photographs with them and needs neither
    torch nor this package.

    \b
    sb3-alignsam export logs/ppo/SamSegShapes-v0_1 --format onnx -o exported --check 200
    python exported/runner.py scene.png star mask.png
    """
    check_at_least("--check", check, 0)
    if json_file is not None:
        check_writable(json_file)
    kwargs, trusted = read_env_kwargs(env_kwargs), Trust(trust, env_id)
    names = tuple(dict.fromkeys(name.strip() for name in categories.split(","))) if categories else ()
    dataset = load_agent(run, split, load_best, kwargs, trusted).env.dataset if check else None
    annotator = Annotator(run, load_best, kwargs, trusted)
    written = export_agent(annotator, out, kind, half=half, categories=names)
    for graph in written:
        click.echo(f"{graph.path}  {graph.size / 1e6:.1f} MB, relative difference {graph.difference:.1g}")
    click.echo(out / RUNNER)
    if dataset is None:
        return
    indices = spread(len(dataset), check)
    with tqdm(total=len(indices), disable=not sys.stdout.isatty(), unit="episode", leave=False) as bar:
        parity = compare(annotator, Runner(out), [dataset.get(index) for index in indices], bar.update)
    click.echo(
        f"{parity.episodes} episodes: the same clicks in {parity.same_clicks}, {100 * parity.pixels_equal:.3f} % of "
        f"pixels equal (worst {100 * parity.worst:.2f} %), mIoU {parity.miou:.4f} and exported "
        f"{parity.exported_miou:.4f}"
    )
    if json_file is not None:
        write_json({"format": kind, "half": half, **parity.figures()}, json_file)
        click.echo(f"figures: {json_file}")
