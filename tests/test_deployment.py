"""The Dockerfile and docs/deploy.md, held against the package; no image is built here."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib

import pytest

from sb3_alignsam.cli.serve_command import command as serve
from tests.conftest import REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
PAGE = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
SETUP = (REPOSITORY / "setup.py").read_text(encoding="utf-8")


def instructions(name):
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)


def copied():
    """What the image is made from."""
    sources = [each.split()[:-1] for each in instructions("COPY") if not each.startswith("--from")]
    return {name for each in sources for name in each}


def test_what_is_copied_exists_and_is_sent_to_docker():
    tracked = subprocess.run(
        ["git", "ls-files", *copied()], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {path.partition("/")[0] for path in tracked} == copied()
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == copied()


def test_the_wheel_has_all_that_it_is_built_from():
    folders = set(re.findall(r'"sb3_alignsam\.[\w.]+": "(\w+)', SETUP))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["build-system"]
    licence = set(re.findall(r'license_files=\["(\w+)"\]', SETUP))
    assert folders | licence | {"setup.py", "pyproject.toml", "README.md", "sb3_alignsam"} <= copied()
    assert len(folders | licence) >= 3


def test_it_starts_a_command_of_the_package_on_the_port_that_it_names():
    (entry,), (arguments,), (port,) = map(instructions, ("ENTRYPOINT", "CMD", "EXPOSE"))
    assert f'"{json.loads(entry)[0]}=sb3_alignsam.cli:main"' in SETUP
    name, *rest = json.loads(arguments)
    assert name == "serve"
    given = parsed(rest)
    assert (given["host"], given["port"]) == ("0.0.0.0", int(port))
    assert f"http://127.0.0.1:{port}/health" in DOCKERFILE
    (extra,) = re.findall(r"\.whl\)\[(\w+)\]", DOCKERFILE)
    assert f'"{extra}": [' in SETUP


def test_it_has_what_opencv_asks_for_and_no_rights():
    (needed,) = re.findall(r'get="apt-get install -y ([^"]+)"', (REPOSITORY / "Makefile").read_text(encoding="utf-8"))
    (installed,) = re.findall(r"apt-get install -y --no-install-recommends ([\w. -]+?) +&&", DOCKERFILE)
    assert needed.split() == installed.split()
    assert instructions("USER") == ["agent"]
    assert DOCKERFILE.index("\nUSER ") < DOCKERFILE.index("\nENTRYPOINT ")


def test_torch_and_torchvision_are_those_that_are_tested():
    pinned = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    (line,) = [each for each in instructions("RUN") if "torchvision" in each]
    assert {"torch", "torchvision"} <= set(shlex.split(line))
    assert "--constraint /install/constraints.txt" in line
    assert {"torch==", "torchvision=="} <= set(re.findall(r"^torch(?:vision)?==", pinned, re.MULTILINE))


def test_the_pages_commands_have_options_that_exist():
    text = PAGE.replace("\\\n", " ")
    starts = re.findall(r"sb3-alignsam serve (/\S+(?: --[a-z-]+ \S+)*)", text)
    assert len(starts) == 2
    for start in starts:
        assert parsed(start.split())["run"].is_absolute()
    known = {name for each in serve.params for name in each.opts}
    assert set(re.findall(r"`(--(?:max-megabytes|timeout|rate|queue)[a-z-]*)`", text)) <= known


@pytest.mark.parametrize(
    ("pattern", "option"),
    [(r"client_max_body_size (\d+)m", "max_megabytes"), (r"proxy_read_timeout +(\d+)s", "timeout"),
     (r"TimeoutStopSec=(\d+)", "timeout"), (r"--stop-timeout (\d+)", "timeout")],
)  # fmt: skip
def test_what_stands_before_the_server_allows_more_than_it(pattern, option):
    (value,) = re.findall(pattern, PAGE)
    assert int(value) > parsed(["/agent"])[option]


def parsed(arguments):
    """Values of `serve`'s options; an unknown one is an error."""
    return serve.make_context("serve", list(arguments)).params
