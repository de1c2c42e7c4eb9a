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


def assert_refused(args, words, capsys):
    """A mistake is told in one line with these words on standard error, and the exit code is 2."""
    code, out, err = call(args, capsys)
    assert (code, out) == (2, "")
    assert words in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
