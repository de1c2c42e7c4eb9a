"""`sb3-alignsam serve` as a user types it."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from sb3_alignsam.inference.serve.server import is_loopback, open_socket
from tests.cli.commands import assert_refused
from tests.conftest import REPOSITORY
from tests.inference.serve.conftest import as_png
from tests.inference.serve.test_app import post

LOCAL = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
WARNING = "warning: 0.0.0.0 can be reached from other machines, and there is no password\n"


@pytest.mark.parametrize(
    ("host", "number", "code", "shown"),
    [
        (LOCAL, signal.SIGTERM, 143, "Stopped: the server has ended\n"),
        (EVERYWHERE, signal.SIGINT, 130, f"{WARNING}\nStopped.\n"),
    ],
)
def test_it_serves_until_a_signal_ends_it_and_writes_no_file(host, number, code, shown, run_folder, tmp_path):
    before = _files(run_folder)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    environment["SB3_ALIGNSAM_HOME"] = str(tmp_path / "cache")
    command = [sys.executable, "-m", "sb3_alignsam", "serve", str(run_folder), "--host", host, "--port", "0"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=_begin,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = int(re.match(rf"http://{re.escape(host)}:(\d+)/ ", process.stdout.readline()).group(1))
        noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)  # over the 1 MB of a temporary file
        answer = post(f"http://{LOCAL}:{port}", as_png(noise), category="star").status_code
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert answer == 200
    assert (process.returncode, out, err) == (code, "", shown)
    assert _files(tmp_path) == []
    assert _files(run_folder) == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--port", "TAKEN"], "Address already in use"),
        (["--port", "70000"], "is not in the range"),
        (["--host", "no such host"], "cannot listen on no such host"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
        (["--queue", "0"], "--queue needs a whole number >= 1"),
        (["--timeout", "0"], "--timeout needs a number above 0"),
        (["--rate", "inf"], "--rate needs a number above 0"),
        (["--max-megabytes", "nan"], "--max-megabytes needs a number above 0"),
        (["--max-megapixels", "100"], "the limit 'pixels' must be at most"),
        (["--env-kwargs", "root:x"], "'root' says nothing about photographs"),
    ],
)
def test_a_mistake_is_one_line(args, words, run_folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        args = [str(taken.getsockname()[1]) if each == "TAKEN" else each for each in args]
        assert_refused(["serve", run_folder, *args], words, capsys)


def test_it_knows_which_addresses_only_this_machine_reaches():
    assert [is_loopback(host) for host in ("127.0.0.1", "127.3.2.1", "::1", "0.0.0.0", "::", "192.0.2.1")] == [
        *[True] * 3,
        *[False] * 3,
    ]
    with open_socket("localhost", 0) as listening:
        assert is_loopback(listening.getsockname()[0])


def _begin():
    """Writing a byte into any file fails, also into one without a name."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # also where the tests run in the background


def _files(folder):
    return sorted(str(path) for path in folder.rglob("*") if path.is_file())
