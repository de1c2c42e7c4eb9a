"""How the tests of commands type them."""

from __future__ import annotations

import pytest

from sb3_alignsam.cli import main


def call(args, capsys):
    """Exit code, standard output and standard error of a command run in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in args])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err
