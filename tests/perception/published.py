"""Small published files as upstreams make them, and a manifest that names them with their real digests."""

from __future__ import annotations

import gzip
import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from itertools import islice, product
from pathlib import Path

import torch as th
from torch import nn

from sb3_alignsam.perception.weight_conversion import MERGES, byte_symbols
from sb3_alignsam.perception.weights import WeightsEntry, read_manifest
from tests.perception.seeded import fill

SHAPES = Path(__file__).parents[2] / "third_party" / "clip_surgery" / "clip_state_dict_shapes.json"


@cache
def small_clip() -> dict[str, th.Tensor]:
    """Weights of a small CLIP by OpenAI's names, in half precision as OpenAI's are: one layer, half as wide."""
    shapes = json.loads(SHAPES.read_text(encoding="utf-8"))
    halved = {
        key: [{128: 64, 384: 192, 512: 256}.get(side, side) for side in shape]
        for key, shape in shapes.items()
        if "resblocks" not in key or "resblocks.0." in key
    }
    return {key: th.tensor(value).half() for key, value in fill(halved, 0).items()}


def write_archive(path: Path, state: Mapping[str, th.Tensor]) -> Path:
    """A TorchScript archive with these weights and, as OpenAI's has it, a size among them."""
    root = nn.Module()
    for key, value in state.items():
        module = root
        *parents, leaf = key.split(".")
        for name in parents:
            if name not in dict(module.named_children()):
                module.add_module(name, nn.Module())
            module = module.get_submodule(name)
        module.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
    root.register_buffer("input_resolution", th.tensor(64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        th.jit.script(root).save(path)
    return path


def write_vocabulary(path: Path, merges: int = MERGES + 5) -> Path:
    """A list of byte pairs as OpenAI's: a title and merges, more than are in the vocabulary; each makes a new token."""
    symbols = byte_symbols()
    pairs = product(symbols, [f"{symbol}</w>" for symbol in symbols])
    lines = ['"bpe_simple_vocab_16e6.txt#version: 0.2', *(" ".join(pair) for pair in islice(pairs, merges)), ""]
    path.write_bytes(gzip.compress("\n".join(lines).encode(), compresslevel=1, mtime=0))
    return path


def sha256(path: Path) -> str:
    """Digest of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(path: Path, changes: Mapping[str, Mapping[str, object]]) -> Path:
    """The shipped manifest with other fields for some names, and no shapes."""
    entries = [asdict(entry) | {"shapes": {}} | dict(changes.get(entry.name, {})) for entry in read_manifest()]
    path.write_text(json.dumps({"weights": entries}), encoding="utf-8")
    return path


def entry_of(name: str) -> WeightsEntry:
    """The entry of exactly this name."""
    return next(entry for entry in read_manifest() if entry.name == name)
