"""Weights from their published address or from a user's file: checked by digest, converted once, then stored."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

import sb3_alignsam
from sb3_alignsam.errors import InputError, RunError
from sb3_alignsam.perception.weight_conversion import convert
from sb3_alignsam.perception.weight_files import check_stored, incoming, store
from sb3_alignsam.perception.weights import WeightsEntry, is_stored, read_manifest, stored_path, weights_entry

TIMEOUT = 30.0
"""Seconds without a byte after which a server is given up."""
BLOCK = 2**20


def fetch_weights(
    name: str, sha256: str | None = None, progress: bool = False, say: Callable[[str], None] = print
) -> Path:
    """Download weights, check their digest and store them; nothing is downloaded when they are already there.

    :param name: a name or an alias of the manifest.
    :param sha256: digest to expect instead of the manifest's, in hexadecimal.
    :param progress: show a progress bar. :param say: gets a line when another process has to be waited for.
    :return: the stored file, or the folder of a tokenizer.
    :raises InputError: the name is unknown; no digest is known and none was given, or it is not the given one.
    :raises RunError: the address cannot be reached, breaks off, or has other content than the manifest says.
    """
    entry = weights_entry(name)
    given = _hexadecimal(sha256)
    expected = given or entry.sha256
    with incoming(say) as folder:
        source = _intact_source(entry)
        if source is not None and expected in (None, source):
            return stored_path(entry)
        file = folder / entry.file
        seen = _download(entry, file, progress)
        if expected is None:
            raise InputError(
                f"{entry.address} has SHA-256 {seen}; none is known here to compare with, so nothing was stored. If it "
                f"is the one that you trust: sb3-alignsam weights fetch {entry.name} --sha256 {seen}"
            )
        if seen != expected:
            message = f"{entry.address} has SHA-256 {seen}, not {expected}: nothing was stored"
            raise RunError(message) if given is None else InputError(message)
        try:
            return _convert_and_store(entry, file, seen, folder)
        except InputError as error:
            # The download is about to be removed: a message names where it is from.
            raise InputError(str(error).replace(str(file), entry.address)) from error


def import_weights(
    file: Path, name: str | None = None, sha256: str | None = None, say: Callable[[str], None] = print
) -> Path:
    """Check the digest of a user's file and store its weights; the file itself is left as it is.

    :param file: the published file; of weights also a plain state dict of the same names, ``.safetensors`` or ``.pt``.
    :param name: what it is; None: what its digest says, or else its name.
    :param sha256: its digest in hexadecimal, needed when it is not one of the manifest.
    :param say: gets a line when another process has to be waited for.
    :return: the stored file, or the folder of a tokenizer.
    :raises InputError: the file cannot be read, its digest is not known or not the given one, or it holds something
        else.
    """
    given = _hexadecimal(sha256)
    seen = _file_digest(file)
    entry = _entry_of(file, name, seen)
    if given is not None and given != seen:
        raise InputError(f"{file} has SHA-256 {seen}, not {given}")
    if given is None and entry.sha256 != seen:
        known = f"not {entry.sha256} as the published {entry.file}" if entry.sha256 else "and none is known here"
        command = f"sb3-alignsam weights import {shlex.quote(str(file))} --name {entry.name} --sha256 {seen}"
        raise InputError(f"{file} has SHA-256 {seen}, {known}: not imported. If it is one that you trust: {command}")
    with incoming(say) as folder:
        return _convert_and_store(entry, file, seen, folder)


def _convert_and_store(entry: WeightsEntry, file: Path, sha256: str, folder: Path) -> Path:
    # In a folder of its own: the published file may have the same name.
    written = folder / "stored" / stored_path(entry).name
    written.parent.mkdir()
    convert(entry, file, sha256, written)
    return store(written, entry)


def _intact_source(entry: WeightsEntry) -> str | None:
    """Digest of the file that stored weights were made of; None where there are none, or damaged ones."""
    try:
        return check_stored(entry) if is_stored(entry) else None
    except InputError:
        return None


def _entry_of(file: Path, name: str | None, seen: str) -> WeightsEntry:
    entries = read_manifest()
    by_digest = next((entry for entry in entries if entry.sha256 == seen), None)
    entry = weights_entry(name) if name is not None else by_digest
    entry = entry or next((each for each in entries if each.file == file.name), None)
    if entry is None:
        names = ", ".join(each.name for each in entries)
        raise InputError(f"{file}: neither its name nor its SHA-256 says what it is; add --name, one of {names}")
    if by_digest not in (None, entry):
        raise InputError(f"{file} is the published {by_digest.file}, which is {by_digest.name} and not {entry.name}")
    return entry


def _file_digest(file: Path) -> str:
    if not file.is_file():
        raise InputError(f"{file} does not exist, or is no file")
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error


def _hexadecimal(sha256: str | None) -> str | None:
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise InputError(f"--sha256 needs 64 hexadecimal digits, got '{sha256}'")
    return None if sha256 is None else sha256.lower()


def _download(entry: WeightsEntry, target: Path, progress: bool) -> str:
    """Write what is at an address to a file.

    :return: its SHA-256.
    :raises RunError: the address cannot be reached, or breaks off.
    """
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for block in _blocks(entry, progress):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _blocks(entry: WeightsEntry, progress: bool) -> Iterator[bytes]:
    """The content of an address. A generator, so that only the network's errors are caught here."""
    request = Request(entry.address, headers={"User-Agent": f"sb3-alignsam/{sb3_alignsam.__version__}"})
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            total, received = answer.length, 0
            bar = tqdm(total=total, desc=entry.name, unit="B", unit_scale=True, disable=not progress)
            with bar:
                while block := answer.read(BLOCK):
                    received += len(block)
                    bar.update(len(block))
                    yield block
        # http.client ends a body that is too short like any other.
        if total is not None and received < total:
            raise _network_error(entry, f"broke off after {received:,} of {total:,} bytes")
    except HTTPError as error:
        error.close()
        raise _network_error(entry, f"answered {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        # What urllib wraps says the same in fewer brackets.
        reason = getattr(error, "reason", error)
        raise _network_error(entry, f"cannot be fetched: {getattr(reason, 'strerror', None) or reason}") from error


def _network_error(entry: WeightsEntry, what: str) -> RunError:
    command = f"sb3-alignsam weights import {entry.file} --name {entry.name}"
    return RunError(f"{entry.address} {what}. If you have the file: {command}")
