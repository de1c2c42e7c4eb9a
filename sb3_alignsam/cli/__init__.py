"""The command line: each command parses and calls, nothing more."""

from __future__ import annotations

import sys
from importlib import import_module

import click

import sb3_alignsam
from sb3_alignsam.errors import InputError, RunError, RunStopped

COMMANDS = (
    "train", "eval", "demo", "record", "plot", "predict", "annotate", "validate", "export", "serve", "optimize",
    "sync", "cache", "weights", "benchmark",
)  # fmt: skip


class LazyGroup(click.Group):
    """Loads a command's module when it is called, so that ``--help`` does not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return import_module(f"sb3_alignsam.cli.{name}_command").command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(sb3_alignsam.__version__, prog_name="sb3-alignsam")
def group() -> None:
    """Train, evaluate and use agents that place clicks for the Segment Anything Model."""


def main(args: list[str] | None = None) -> None:
    """Run a command; a user's mistake is one line on standard error and exit code 2."""
    try:
        code = group.main(args, prog_name="sb3-alignsam", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except (InputError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"Error: {' '.join(message.split())}", err=True)
        sys.exit(2)
    except RunStopped as stopped:
        if str(stopped):
            click.echo(f"Stopped: {stopped}", err=True)
        sys.exit(stopped.exit_code)
    except RunError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
