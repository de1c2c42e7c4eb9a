"""`sb3-alignsam cache` as a user types it, and what it saves an environment."""

from __future__ import annotations

import numpy as np
import pytest

from sb3_alignsam.cli import main
from sb3_alignsam.datasets.shapes import ShapesDataset
from sb3_alignsam.envs import make_env
from sb3_alignsam.perception import FeatureCache
from tests.training.forks import Forks

SCENES = 8


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Drawn scenes as a COCO folder: several categories an image."""
    root = tmp_path_factory.mktemp("coco")
    ShapesDataset("dev").write_coco(root, SCENES)
    return root


def _call(args, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in args])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def _arguments(coco, *more):
    return ["cache", "--env", "SamSegCoco-v0", "--split", "dev", "--env-kwargs", f"root:{coco}", *more]


def test_each_image_is_computed_once_and_an_environment_reads_it(coco, tmp_path, capsys, monkeypatch):
    where = f"cache:{tmp_path / 'features'}"
    code, out, _ = _call([*_arguments(coco, where), "--text-model", "tiny"], capsys)
    assert code == 0
    assert f"{SCENES} images, 0.18 MB each" in out
    assert f"computed {SCENES}, 0 were there already" in out
    assert (
        f"computed 0, {SCENES} were there already"
        in _call([*_arguments(coco, where), "--text-model", "tiny"], capsys)[1]
    )
    kwargs = {"root": str(coco), "split": "dev", "text_model": "tiny"}
    cached = make_env("SamSegCoco-v0", {**kwargs, "cache": str(tmp_path / "features")})
    plain = make_env("SamSegCoco-v0", {**kwargs, "cache": False})
    expected = [plain.fixed_episode(index) for index in range(len(plain.dataset))]

    def never(*_: object) -> None:
        raise AssertionError("a network ran although the features were there")

    monkeypatch.setattr(type(cached.segmenter), "encode", never)
    monkeypatch.setattr(type(cached.features.text_model), "image_tokens", never)
    for index, each in enumerate(expected):
        episode = cached.fixed_episode(index)
        assert np.array_equal(episode.embedding, each.embedding)
        assert np.array_equal(episode.similarity, each.similarity)


def test_what_does_not_fit_is_said_before_anything_is_computed(coco, tmp_path, capsys):
    code, out, err = _call(_arguments(coco, f"cache:{tmp_path / 'f'}", "cache_gb:0.001"), capsys)
    assert (code, out) == (2, "")
    assert f"features of {SCENES} images take about 0.001 GB, too much for the limit of 0.001 GB" in err
    assert "--env-kwargs cache_gb:1" in err


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("cache:false", "there is no cache to fill"),
        ("cache_gb:-1", "cache_gb needs a number of gigabytes"),
        ("cache_gb:lots", "'cache_gb' needs a number, got 'lots'"),
    ],
)
def test_mistakes_are_one_line(coco, pair, words, capsys):
    code, _, err = _call(_arguments(coco, pair), capsys)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_features_that_cannot_be_kept_end_it_with_one_line(coco, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(FeatureCache, "put", lambda *_: None)  # as on a full disk
    code, _, err = _call(_arguments(coco, f"cache:{tmp_path / 'f'}"), capsys)
    assert code == 1
    assert f"features cannot be kept in {tmp_path / 'f'}: is the disk full, or read-only?" in err


def test_a_cache_that_is_no_folder_is_named(coco, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    code, _, err = _call(_arguments(coco, f"cache:{tmp_path / 'file'}"), capsys)
    assert code == 2
    assert str(tmp_path / "file") in err


def test_two_ranks_divide_the_images(coco, tmp_path, capsys):
    where = f"cache:{tmp_path / 'features'}"
    forks = Forks(tmp_path / "log")
    pids = forks.start_ranks(_arguments(coco, where))
    codes = [forks.wait(pid) for pid in pids]
    forks.close()
    assert codes == [0, 0], forks.log.read_text()
    first, last = forks.log.read_text().splitlines()
    assert first.startswith(f"{SCENES} images")
    assert last.startswith(f"computed {SCENES}, 0 were there already")
    assert f"computed 0, {SCENES} were there already" in _call(_arguments(coco, where), capsys)[1]
