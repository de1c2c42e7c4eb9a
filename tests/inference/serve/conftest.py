"""A real server on a free port of this machine, and pictures to send."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.serve.limits import Limits
from sb3_alignsam.inference.serve.server import Server, open_socket

OFTEN = {"per_minute": 1e6, "burst": 10**6}
"""Limits under which no test asks too often by accident."""


@pytest.fixture(scope="session")
def scene() -> np.ndarray:
    """A scene of the val split, (H, W, 3) uint8, which is no square."""
    return ShapesDataset("val").get(3).image[:200]


@pytest.fixture(scope="session")
def scene_png(scene: np.ndarray) -> bytes:
    """The same as a file."""
    return as_png(scene)


@pytest.fixture(scope="session")
def annotator(run_folder) -> Annotator:
    """The agent that `address` serves; requests to that and calls of this one share its lock."""
    return Annotator(run_folder, env_kwargs={"cache": False}, keep=4)


@pytest.fixture(scope="session")
def address(annotator) -> Iterator[str]:
    """Of a server of the Implicit agent."""
    with served(annotator) as address:
        yield address


@contextmanager
def served(annotator: Annotator, **limits: object) -> Iterator[str]:
    """Run a server in a thread of this process. :param limits: see `Limits`."""
    listening = open_socket("127.0.0.1", 0)
    server = Server(annotator, Limits(**{**OFTEN, **limits}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    with listening:
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def as_png(image: np.ndarray, **options: object) -> bytes:
    """A picture as a PNG file."""
    return as_file(image, "PNG", **options)


def as_file(image: np.ndarray, kind: str, **options: object) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()
