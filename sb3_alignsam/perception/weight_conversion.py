"""Published weights, once they are trusted, as what is stored: safetensors, or the files of a tokenizer."""

from __future__ import annotations

import gzip
import hashlib
import io
import warnings
import zipfile
import zlib
from pathlib import Path

import torch as th

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception import repvit
from sb3_alignsam.perception.checkpoints import StateDict, first_line, load_strict, read_state_dict
from sb3_alignsam.perception.clip_prompts import VOCABULARY, load_tokenizer
from sb3_alignsam.perception.clip_weights import openai_clip
from sb3_alignsam.perception.repvit import RepvitSam
from sb3_alignsam.perception.weight_files import write_tensors, write_vocabulary
from sb3_alignsam.perception.weights import WeightsEntry, read_manifest

MERGES = VOCABULARY - 2 * 256 - 2
LARGEST_VOCABULARY = 2**26
"""Bytes that are unpacked at most; the published file has 3 MB."""


def convert(entry: WeightsEntry, file: Path, sha256: str, target: Path) -> None:
    """Read a published file, check that it is what the entry says, and write what is stored.

    :param file: the published file; its suffix says how it is read.
    :param sha256: its digest, which is written beside the weights.
    :param target: the file or folder to write; it does not exist yet.
    :raises InputError: the file is damaged, or holds something else.
    """
    if entry.format == "vocabulary":
        vocab, merges = read_vocabulary(file)
        write_vocabulary(vocab, merges, entry, sha256, target)
        _check_tokenizer(target, file)
        return
    state = _read_tensors(entry, file)
    try:
        _check_tensors(entry, state, str(file))
        plain = {key: value.detach().clone(memory_format=th.contiguous_format) for key, value in state.items()}
    except (RuntimeError, TypeError) as error:
        # Sparse or quantised tensors, for one: no network takes them.
        raise InputError(f"{file} cannot be used as {entry.name}: {first_line(error)}") from error
    write_tensors(plain, entry, sha256, target)


def read_vocabulary(file: Path) -> tuple[dict[str, int], list[str]]:
    """OpenAI's list of byte pairs as the two parts of transformers' tokenizer.

    As `SimpleTokenizer` of OpenAI's `clip/simple_tokenizer.py` counts: the first line is a title, and of those that
    follow only the first 48,894 are in the vocabulary.

    :param file: ``bpe_simple_vocab_16e6.txt.gz``.
    :return: ids by token, and the merges in their order, two symbols with a space between.
    :raises InputError: the file is damaged or holds something else.
    """
    try:
        with gzip.open(file) as unpacked:
            content = unpacked.read(LARGEST_VOCABULARY + 1)
        lines = content.decode("utf-8").split("\n")[1 : MERGES + 1]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not a readable .gz file of text: {first_line(error)}") from error
    pairs = [line.split() for line in lines]
    if len(content) > LARGEST_VOCABULARY or len(pairs) < MERGES or any(len(pair) != 2 for pair in pairs):
        raise InputError(f"{file} is not CLIP's vocabulary: it needs a title and {MERGES} lines of two symbols each")
    symbols = byte_symbols()
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *("".join(pair) for pair in pairs)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return {word: index for index, word in enumerate(words)}, [" ".join(pair) for pair in pairs]


def byte_symbols() -> list[str]:
    """A printable character for each of the 256 bytes, in the order of CLIP's vocabulary (and of GPT-2's).

    A byte that is a printable character of Latin-1 other than a space stands for itself, and these come first; the
    others get the characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(0x100 + index) for index in range(256 - len(printable))]


def _read_tensors(entry: WeightsEntry, file: Path) -> StateDict:
    if not _is_torchscript(file):
        return read_state_dict(file)[1]
    content = file.read_bytes()
    # Such an archive holds a program. It is opened only if it is byte for byte what a manifest's entry names, and the
    # digest is taken of the very bytes that are opened.
    known = {each.sha256 for each in read_manifest() if each.format == "torchscript"}
    if hashlib.sha256(content).hexdigest() not in known:
        raise InputError(
            f"{file} is a TorchScript archive other than the published {entry.file}: not opened, since it holds a "
            "program; give its weights as a plain state dict, .safetensors or .pt"
        )
    with warnings.catch_warnings():
        # torch advises authors of such archives to move on; this one will stay as it is.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return th.jit.load(io.BytesIO(content), map_location="cpu").state_dict()
        except RuntimeError as error:
            raise InputError(f"{file} cannot be opened by torch {th.__version__}: {first_line(error)}") from error


def _is_torchscript(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            # By this member torch tells such an archive from a state dict.
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # no archive that can be read: what is wrong with it, the reader of state dicts says


def _check_tensors(entry: WeightsEntry, state: StateDict, source: str) -> None:
    """Build the network on the weights, as those who load them will."""
    for key, shape in entry.shapes.items():
        if key not in state or list(state[key].shape) != shape:
            found = tuple(state[key].shape) if key in state else "missing"
            raise InputError(f"{source} does not hold {entry.name}: '{key}' is {found}, not {tuple(shape)}")
    if entry.name == "repvit_sam":
        load_strict(RepvitSam(), state, source, "segmenter 'repvit_sam'", repvit.upstream_key)
    else:
        openai_clip(state, source)


def _check_tokenizer(folder: Path, source: Path) -> None:
    try:
        load_tokenizer(folder)
    except InputError as error:
        raise InputError(f"{source} is not CLIP's vocabulary: its tokenizer cannot be built") from error
