"""What the commands share: rl-zoo3's ``key:value`` options and one-line errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sb3_alignsam.errors import InputError
from sb3_alignsam.keywords import parse_value

log_folder_option = click.option(
    "--log-folder",
    "-f",
    default="logs",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Root of run folders.",
)

PIPE_WIDTH = 120
"""Columns of a table that goes to no terminal."""

PAIRS_OPTIONS = ("--env-kwargs", "-params", "--hyperparams")


class PairsCommand(click.Command):
    """A command whose `PAIRS_OPTIONS` take any number of values, as argparse's ``nargs='+'`` does in rl-zoo3."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each of its values, which is the form that click understands."""
        regrouped: list[str] = []
        current: str | None = None
        for arg in args:
            if arg in PAIRS_OPTIONS:
                current = "--hyperparams" if arg == "-params" else arg
            elif arg.startswith("-") or current is None:
                current = None
                regrouped.append(arg)
            else:
                regrouped += [current, arg]
        return super().parse_args(ctx, regrouped)


def trust_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--trust`` and ``--env``: what a user says about a zip of others."""
    trust = click.option("--trust", is_flag=True, help="Unpickle a zip of others, which runs its author's code.")
    env = click.option("--env", "env_id", help="What a zip of others was trained on, where no run folder says it.")
    return trust(env(function))


def table_console() -> Console:
    """Where tables are printed: as wide as the terminal; in a file or a pipe, which have no width, as wide as they are
    rather than cut to rich's 80 columns."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def read_pairs(pairs: Iterable[str], option: str) -> dict[str, Any]:
    """``key:value`` pairs as a mapping, values read as YAML.

    :raises InputError: a pair has no colon or no key.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, colon, text = pair.partition(":")
        if not colon or not key:
            raise InputError(f"{option} takes key:value pairs, got '{pair}'")
        values[key] = parse_value(text)
    return values


def read_env_kwargs(pairs: Iterable[str]) -> dict[str, Any]:
    """``--env-kwargs`` as a mapping.

    :raises InputError: a pair cannot be read, or sets what the commands themselves decide.
    """
    values = read_pairs(pairs, "--env-kwargs")
    if "subset" in values:
        raise InputError("--env-kwargs subset is chosen by the command: training leaves out what the best is chosen on")
    return values


def check_at_least(name: str, value: int, least: int) -> None:
    """:raises InputError: the option's value is too small."""
    if value < least:
        raise InputError(f"{name} needs a whole number >= {least}, got {value}")
