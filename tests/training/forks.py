"""Commands in processes of their own that need not import torch again: `Forks` starts one that forks for each command.

Run as a script it reads commands, JSON with their arguments, and answers each with the process id of its fork.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path


class Forks:
    """Starts `sb3-alignsam` commands. :param log: gets what they print."""

    def __init__(self, log: Path) -> None:
        self.log = log
        log.touch()
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.training.forks", str(log)],
            cwd=Path(__file__).resolve().parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self, args: Sequence[object], module: str = "sb3_alignsam.cli", env: Mapping[str, object] | None = None
    ) -> int:
        """Start a command; returns its process id, which leads a process group of its own.

        :param module: whose ``main`` is called with the arguments. :param env: variables of its environment.
        """
        variables = {key: str(value) for key, value in (env or {}).items()}
        return int(self._ask({"args": [str(each) for each in args], "module": module, "env": variables}))

    def start_ranks(
        self, args: Sequence[object], module: str = "sb3_alignsam.cli", env: Mapping[str, object] | None = None
    ) -> list[int]:
        """Start a command on two ranks, as torchrun does; returns their process ids. The rest is as of `start`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {
            "WORLD_SIZE": 2,
            "LOCAL_WORLD_SIZE": 2,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            **(env or {}),
        }
        return [self.start(args, module, {**shared, "RANK": rank, "LOCAL_RANK": rank}) for rank in range(2)]

    def wait(self, pid: int) -> int:
        """Wait for a command to end; returns its exit code, or minus the signal that killed it."""
        return int(self._ask(pid))

    def close(self) -> None:
        """End the process that forks."""
        self._server.communicate()

    def _ask(self, request: object) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline()


def _serve(log: str) -> None:
    import torch as th

    import sb3_alignsam.cli.train_command  # noqa: F401 what takes seconds is imported once

    th.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, int):
            _, status = os.waitpid(request, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
        with open(log, "ab", buffering=0) as output, open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os.environ.update(request["env"])
        try:
            import_module(request["module"]).main(request["args"])
            os._exit(0)
        except SystemExit as ended:
            # As at the end of any process, but for what the parent has registered.
            sys.stdout.flush()
            os._exit(ended.code if isinstance(ended.code, int) else 1)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(70)


if __name__ == "__main__":
    _serve(sys.argv[1])
