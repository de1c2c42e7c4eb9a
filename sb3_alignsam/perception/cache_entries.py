"""How an array lies in the feature cache: a header that describes and checks it, then its bytes."""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np

_HEADER = struct.Struct("<4sIII")
_MAGIC = b"SFC1"
"""Names the layout: a later one gets another number, and entries of this one become misses."""
_KINDS = "biufc"


def encode(key: bytes, array: np.ndarray) -> bytes:
    """Header (magic, CRC-32 of the key and all that follows, lengths of dtype and shape), dtype, shape, elements.

    :param key: what it will be asked for by.
    :param array: any shape, of booleans or numbers.
    :raises ValueError: it holds other things than numbers.
    """
    if array.dtype.kind not in _KINDS:
        raise ValueError(f"the feature cache keeps arrays of numbers; got {array.dtype}")
    dtype = array.dtype.str.encode()
    shape = np.asarray(array.shape, "<u8")
    body = b"".join([dtype, shape.tobytes(), array.tobytes()])
    return _HEADER.pack(_MAGIC, zlib.crc32(body, zlib.crc32(key)), len(dtype), array.ndim) + body


def decode(key: bytes, entry: bytes | memoryview) -> np.ndarray | None:
    """The array of an entry, new, writable and owned; None where header, length or checksum do not fit.

    LMDB keeps no checksums of its pages: the one here finds what a disk or another program has changed.

    :param key: what it was asked for by. :param entry: what `encode` gave; nothing refers to it afterwards.
    """
    view = memoryview(entry)
    if len(view) < _HEADER.size:
        return None
    magic, checksum, name_length, ndim = _HEADER.unpack_from(view)
    if magic != _MAGIC or zlib.crc32(view[_HEADER.size :], zlib.crc32(key)) != checksum:
        return None
    # The checksum holds, so that from here on the bytes are those that `encode` wrote.
    start = _HEADER.size + name_length
    dtype = np.dtype(bytes(view[_HEADER.size : start]).decode())
    shape = tuple(int(side) for side in np.frombuffer(view, "<u8", ndim, start)) if ndim else ()
    start += 8 * ndim
    array = np.empty(shape, dtype)
    if math.prod(shape):
        array.reshape(-1)[:] = np.frombuffer(view, dtype, offset=start)
    return array
