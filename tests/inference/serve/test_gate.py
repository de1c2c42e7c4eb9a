"""What happens to requests that come too often, too slowly, or too many at once."""

from __future__ import annotations

import gc
import socket
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.serve.batching import Batcher, Job
from sb3_alignsam.inference.serve.limits import Limits
from tests.inference.serve.conftest import served
from tests.inference.serve.test_app import post


class Held(Annotator):
    """An agent that waits in each call until it is let go on."""

    def __init__(self, run):
        super().__init__(run, env_kwargs={"cache": False})
        self.begun, self.go_on, self.sizes = threading.Semaphore(0), threading.Event(), []

    def segment_batch(self, images, *more):
        self.sizes.append(len(images))
        self.begun.release()
        self.go_on.wait(60)
        return super().segment_batch(images, *more)


@pytest.fixture
def held(run_folder):
    return Held(run_folder)


def test_one_request_too_many_is_told_to_come_again_and_the_others_are_answered(held, scene_png):
    with served(held, waiting=3) as address, ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(post, address, scene_png, category="star") for _ in range(3)]
        held.begun.acquire()
        _wait_until(address, lambda health: health["in_progress"] == 3)
        refused = post(address, scene_png, category="star")
        assert (refused.status_code, int(refused.headers["Retry-After"]) >= 1) == (503, True)
        assert "busy with 3 requests" in refused.json()["detail"]
        held.go_on.set()
        assert [each.result().status_code for each in sent] == [200] * 3
        assert post(address, scene_png, category="star").status_code == 200


def test_requests_that_wait_are_played_side_by_side_and_a_bad_one_harms_no_other(held, scene, scene_png):
    with served(held, batch=4) as address, ThreadPoolExecutor(8) as pool:
        first = pool.submit(post, address, scene_png, category="star")
        held.begun.acquire()
        names = ["star", "stra", "ring", "cross", "heart", "circle"]
        sent = [pool.submit(post, address, scene_png, category=name) for name in names]
        _wait_until(address, lambda health: health["in_progress"] == 7)
        held.go_on.set()
        assert first.result().status_code == 200
        assert [each.result().status_code for each in sent] == [200, 422, 200, 200, 200, 200]
        assert [each.result().json().get("category") for each in sent if each.result().ok] == [
            name for name in names if name != "stra"
        ]
        assert held.sizes[0] == 1
        assert sorted(held.sizes[1:]) in ([1, 4], [2, 3])


def test_a_call_that_fails_for_one_is_made_again_for_each(run_folder, scene_png):
    class Failing(Held):
        def segment_batch(self, images, categories, *more):
            results = super().segment_batch(images, categories, *more)
            if "cross" in categories:
                raise RuntimeError("out of memory")
            return results

    failing = Failing(run_folder)
    with served(failing) as address, ThreadPoolExecutor(8) as pool:
        first = pool.submit(post, address, scene_png, category="star")
        failing.begun.acquire()
        sent = [pool.submit(post, address, scene_png, category=name) for name in ("ring", "cross", "heart")]
        _wait_until(address, lambda health: health["in_progress"] == 4)
        failing.go_on.set()
        assert [first.result().status_code, *(each.result().status_code for each in sent)] == [200, 200, 500, 200]
        assert "its log says why" in sent[1].result().json()["detail"]
        assert requests.get(f"{address}/health", timeout=60).json()["in_progress"] == 0


def test_a_client_that_asks_too_often_is_told_when_to_come_again(annotator, scene_png):
    with served(annotator, per_minute=6, burst=2) as address:
        answers = [post(address, scene_png, category="star") for _ in range(3)]
        assert [each.status_code for each in answers] == [200, 200, 429]
        assert 1 <= int(answers[2].headers["Retry-After"]) <= 10
        assert requests.get(f"{address}/health", timeout=60).status_code == 200


def test_a_request_that_takes_too_long_is_given_up_and_not_worked_on(held, scene_png):
    with served(held, seconds=0.3, batch=1) as address, ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(post, address, scene_png, category=name) for name in ("star", "ring", "cross")]
        assert [each.result().status_code for each in sent] == [503] * 3
        assert "more than 0.3 seconds" in sent[0].result().json()["detail"]
        held.go_on.set()
    assert held.sizes == [1]


def test_a_request_that_was_given_up_leaves_no_upload_behind(annotator):
    batcher = Batcher(annotator, Limits())  # its thread is not started, as if it were busy
    jobs = [Job(bytes(100), 1, ("star",)) for _ in range(2)]
    for job in jobs:
        batcher.submit(job)
    given_up, waiting = (weakref.ref(job) for job in jobs)
    jobs[0].answer.cancel()
    del job, jobs
    gc.collect()
    assert given_up() is None
    assert waiting() is not None


def test_an_upload_that_does_not_end_is_given_up(annotator):
    with served(annotator, seconds=0.3) as address:
        answer = _raw(address, b"Content-Length: 1000\r\n", b"--x\r\n")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"more than 0.3 seconds" in answer


def test_an_upload_that_does_not_say_how_long_it_is_is_cut_off(annotator):
    with served(annotator, upload_bytes=1000) as address:
        chunk = b"%x\r\n%b\r\n" % (800, bytes(800))
        answer = _raw(address, b"Transfer-Encoding: chunked\r\n", chunk * 2 + b"0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_leaves_takes_no_room(annotator, scene_png):
    with served(annotator, waiting=1) as address:
        for _ in range(3):
            with _connected(address) as client:
                client.sendall(_head(b"Content-Length: 1000\r\n") + b"--x\r\n")
        _wait_until(address, lambda health: health["in_progress"] == 0)
        assert post(address, scene_png, category="star").status_code == 200


def test_at_its_end_it_finishes_what_it_works_on_and_sends_the_others_away(held, scene_png):
    with ThreadPoolExecutor(8) as pool:
        with served(held) as address:
            first = pool.submit(post, address, scene_png, category="star")
            held.begun.acquire()
            second = pool.submit(post, address, scene_png, category="star")
            _wait_until(address, lambda health: health["in_progress"] == 2)
            threading.Timer(0.5, held.go_on.set).start()
        assert first.result().status_code == 200
        assert second.result().status_code == 503
        assert "the server ends" in second.result().json()["detail"]


def _wait_until(address, condition):
    for _ in range(1000):
        if condition(requests.get(f"{address}/health", timeout=60).json()):
            return
    raise AssertionError("it never came")


def _connected(address):
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def _head(headers):
    kind = b"Content-Type: multipart/form-data; boundary=x\r\n"
    return b"POST /segment HTTP/1.1\r\nHost: localhost\r\n" + kind + headers + b"\r\n"


def _raw(address, headers, body):
    """What comes back until the connection ends."""
    with _connected(address) as client:
        client.sendall(_head(headers + b"Connection: close\r\n") + body)
        return b"".join(iter(lambda: client.recv(4096), b""))
