"""Runs the application until a signal ends it."""

from __future__ import annotations

import ipaddress
import signal
import socket
from types import FrameType

import uvicorn

from sb3_alignsam.errors import InputError, RunStopped
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.serve.app import make_app
from sb3_alignsam.inference.serve.batching import MOST_WAIT
from sb3_alignsam.inference.serve.limits import Limits


class Server(uvicorn.Server):
    """Tells requests that wait at its end to come again later; what is being worked on is finished.

    :param annotator: belongs to the server from here on.
    """

    def __init__(self, annotator: Annotator, limits: Limits) -> None:
        app = make_app(annotator, limits)
        self._batcher = app.state.batcher
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                timeout_graceful_shutdown=int(limits.seconds) + 1,
                timeout_keep_alive=2 * MOST_WAIT,  # Longer than a client that comes again is told to wait.
                server_header=False,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn once it is told to end."""
        self._batcher.close()
        await super().shutdown(sockets)


def open_socket(host: str, port: int) -> socket.socket:
    """Where the server will listen. :param port: 0: any free one.

    :raises InputError: it cannot listen there.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot listen on {host}, port {port} ({reason}); choose another --host or --port") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. :param host: of a socket, a number."""
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def serve(annotator: Annotator, limits: Limits, listening: socket.socket) -> None:
    """Answer requests until Ctrl-C or SIGTERM.

    :param annotator: as for `Server`. :param listening: of `open_socket`; is closed.
    :raises RunStopped: SIGTERM came. :raises KeyboardInterrupt: Ctrl-C came.
    """
    previous = signal.signal(signal.SIGTERM, _terminated)  # uvicorn raises what came once more at its end.
    try:
        with listening:
            Server(annotator, limits).run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise RunStopped("the server has ended", 128 + number)
