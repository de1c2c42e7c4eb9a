"""What the README and the docs tell a user to type."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from sb3_alignsam.cli import COMMANDS
from tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def test_the_readmes_script_runs_as_it_stands(tmp_path):
    (script,) = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.DOTALL)
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=_environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"^(?:\.venv/bin/)?sb3-alignsam (\w+)", text, re.MULTILINE))
    assert named <= set(COMMANDS)
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)`", text)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.long
@pytest.mark.parametrize(("file", "env_kwargs"), [("ppo", []), ("ppo_explicit", ["--env-kwargs", "text_model:'tiny'"])])
def test_rl_zoo3_trains_on_the_shipped_file(tmp_path, file, env_kwargs):
    command = [sys.executable, "-m", "rl_zoo3.train", "--algo", "ppo", "--env", "SamSegShapes-v0", "-n", "128"]
    command += ["--gym-packages", "sb3_alignsam", "--conf-file", str(REPOSITORY / "zoo_configs" / f"{file}.yml")]
    command += ["-params", "n_envs:2", "n_steps:32", "-f", str(tmp_path), "--eval-freq", "-1", *env_kwargs]
    result = subprocess.run(command, cwd=tmp_path, env=_environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "ppo" / "SamSegShapes-v0_1" / "SamSegShapes-v0.zip").is_file()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}
