from __future__ import annotations

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sb3_alignsam.errors import InputError, RunError
from sb3_alignsam.perception.fetching import fetch_weights, import_weights
from sb3_alignsam.perception.weight_files import check_stored
from tests.perception.published import entry_of, sha256, write_manifest

CLIP, VOCABULARY = "clip-vit-base-patch16", "clip-bpe-vocabulary"


class _Server(ThreadingHTTPServer):
    """Serves one file at every path, in the way that the path says."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        server.asked.append(self.path)
        way = self.path.split("/")[1]
        if way == "gone":
            self.send_error(404)
            return
        if way == "moved":
            self.send_response(302)
            self.send_header("Location", "/whole/file")
            self.end_headers()
            return
        content = server.content
        self.send_response(200)
        if way == "chunks":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n" % len(content) + content[: len(content) // 2])
            return
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if way == "cut" else content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(vocabulary):
    with _Server(vocabulary.read_bytes()) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def serve(server, manifest, vocabulary):
    """Let the manifest's vocabulary lie at a path of the server's, with a digest."""

    def serve(way: str, digest: str | None = sha256(vocabulary)) -> str:
        address = f"http://127.0.0.1:{server.server_port}/{way}/file"
        write_manifest(manifest, {VOCABULARY: {"address": address, "sha256": digest}})
        return address

    return serve


def _left(home):
    return {path.name for path in home.iterdir()}


@pytest.mark.parametrize("way", ["whole", "moved"])
def test_weights_are_fetched_once(server, serve, home, vocabulary, way):
    serve(way)
    path = fetch_weights(VOCABULARY)
    assert path == home / VOCABULARY
    assert check_stored(entry_of(VOCABULARY)) == sha256(vocabulary)
    assert _left(home) == {".lock", VOCABULARY}
    asked = len(server.asked)
    assert fetch_weights(VOCABULARY) == path
    assert len(server.asked) == asked


def test_damaged_weights_are_fetched_anew(server, serve, home, vocabulary):
    serve("whole")
    (fetch_weights(VOCABULARY) / "vocab.json").write_text("{}")
    fetch_weights(VOCABULARY)
    assert len(server.asked) == 2
    assert check_stored(entry_of(VOCABULARY)) == sha256(vocabulary)


@pytest.mark.parametrize(
    ("way", "words"), [("cut", "broke off after"), ("chunks", "IncompleteRead"), ("gone", "answered 404")]
)
def test_a_download_that_fails_is_one_line_and_leaves_nothing(serve, home, way, words):
    address = serve(way)
    with pytest.raises(RunError, match=f"^{address} .*{words}.*weights import bpe_simple_vocab_16e6.txt.gz") as caught:
        fetch_weights(VOCABULARY)
    assert "\n" not in str(caught.value)
    assert _left(home) == {".lock"}


def test_an_address_where_nobody_answers_is_one_line(manifest, home):
    # Bound, so that nobody else gets the port, and not listening.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/file"
        write_manifest(manifest, {VOCABULARY: {"address": address}})
        with pytest.raises(RunError, match=f"{address} cannot be fetched: Connection refused"):
            fetch_weights(VOCABULARY)
    assert _left(home) == {".lock"}


def test_other_content_than_the_manifest_says_is_refused_and_earlier_weights_stay(serve, server, home, vocabulary):
    serve("whole")
    path = fetch_weights(VOCABULARY)
    before = sha256(path / "vocab.json")
    serve("whole", "0" * 64)
    with pytest.raises(RunError, match=f"has SHA-256 {sha256(vocabulary)}, not {'0' * 64}: nothing was stored"):
        fetch_weights(VOCABULARY)
    assert sha256(path / "vocab.json") == before
    assert _left(home) == {".lock", VOCABULARY}


def test_without_a_known_digest_the_user_is_told_the_one_that_was_seen(serve, home, vocabulary):
    serve("whole", None)
    command = f"sb3-alignsam weights fetch {VOCABULARY} --sha256 {sha256(vocabulary)}"
    with pytest.raises(InputError, match=f"none is known here to compare with, so nothing was stored.*{command}$"):
        fetch_weights(VOCABULARY)
    with pytest.raises(InputError, match=r"nothing was stored$"):
        fetch_weights(VOCABULARY, "1" * 64)
    assert _left(home) == {".lock"}
    assert fetch_weights(VOCABULARY, sha256(vocabulary).upper()).is_dir()


def test_a_download_that_holds_something_else_is_named_by_its_address(serve, server, home):
    server.content = b"Please log in"
    digest = hashlib.sha256(server.content).hexdigest()
    address = serve("whole", digest)
    with pytest.raises(InputError, match=f"^{address} is not a readable .gz file"):
        fetch_weights(VOCABULARY)
    assert _left(home) == {".lock"}


def test_a_file_is_known_by_its_digest_or_else_by_its_name(manifest, vocabulary, tmp_path):
    assert import_weights(vocabulary).name == VOCABULARY
    file = tmp_path / "repvit_sam.pt"
    file.write_bytes(b"no weights")
    digest = sha256(file)
    with pytest.raises(InputError) as caught:
        import_weights(file)
    assert str(caught.value) == (
        f"{file} has SHA-256 {digest}, and none is known here: not imported. If it is one that you trust: "
        f"sb3-alignsam weights import {file} --name repvit_sam --sha256 {digest}"
    )
    with pytest.raises(InputError, match="is damaged, or holds other objects than tensors"):
        import_weights(file, sha256=digest)


def test_a_digest_that_does_not_fit_is_refused(manifest, vocabulary, tmp_path):
    file = tmp_path / "my pairs.gz"
    file.write_bytes(vocabulary.read_bytes() + b"\n")
    with pytest.raises(InputError, match="neither its name nor its SHA-256 says what it is; add --name, one of repvit"):
        import_weights(file)
    with pytest.raises(
        InputError, match=f"not {sha256(vocabulary)} as the published .* import '.*/my pairs.gz' --name"
    ):
        import_weights(file, VOCABULARY)
    with pytest.raises(InputError, match=f"has SHA-256 {sha256(file)}, not {'a' * 64}$"):
        import_weights(file, VOCABULARY, "A" * 64)
    for digest in ("abc", "", "g" * 64, "a" * 64 + "\n"):
        with pytest.raises(InputError, match="--sha256 needs 64 hexadecimal digits"):
            import_weights(file, VOCABULARY, digest)


def test_a_known_file_is_not_imported_as_something_else(manifest, vocabulary):
    with pytest.raises(InputError, match=f"which is {VOCABULARY} and not repvit_sam$"):
        import_weights(vocabulary, "repvit_sam", sha256(vocabulary))


@pytest.mark.parametrize("file", ["nowhere.pt", "."])
def test_what_is_no_file_is_refused(home, tmp_path, file):
    with pytest.raises(InputError, match="does not exist, or is no file"):
        import_weights(tmp_path / file)
    assert not home.exists()
