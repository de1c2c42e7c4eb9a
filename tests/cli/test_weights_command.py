"""`sb3-alignsam weights` as a user types it."""

from __future__ import annotations

import re
import shlex

import pytest

from sb3_alignsam.cli import main, weights_command
from sb3_alignsam.perception import weights
from tests.conftest import REPOSITORY
from tests.perception.published import sha256, write_manifest, write_vocabulary

VOCABULARY = "clip-bpe-vocabulary"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of stored weights, which does not exist yet."""
    monkeypatch.setenv("SB3_ALIGNSAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


@pytest.fixture
def vocabulary(home, tmp_path, monkeypatch):
    """A published file that the manifest knows; its address is nobody's."""
    file = write_vocabulary(tmp_path / "pairs.txt.gz")
    changes = {VOCABULARY: {"sha256": sha256(file), "address": "http://127.0.0.1:1/pairs.txt.gz"}}
    manifest = write_manifest(tmp_path / "weights.json", changes)
    monkeypatch.setattr(weights, "manifest_file", lambda: manifest)
    return file


@pytest.fixture
def call(capsys):
    """Exit code, standard output and standard error of `sb3-alignsam weights`."""

    def call(*args):
        with pytest.raises(SystemExit) as ended:
            main(["weights", *map(str, args)])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return call


def test_import_list_and_verify(call, home, vocabulary):
    assert call("verify") == (0, f"no weights in {home}\n", "")
    assert call("import", vocabulary) == (0, f"{home / VOCABULARY}\n", "")
    code, out, _ = call("list")
    assert code == 0
    rows = {line.split()[0]: line.split()[-1] for line in out.splitlines() if line.strip()}
    assert (rows["repvit_sam"], rows["clip-vit-base-patch16"], rows[VOCABULARY]) == ("no", "no", "yes")
    assert max(map(len, out.splitlines()[:-1])) <= 80
    assert "repvit_sam: digest not known here: fetch and import need --sha256" in out
    assert str(home) in out
    said = f"{VOCABULARY}: intact, made of the published bpe_simple_vocab_16e6.txt.gz\n"
    assert call("verify") == call("verify", VOCABULARY) == (0, said, "")


def test_damaged_weights_are_one_line_and_exit_code_2(call, home, vocabulary):
    call("import", vocabulary)
    (home / VOCABULARY / "vocab.json").write_text("{}")
    code, out, err = call("verify")
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: weights '{VOCABULARY}' in {home / VOCABULARY} are not as they were written")
    assert call("verify", "repvit_sam", VOCABULARY)[2].endswith("(and 1 more)\n")


def test_what_is_there_is_not_fetched_and_a_failing_network_is_exit_code_1(call, home, vocabulary):
    code, out, err = call("fetch", VOCABULARY)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("Error: http://127.0.0.1:1/pairs.txt.gz cannot be fetched: ")
    call("import", vocabulary)
    assert call("fetch", VOCABULARY) == (0, f"{VOCABULARY}: {home / VOCABULARY}\n", "")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["fetch"], "Missing argument 'NAME...'"),
        (["fetch", "repvitsam"], "weights 'repvitsam' is not known; did you mean repvit_sam"),
        (["fetch", "repvit_sam", VOCABULARY, "--sha256", "0" * 64], "--sha256 is the digest of one file"),
        (["fetch", "repvit_sam", "--sha256", "0x12"], "--sha256 needs 64 hexadecimal digits, got '0x12'"),
        (["import", "no/file.pt"], "no/file.pt does not exist, or is no file"),
        (["import", __file__], "neither its name nor its SHA-256 says what it is; add --name, one of repvit_sam"),
        (["import", __file__, "--name", "../x"], "weights '../x' is not known"),
        (
            ["verify", "repvit_sam"],
            "get them with: sb3-alignsam weights fetch repvit_sam; or from a file that you have",
        ),
        (["remove"], "No such command 'remove'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(call, home, args, words):
    code, _, err = call(*args)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
    assert not home.exists()


@pytest.mark.parametrize("command", ["list", "fetch", "import", "verify"])
def test_help_explains_each_command_with_an_example(call, command):
    code, out, _ = call(command, "--help")
    assert code == 0
    assert f"sb3-alignsam weights {command}" in out.replace("Usage: sb3-alignsam", "")


def test_every_command_of_the_page_can_be_parsed():
    page = (REPOSITORY / "docs" / "weights.md").read_text(encoding="utf-8")
    commands = re.findall(r"sb3-alignsam weights (\w.*?)(?:`|\s+#|$)", page, re.MULTILINE)
    assert {line.split()[0] for line in commands} == {"list", "fetch", "import", "verify"}
    for line in commands:
        name, *args = shlex.split(line)
        sub = weights_command.command.commands[name]
        context = sub.make_context(name, args, resilient_parsing=False)
        for named in context.params.get("names") or filter(None, [context.params.get("name")]):
            assert weights.weights_entry(named)
