"""Published files, small and real, and a cache folder and a manifest of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from sb3_alignsam.perception import weights
from tests.perception.published import sha256, small_clip, write_archive, write_manifest, write_vocabulary


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP as OpenAI publishes one."""
    return write_archive(tmp_path_factory.mktemp("published") / "clip.pt", small_clip())


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of byte pairs as OpenAI publishes one."""
    return write_vocabulary(tmp_path_factory.mktemp("published") / "pairs.txt.gz")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of stored weights, which does not exist yet."""
    monkeypatch.setenv("SB3_ALIGNSAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


@pytest.fixture
def manifest(home: Path, archive: Path, vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest that knows the digests of `archive` and `vocabulary`."""
    changes = {
        "clip-vit-base-patch16": {"sha256": sha256(archive)},
        "clip-bpe-vocabulary": {"sha256": sha256(vocabulary)},
    }
    path = write_manifest(tmp_path / "weights.json", changes)
    monkeypatch.setattr(weights, "manifest_file", lambda: path)
    return path
