"""The wheel, as a user gets it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import REPOSITORY

NEEDED = (
    "sb3_alignsam/zoo_configs/ppo.yml",
    "sb3_alignsam/zoo_configs/maskable_ppo.yml",
    "sb3_alignsam/zoo_configs/ppo_explicit.yml",
    "sb3_alignsam/zoo_configs/maskable_ppo_explicit.yml",
    "sb3_alignsam/zoo_configs/spaces/ppo.yml",
    "sb3_alignsam/perception/tiny/weights/tiny_clip.safetensors",
    "sb3_alignsam/perception/tiny/CLIP_MODEL_CARD.md",
    "sb3_alignsam/third_party/weights.json",
    "sb3_alignsam/perception/tiny/weights/tiny_sam.safetensors",
    "sb3_alignsam/perception/tiny/MODEL_CARD.md",
    "sb3_alignsam/inference/serve/page/index.html",
    "sb3_alignsam/inference/serve/page/page.js",
    "sb3_alignsam/version.txt",
    "sb3_alignsam/py.typed",
)


@pytest.mark.long
def test_the_wheel_holds_every_module_and_runs_the_demo_from_elsewhere(tmp_path):
    source = tmp_path / "source"
    # Built from what git tracks, in a copy: a build leaves folders behind.
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(source)], check=True)
    build = [
        sys.executable,
        "-m",
        "build",
        "--quiet",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(source),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(source)) for path in (source / "sb3_alignsam").rglob("*.py")}
    assert (modules | set(NEEDED)) - names == set()
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    demo = [sys.executable, "-m", "sb3_alignsam", "demo", "-n", "256", "--episodes", "4", "-f", "logs"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    result = subprocess.run(demo, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (elsewhere / "logs" / "maskable_ppo" / "SamSegShapes-v0_1" / "report" / "eval_val.png").is_file()
