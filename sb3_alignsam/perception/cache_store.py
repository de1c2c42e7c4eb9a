"""One LMDB environment per process and folder, opened safely: the feature cache's file, without what is in it."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import lmdb

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.checkpoints import first_line

MAX_READERS = 1024
"""Reads at one moment in all processes together; each costs 64 bytes of the lock file."""
LOCK_FILE_BYTES = 64 * MAX_READERS + 2 * mmap.PAGESIZE
_ENTRIES, _ORDER, _TURN = b"sb3_alignsam.entries", b"sb3_alignsam.order", b"sb3_alignsam.turn"
_DAMAGED = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError, lmdb.NotFoundError)
_DELETION_BYTES = 1_000_000
"""What a file beyond the limit may grow by: LMDB needs space to note what is deleted."""
_SPARE_PAGES = 64
"""LMDB may count pages that a transaction took and gave back before it wrote them; they end the file early."""


class Store:
    """An open LMDB environment of this process with its two tables.

    :param folder: where its files lie; made where it does not exist.
    :param limit: bytes that its files may take; a larger file that is there already is opened all the same.
    :raises InputError: the folder or what lies in it cannot be used.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.pid = os.getpid()
        self._users = 0
        self._idle = threading.Condition()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.readonly = _is_readonly(folder)
            self.env = self._open(_map_size(folder, limit))
        except (OSError, lmdb.Error) as error:
            raise _unusable(folder, error) from error
        try:
            self._open_tables()
            self.env.reader_check()
        except (OSError, lmdb.Error) as error:
            self.env.close()
            raise _unusable(folder, error) from error

    def _open(self, map_size: int) -> lmdb.Environment:
        # Data pages reach the disk before the page that makes them valid (`sync`), so that not even a power cut can
        # leave half a transaction; that page itself may follow later (`metasync`): at worst the last entry is missing.
        return lmdb.open(
            str(self.folder),
            map_size,
            metasync=False,
            create=False,
            readonly=self.readonly,
            max_readers=MAX_READERS,
            max_dbs=2,
        )

    def _open_tables(self) -> None:
        needed = (self.env.info()["last_pgno"] + 1 - _SPARE_PAGES) * self.page_size
        if (self.folder / "data.mdb").stat().st_size < needed:
            # Reading behind a mapped file's end would kill the process.
            raise lmdb.CorruptedError("data.mdb is cut short")
        if self.readonly:
            self.entries, self.order = (self.env.open_db(name, create=False) for name in (_ENTRIES, _ORDER))
            return
        with self.env.begin(write=True) as txn:
            if txn.stat(self.env.open_db(txn=txn))["entries"] and txn.get(_ENTRIES) is None:
                raise lmdb.InvalidError("data.mdb holds other tables")
            self.entries, self.order = (self.env.open_db(name, txn) for name in (_ENTRIES, _ORDER))

    @property
    def is_own(self) -> bool:
        """Whether this process opened it; a child that was forked must not use its parent's."""
        return self.pid == os.getpid()

    @property
    def page_size(self) -> int:
        """Bytes of a page of LMDB's."""
        return self.env.stat()["psize"]

    @property
    def file_bytes(self) -> int:
        """Bytes of the folder's files."""
        files = [self.folder / name for name in ("data.mdb", "lock.mdb")]
        return sum(file.stat().st_size for file in files if file.exists())

    def used_bytes(self, txn: lmdb.Transaction) -> int:
        """Bytes of the pages that hold entries now."""
        tables = [txn.stat(table) for table in (self.entries, self.order)]
        pages = sum(table["leaf_pages"] + table["branch_pages"] + table["overflow_pages"] for table in tables)
        return pages * self.page_size

    @contextmanager
    def transaction(self, write: bool = False) -> Iterator[lmdb.Transaction]:
        """A transaction; one that writes waits for every other writer, in all processes.

        :raises lmdb.Error: whatever LMDB finds; a transaction that writes is undone then.
        """
        with self._using():
            try:
                txn = self.env.begin(write=write, buffers=True)
            except lmdb.MapResizedError:
                txn = None
            if txn is not None:
                with txn:
                    yield txn
                return
        # A process with a larger limit has made the file longer than what is mapped here.
        self._map(0)
        with self._using(), self.env.begin(write=write, buffers=True) as txn:
            yield txn

    def advance(self) -> None:
        """Commit something, so that the next transaction may use what the last one freed."""
        with self.transaction(write=True) as txn:
            txn.put(_TURN, txn.id().to_bytes(8))

    @contextmanager
    def _using(self) -> Iterator[None]:
        with self._idle:
            self._users += 1
        try:
            yield
        finally:
            with self._idle:
                self._users -= 1
                self._idle.notify_all()

    def allow(self, limit: int) -> None:
        """Let the files take up to a limit in bytes, if that is more than they may take so far."""
        size = _map_size(self.folder, limit)
        if size > self.env.info()["map_size"]:
            self._map(size)

    def _map(self, size: int) -> None:
        """Map the file anew, with all that it holds at least; no thread may be in a transaction then."""
        with self._idle:
            self._idle.wait_for(lambda: not self._users)
            self.env.set_mapsize(size)


def _map_size(folder: Path, limit: int) -> int:
    """Bytes that the data file may take: the limit's, or those it has already and a little to note deletions in."""
    data = folder / "data.mdb"
    allowed, present = limit - LOCK_FILE_BYTES, data.stat().st_size if data.exists() else 0
    return (allowed if present <= allowed else present + _DELETION_BYTES) // mmap.PAGESIZE * mmap.PAGESIZE


_stores: WeakValueDictionary[str, Store] = WeakValueDictionary()
_opening = threading.Lock()


def shared_store(folder: Path, limit: int) -> Store:
    """The process's one `Store` of a folder, as LMDB asks; it closes when nobody holds it any more.

    :raises InputError: see `Store`.
    """
    path = os.path.realpath(folder)
    with _opening:
        store = _stores.get(path)
        if store is not None and not store.is_own:
            # Inherited by fork: no handle of the parent's may be used, and its files must be closed before ours are
            # opened, since closing a file gives up all locks that the process has on it.
            store.env.close()
            store = None
        if store is None:
            store = _stores[path] = Store(Path(path), limit)
        store.allow(limit)
        return store


def _forget_lock() -> None:
    """After a fork the thread that held the lock does not exist in the child."""
    global _opening
    _opening = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)


def _is_readonly(folder: Path) -> bool:
    """Whether the whole file system is, so that nobody on this machine writes while LMDB reads without a lock."""
    return hasattr(os, "statvfs") and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _unusable(folder: Path, error: Exception) -> InputError:
    if isinstance(error, _DAMAGED):
        return InputError(
            f"feature cache {folder} is damaged or of another program ({reason(error)}); "
            "delete the folder or give another"
        )
    return InputError(f"feature cache {folder} cannot be used: {reason(error)}; give a folder that can be written")


def reason(error: Exception) -> str:
    """What LMDB or the system found, in a few words."""
    if isinstance(error, FileExistsError):
        return "it is a file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # LMDB's own messages say where before, and what a programmer could do after.
    return first_line(error).partition(" (")[0].rpartition(": ")[2]
