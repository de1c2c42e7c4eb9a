"""Weights that all processes of a machine share: RepViT-SAM's from a real file, in a real second process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch as th
from safetensors.torch import save_file

from sb3_alignsam.perception import load_segmenter
from sb3_alignsam.perception.loading import TINY_WEIGHTS, _fused, load_network
from sb3_alignsam.perception.mapped_weights import MIN_BYTES, can_map, mapped
from sb3_alignsam.perception.tiny.model import TinySam
from tests.conftest import REPOSITORY
from tests.perception.seeded import fill

SHAPES = REPOSITORY / "third_party" / "repvit_sam" / "repvit_sam_state_dict_shapes.json"
SECOND_PROCESS = """
import sys
import torch as th
from sb3_alignsam.perception import load_segmenter
from tests.perception.test_mapped_weights import outputs, private_bytes

th.set_num_threads(1)
load_segmenter("tiny")
before = private_bytes()
segmenter = load_segmenter("repvit_sam", sys.argv[1])
print(private_bytes() - before)
th.save((segmenter.fingerprint, outputs(segmenter)), sys.argv[2])
"""


def private_bytes():
    """Memory of this process that no other shares and that differs from any file."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))


@th.inference_mode()
def outputs(segmenter):
    """Of encoder and decoder; a small picture is enough, since the encoder is convolutional."""
    generator = th.Generator().manual_seed(0)
    pixels = th.randn(1, 3, 128, 128, generator=generator).contiguous(memory_format=th.channels_last)
    embeddings = th.randn(1, 256, 64, 64, generator=generator)
    masks = segmenter._decoder(embeddings, th.tensor([[[9.0, 5.0]]]), th.tensor([[1]]), None, True)
    return [segmenter._encoder(pixels), *masks]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_second_process_holds_no_copy_and_computes_the_same(tmp_path, home):
    checkpoint, results = tmp_path / "seed0.safetensors", tmp_path / "results.pt"
    weights = fill(json.loads(SHAPES.read_text(encoding="utf-8")), 0)
    save_file({name: th.from_numpy(array) for name, array in weights.items()}, checkpoint)
    plain = load_segmenter("repvit_sam", weights)
    assert not home.parent.exists()
    first = load_segmenter("repvit_sam", checkpoint)
    (file,) = (home.parent / "mapped").iterdir()
    assert file.stat().st_size > 100_000_000
    written = file.stat().st_mtime_ns
    command = [sys.executable, "-c", SECOND_PROCESS, checkpoint, results]
    second = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert int(second.stdout) < 30_000_000
    assert file.stat().st_mtime_ns == written
    fingerprint, theirs = th.load(results)
    assert plain.fingerprint == first.fingerprint == fingerprint
    for ours, mine, other in zip(outputs(plain), outputs(first), theirs, strict=True):
        # Mapped weights lie otherwise in memory than plain ones, which on some processors changes how sums are rounded.
        assert th.allclose(ours, mine, rtol=1e-4, atol=1e-4)
        assert th.equal(mine, other)


@pytest.fixture
def load():
    """The network of `mapped` on the tiny weights, and how often they were read."""
    reads = []

    def read():
        reads.append(1)
        return _fused(load_network("tiny"))

    return lambda: (mapped("tiny", TINY_WEIGHTS, lambda: _fused(TinySam().eval()), read), len(reads))


def _assert_the_tiny_network(network, segmenter):
    state = network.state_dict()
    assert not network.training
    for part in ("encoder", "decoder"):
        own = getattr(segmenter, f"_{part}").state_dict()
        assert all(th.equal(state[f"{part}.{name}"], tensor) for name, tensor in own.items())


def test_a_damaged_file_is_written_anew(load, home, segmenter):
    assert load()[1] == 1
    (file,) = (home.parent / "mapped").iterdir()
    whole = file.read_bytes()
    for damaged in (whole[:5000], b"{}" * 5000):
        file.write_bytes(damaged)
        network, before = load()
        _assert_the_tiny_network(network, segmenter)
        assert file.read_bytes() == whole
        assert load()[1] == before


def test_without_a_cache_folder_the_checkpoint_itself_is_used(load, home, segmenter):
    home.parent.write_text("a file in the folder's place")
    for reads in (1, 2):
        network, count = load()
        _assert_the_tiny_network(network, segmenter)
        assert count == reads


def test_mapped_weights_take_channels_last_order_without_a_copy(load, home):
    load()
    network, _ = load()
    before = {name: tensor.data_ptr() for name, tensor in network.encoder.state_dict().items()}
    network.encoder.to(memory_format=th.channels_last)
    assert {name: tensor.data_ptr() for name, tensor in network.encoder.state_dict().items()} == before


def test_only_large_files_for_the_cpu_in_float32_are_mapped(tmp_path):
    large = tmp_path / "large.safetensors"
    with large.open("wb") as file:
        file.truncate(MIN_BYTES)
    assert can_map(large, "cpu", th.float32)
    assert can_map(str(large), "cpu", th.float32)
    assert not can_map(large, "cuda", th.float32)
    assert not can_map(large, "cpu", th.bfloat16)
    assert not can_map(TINY_WEIGHTS, "cpu", th.float32)
    assert not can_map({"weight": th.zeros(1)}, "cpu", th.float32)
    assert not can_map(tmp_path / "none", "cpu", th.float32)
