"""`FeatureCache`: what frozen networks found, kept on disk for every later process."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.cache_entries import decode, encode
from sb3_alignsam.perception.cache_store import LOCK_FILE_BYTES, Store, reason, shared_store

MIN_LIMIT_GB = 0.001
_LARGEST = 8
"""An entry may take up to this part of the limit."""
_BATCH = 64
"""Entries that one transaction deletes at most: LMDB needs free space to note what it has freed."""
_ATTEMPTS = 4


class FeatureCache:
    """Arrays by key in an LMDB file that many processes and threads read and write at once.

    **Limit.** The files never exceed `limit_gb`: when it is reached, the oldest entries make room in the transaction
    that adds a new one. About a tenth stays free, which LMDB needs to replace what others still read. A file that was
    made under a larger limit loses entries with the next `put` but not its length: to have the disk back, delete the
    folder. Where processes give different limits at once, the smallest decides what is kept.

    **Kills.** LMDB never overwrites what is valid: an entry is there as a whole or not at all when a process is killed
    at any instant. Data reach the disk before the page that refers to them, so that a power cut can undo the latest
    entry and harms no other. Each entry has a checksum besides; one that does not fit is a miss.

    **Errors.** Only opening raises. Later a full disk or a damaged page costs speed and one warning a process.

    **Processes.** Pickled, it is its folder and limit; a child, forked or spawned, opens the file for itself. On a
    read-only file system it serves what is there and keeps nothing. Network file systems are not safe for LMDB.

    :param folder: where the files lie; made where it does not exist.
    :param limit_gb: most that they take, in 10⁹ bytes, at least `MIN_LIMIT_GB`. An array above an eighth of it is not
        kept.
    :raises InputError: the folder cannot be used, its file is damaged, or the limit is no such number.
    """

    def __init__(self, folder: str | Path, limit_gb: float = 20.0) -> None:
        if isinstance(limit_gb, bool) or not isinstance(limit_gb, int | float) or not MIN_LIMIT_GB <= limit_gb < 1e9:
            raise InputError(f"limit_gb needs a number of gigabytes >= {MIN_LIMIT_GB}, got {limit_gb!r}")
        self.folder = Path(folder)
        self.limit_gb = limit_gb
        self._limit = math.floor(limit_gb * 1e9)
        self._opened: Store | None = shared_store(self.folder, self._limit)

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureCache, (self.folder, self.limit_gb)

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; it closes when no other `FeatureCache` of this process uses it."""
        self._opened = None

    def __len__(self) -> int:
        """Number of entries."""
        store = self._store()
        with store.transaction() as txn:
            return int(txn.stat(store.entries)["entries"])

    @property
    def size_bytes(self) -> int:
        """Bytes that the files take on disk, free space within them included."""
        return self._store().file_bytes

    def get(self, key: bytes) -> np.ndarray | None:
        """The array kept under a key, new, writable and owned; None where there is none or it is damaged.

        :param key: from `image_key` or `text_key`, or any 1 to 511 bytes.
        """
        store = self._store()
        try:
            with store.transaction() as txn:
                return _read(store, txn, key)
        except lmdb.Error as error:
            _warn_once(f"feature cache {self.folder} cannot be read ({reason(error)}): features are computed again")
            return None

    def put(self, key: bytes, array: np.ndarray) -> None:
        """Keep an array. A key stands for one content: where it is there already, nothing is written.

        :param key: see `get`. :param array: of numbers, of any shape; it comes back in its own dtype.
        :raises ValueError: the array holds other things than numbers.
        """
        store = self._store()
        if store.readonly:
            return
        try:
            self._insert(store, key, encode(key, array))
        except lmdb.Error as error:
            _warn_once(f"feature cache {self.folder} cannot be written ({reason(error)}; is the disk full?)")

    def get_or_compute(self, key: bytes, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The array kept under a key, or else what `compute` gives, which is kept."""
        found = self.get(key)
        if found is None:
            found = compute()
            self.put(key, found)
        return found

    def _store(self) -> Store:
        if self._opened is None:
            raise ValueError(f"the feature cache {self.folder} is closed")
        if not self._opened.is_own:
            self._opened = shared_store(self.folder, self._limit)
        return self._opened

    def _insert(self, store: Store, key: bytes, value: bytes) -> None:
        needed = (len(value) // store.page_size + 1) * store.page_size
        if needed > self._limit // _LARGEST:
            return
        for attempt in range(_ATTEMPTS):
            # An entry is written beside those that it replaces, whose pages are free two transactions later.
            spare = needed << attempt + 2
            try:
                while not self._try_insert(store, key, value, needed + spare):
                    pass
                return
            except lmdb.MapFullError:
                # Free pages lie scattered, or a reader that was killed still holds some.
                if attempt + 1 == _ATTEMPTS:
                    raise
                store.env.reader_check()
                with store.transaction(write=True) as txn:
                    self._make_room(store, txn, needed + 2 * spare)
                store.advance()

    def _try_insert(self, store: Store, key: bytes, value: bytes, room: int) -> bool:
        """False where more must be deleted first than one transaction should."""
        with store.transaction(write=True) as txn:
            if _read(store, txn, key) is not None:
                return True
            if not self._make_room(store, txn, room):
                return False
            if txn.get(key, db=store.entries) is None:
                with txn.cursor(store.order) as newest:
                    number = int.from_bytes(newest.key()) + 1 if newest.last() else 0
                txn.put(number.to_bytes(8), key, db=store.order, append=True)
            return bool(txn.put(key, value, db=store.entries))

    def _make_room(self, store: Store, txn: lmdb.Transaction, room: int) -> bool:
        """Delete the oldest entries until `room` bytes are free; False where those are too many for one transaction."""
        most = self._limit - self._limit // 16 - LOCK_FILE_BYTES - room
        with txn.cursor(store.order) as oldest:
            for _ in range(_BATCH):
                if store.used_bytes(txn) <= most or not oldest.first():
                    return True
                txn.delete(bytes(oldest.value()), db=store.entries)
                oldest.delete()
        return False


def image_key(kind: str, fingerprint: str, image: np.ndarray) -> bytes:
    """Key of what a network finds in an image.

    :param kind: what is kept, such as ``sam_embedding``.
    :param fingerprint: of the weights and the preprocessing, such as `Segmenter.fingerprint`.
    :param image: pixels as they are before preprocessing, any shape and dtype.
    :return: 32 bytes.
    """
    facts = repr((kind, fingerprint, image.shape, image.dtype.str)).encode()
    digest = hashlib.sha256(len(facts).to_bytes(8) + facts)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def text_key(kind: str, fingerprint: str, name: str, templates: Sequence[str] = ()) -> bytes:
    """Key of a category's text feature.

    :param kind: what is kept, such as ``clip_text``. :param fingerprint: of the weights, as `ClipSurgery.fingerprint`.
    :param name: the category. :param templates: the sentences over which the feature is averaged, in their order.
    :return: 32 bytes.
    """
    return hashlib.sha256(repr((kind, fingerprint, name, tuple(templates))).encode()).digest()


def _read(store: Store, txn: lmdb.Transaction, key: bytes) -> np.ndarray | None:
    entry = txn.get(key, db=store.entries)
    return None if entry is None else decode(key, entry)


_warned = False


def _warn_once(message: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(message, RuntimeWarning, stacklevel=3)
