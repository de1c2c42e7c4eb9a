"""`sb3-alignsam predict`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sb3_alignsam.cli.options import PairsCommand, check_at_least, read_env_kwargs, trust_options
from sb3_alignsam.datasets.photographs import read_upright, read_upright_stream
from sb3_alignsam.envs.sam_seg_env import MAX_STEPS
from sb3_alignsam.errors import InputError
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.click_files import read_clicks
from sb3_alignsam.inference.prediction import PredictionFiles
from sb3_alignsam.policies.foreign import Trust


@click.command("predict", cls=PairsCommand)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--image", required=True, help="Image file, or - for standard input; at most 2**26 pixels (8192 x 8192).")
@click.option("--category", required=True, help="What to look for.")
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of results.")
@click.option("--load-best", is_flag=True, help="The best model on dev, not the last one.")
@click.option("--clicks", type=int, help="Clicks in all, those of --from-clicks included; else the run's budget.")
@click.option("--from-clicks", type=click.Path(path_type=Path), help="JSON of clicks that the agent goes on from.")
@click.option("--env-kwargs", multiple=True, metavar="KEY:VALUE ...", help="Replace keywords of the environment.")
@trust_options
def command(
    run: Path,
    image: str,
    category: str,
    out: Path,
    load_best: bool,
    clicks: int | None,
    from_clicks: Path | None,
    env_kwargs: tuple[str, ...],
    trust: bool,
    env_id: str | None,
) -> None:
    """Segment one photograph with an agent, RUN folder or zip: mask, overlay picture, and clicks as JSON.

    The JSON can be edited and given back with --from-clicks: a person's correction and the agent's next click share one
    episode. Pixels are those of the picture turned upright by its EXIF orientation.

    \b
    sb3-alignsam predict logs/ppo/SamSegShapes-v0_1 --image scene.png --category star -o out
    sb3-alignsam predict logs/ppo/SamSegShapes-v0_1 --image scene.png --category star -o out \\
        --from-clicks corrected.json --clicks 8
    """
    if clicks is not None:
        check_at_least("--clicks", clicks, 1)
        if clicks > MAX_STEPS:
            raise InputError(f"--clicks needs a whole number <= {MAX_STEPS}, got {clicks}")
    name = "stdin" if image == "-" else image
    pixels = read_upright_stream(sys.stdin.buffer, "standard input") if image == "-" else read_upright(image)
    given = [] if from_clicks is None else read_clicks(from_clicks, pixels.shape[:2])
    if clicks is not None and clicks < len(given):
        raise InputError(f"--clicks {clicks} is less than the {len(given)} clicks of {from_clicks}; give at least that")
    annotator = Annotator(run, load_best, read_env_kwargs(env_kwargs), Trust(trust, env_id))
    annotator.check_category(category)
    files = PredictionFiles.of(out, name, category)
    budget = max(annotator.budget, len(given)) if clicks is None else clicks
    if given and len(given) == budget:
        click.echo(f"the budget of {budget} clicks is used up, the agent adds none; --clicks {budget + 3} lets it")
    result = annotator.segment(pixels, category, given, budget)
    files.write(name, pixels, category, result)
    if not result.mask.any():
        click.echo(f"nothing was found: the mask of '{category}' is empty")
    click.echo(f"predicted IoU {result.score:.3f}, {len(result.clicks)} clicks")
    for path in (files.mask, files.overlay, files.clicks):
        click.echo(path)
