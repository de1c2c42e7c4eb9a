"""``versions.yml``: what a run was made with, and how that differs from what is here now."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch as th
import yaml

import sb3_alignsam
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.errors import InputError
from sb3_alignsam.yaml_files import read_yaml

FILE = "versions.yml"
PACKAGES = (
    "gymnasium",
    "numpy",
    "opencv-python",
    "pillow",
    "pycocotools",
    "safetensors",
    "sb3-contrib",
    "stable-baselines3",
    "timm",
    "torch",
    "torchvision",
    "transformers",
)
"""Those that decide numbers."""


def current_versions(device: str, env: SamSegEnv) -> dict[str, Any]:
    """What a run is made with: package versions, machine, device, commit of a checkout, and the frozen weights.

    :param device: of the policy, resolved. :param env: for its networks.
    """
    networks = {"segmenter": env.segmenter, "text_model": env.features.text_model}
    weights = {name: network.weights_digest for name, network in networks.items() if network is not None}
    return {
        "sb3-alignsam": sb3_alignsam.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "machine": f"{platform.system()} {platform.machine()}",
        "device": device,
        "accelerator": th.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "threads": th.get_num_threads(),
        "weights": weights,
    }


def write_versions(folder: Path, env_id: str, versions: Mapping[str, Any]) -> None:
    """Write them beside a run's ``args.yml``."""
    path = folder / env_id / FILE
    temporary = path.with_name(FILE + ".tmp")
    temporary.write_text(yaml.safe_dump(dict(versions), sort_keys=False), encoding="utf-8")
    os.replace(temporary, path)


def differences(inner: Path, now: Mapping[str, Any]) -> list[str]:
    """How the run of a configuration's folder was made otherwise than `now`, a line for each difference.

    :param inner: folder with ``versions.yml``, which need not be there.
    """
    try:
        before = dict(_flat(read_yaml(inner / FILE).content))
    except InputError as error:
        return [f"what the run was made with is not known: {error}"]
    here = dict(_flat(now))
    names = [name for name in {**before, **here} if before.get(name) != here.get(name)]
    return [f"{name}: {_shown(before.get(name))} then, {_shown(here.get(name))} now" for name in names]


def _shown(value: Any) -> str:
    """A version or the start of a digest."""
    return "none" if value is None else str(value)[:20]


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from value.items()
        else:
            yield name, value


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Of the checkout that this package runs from, with ``+changes`` where files differ from it; None: it is none."""
    root = Path(sb3_alignsam.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *args: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # reading must not write to the user's repository
    done = subprocess.run(
        ["git", "-C", str(root), *args], env=environment, capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()
