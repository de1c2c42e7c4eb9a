"""`sb3-alignsam serve`."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import click

from sb3_alignsam.cli.options import PairsCommand, check_at_least, read_env_kwargs, trust_options
from sb3_alignsam.errors import InputError
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.policies.foreign import Trust

KEPT_IMAGES = 32
"""Images whose features stay in memory: a person who corrects clicks sends the same one again and again."""


@click.command("serve", cls=PairsCommand)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; the default is this machine."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option("--max-megabytes", default=20.0, show_default=True, help="Of an upload.")
@click.option("--max-megapixels", default=16.8, show_default=True, help="Of an image.")
@click.option("--rate", default=120.0, show_default=True, help="Requests a minute of one client.")
@click.option("--queue", default=32, show_default=True, help="Requests at once; one more is answered 503.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds that a request may take, waiting included.")
@click.option("--batch", default=8, show_default=True, help="Episodes played side by side.")
@click.option("--load-best", is_flag=True, help="The best model on dev, not the last one.")
@click.option("--env-kwargs", multiple=True, metavar="KEY:VALUE ...", help="Replace keywords of the environment.")
@trust_options
def command(
    run: Path,
    host: str,
    port: int,
    max_megabytes: float,
    max_megapixels: float,
    rate: float,
    queue: int,
    timeout: float,
    batch: int,
    load_best: bool,
    env_kwargs: tuple[str, ...],
    trust: bool,
    env_id: str | None,
) -> None:
    """Serve an agent, RUN folder or zip, with a web page where a person corrects its clicks (extra 'serve').

    There is no password: only this machine reaches the server unless --host says otherwise. Nothing that a client sends
    is written to a file.

    \b
    sb3-alignsam serve logs/ppo/SamSegShapes-v0_1
    curl -F image=@scene.png -F category=star http://127.0.0.1:8000/segment
    """
    if not all(find_spec(name) for name in ("fastapi", "uvicorn", "python_multipart")):
        raise InputError("serve needs the extra 'serve': pip install 'sb3-alignsam[serve]'")
    from sb3_alignsam.inference.serve.limits import Limits
    from sb3_alignsam.inference.serve.server import is_loopback, open_socket, serve

    for name, value in (("--queue", queue), ("--batch", batch)):
        check_at_least(name, value, 1)
    numbers = {
        "--max-megabytes": max_megabytes,
        "--max-megapixels": max_megapixels,
        "--rate": rate,
        "--timeout": timeout,
    }
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise InputError(f"{name} needs a number above 0, got {number}")
    limits = Limits(
        upload_bytes=int(max_megabytes * 1e6),
        pixels=int(max_megapixels * 1e6),
        per_minute=rate,
        burst=max(1, int(rate / 4)),
        waiting=queue,
        seconds=timeout,
        batch=batch,
    )
    kwargs = {"cache": False, **read_env_kwargs(env_kwargs)}
    annotator = Annotator(run, load_best, kwargs, Trust(trust, env_id), keep=KEPT_IMAGES)
    listening = open_socket(host, port)
    bound, port = listening.getsockname()[:2]
    if not is_loopback(bound):
        click.echo(f"warning: {bound} can be reached from other machines, and there is no password", err=True)
    click.echo(f"http://{f'[{bound}]' if ':' in bound else bound}:{port}/  (the API: /docs; Ctrl-C ends it)")
    serve(annotator, limits, listening)
