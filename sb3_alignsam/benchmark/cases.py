"""How the process of a case talks with the benchmark that started it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from sb3_alignsam.errors import InputError

MISTAKE = 2
"""Exit code where the user's words cannot be used; standard error says why."""


def answer(play: Callable[..., dict[str, Any]]) -> None:
    """Read a case as JSON from standard input, play it, write its figures as JSON to standard output."""
    try:
        figures = play(**json.load(sys.stdin))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(MISTAKE)
    print(json.dumps(figures))
