"""Bounds on what a ROOT file may make its reader allocate; nothing here imports uproot."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
import zstandard

from e2eio.errors import ImporterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

__all__ = ["INFLATERS", "MAX_BASKET_BYTES", "MAX_RATIO", "BoundedStream", "check_baskets"]
__all__ += ["check_clusters", "check_end", "digest"]

#: Inflated size of a basket, or of a column in a cluster, at most: uproot inflates it whole.
MAX_BASKET_BYTES: Final = 1 << 30

#: Bytes that a stored byte inflates to, at most: zstd packs zeros 32,768 to 1, the others less.
MAX_RATIO: Final = 40_000

_DIGEST_BYTES: Final = 1 << 16
_LZMA_BYTES: Final = 1 << 28  # of a dictionary; the largest preset has 64 MiB


class _Zstd:
    """Inflates a block, and no further than its header says; so do the next two."""

    name = "ZSTD"
    _2byte = b"ZS"

    def decompress(self, data: Any, uncompressed_bytes: int) -> bytes:
        block = bytes(data)
        stated = zstandard.frame_content_size(block)
        if stated not in (-1, uncompressed_bytes):
            raise ValueError(f"a zstd frame of {stated} bytes, not {uncompressed_bytes}")
        inflated: bytes = zstandard.ZstdDecompressor().decompress(
            block, max_output_size=uncompressed_bytes
        )
        return inflated


class _Zlib:
    name = "ZLIB"
    _2byte = b"ZL"

    def decompress(self, data: Any, uncompressed_bytes: int) -> bytes:
        inflater = zlib.decompressobj()
        return _whole(inflater, inflater.decompress(bytes(data), uncompressed_bytes + 1))


class _Lzma:
    name = "LZMA"
    _2byte = b"XZ"

    def decompress(self, data: Any, uncompressed_bytes: int) -> bytes:
        inflater = lzma.LZMADecompressor(memlimit=_LZMA_BYTES)
        return _whole(inflater, inflater.decompress(bytes(data), uncompressed_bytes + 1))


def _whole(inflater: Any, inflated: bytes) -> bytes:
    """Refuse a block without its end, which has its checksum."""
    if not inflater.eof:
        raise ValueError(f"a block that goes on after {len(inflated)} bytes")
    return inflated


#: In the place of uproot's own.
INFLATERS: Final = (_Zstd(), _Zlib(), _Lzma())


def check_baskets(branch: Any, n_entries: int, n_bytes: int) -> tuple[Ints, Ints]:
    """Return the segments of a branch; compare what the file states with what it can hold."""
    offsets = np.asarray(branch.entry_offsets, np.int64)
    if branch.num_entries != n_entries or offsets[0] != 0 or np.any(np.diff(offsets) < 0):
        raise ValueError(f"{branch.num_entries} entries, the tree has {n_entries}")
    weights = np.zeros(len(offsets) - 1, np.int64)
    if len(weights) != branch.num_baskets:
        raise ValueError(f"{branch.num_baskets} baskets for {len(weights)} ranges")
    for number in range(branch.num_baskets - len(branch.embedded_baskets)):
        stored = branch.basket_compressed_bytes(number)
        inflated = int(branch.basket_uncompressed_bytes(number))
        if not 0 < stored <= n_bytes:
            raise ValueError(f"basket {number} of {stored} bytes")
        if not 0 <= inflated <= min(MAX_BASKET_BYTES, stored * MAX_RATIO):
            raise ValueError(f"basket {number} that inflates from {stored} to {inflated} bytes")
        if offsets[number + 1] - offsets[number] > inflated:
            raise ValueError(f"basket {number} of {inflated} bytes with too many entries")
        weights[number] = inflated
    return offsets, weights


def check_clusters(ntuple: Any, n_entries: int, n_bytes: int) -> tuple[Ints, Ints]:
    """Return the segments of an ntuple, which all its columns share."""
    begins = [int(cluster.num_first_entry) for cluster in ntuple.cluster_summaries]
    offsets = np.asarray([*begins, n_entries], np.int64)
    if offsets[0] != 0 or np.any(np.diff(offsets) < 0):
        raise ValueError("clusters out of order")
    weights = np.zeros(len(begins), np.int64)
    for number, columns in enumerate(ntuple.page_link_list):
        for column in columns:
            stored = sum(page.locator.num_bytes for page in column.pages)
            inflated = 8 * sum(page.num_elements for page in column.pages)
            if not 0 <= stored <= n_bytes or inflated > MAX_BASKET_BYTES:
                raise ValueError(f"cluster {number}: pages of {stored} bytes, {inflated} inflated")
            weights[number] += inflated
    return offsets, weights


class BoundedStream(io.RawIOBase):
    """A stream that refuses what lies outside the file before memory is taken for it.

    One thread at a time.
    """

    def __init__(self, stream: BinaryIO, n_bytes: int) -> None:
        super().__init__()
        self._stream = stream
        self._n_bytes = n_bytes

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; raises ValueError for a place outside the file."""
        offset = int(offset)
        if whence == os.SEEK_SET and not 0 <= offset <= self._n_bytes:
            raise ValueError(f"an offset of {offset} in a file of {self._n_bytes} bytes")
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._stream.tell()

    def read(self, size: int = -1) -> bytes:
        """Read, at most to the end of the file."""
        left = self._n_bytes - self._stream.tell()
        return self._stream.read(left if size < 0 else min(int(size), left))


def digest(stream: BinaryIO, n_bytes: int) -> bytes:
    """Digest of both ends: the header and, near the end, what was written last."""
    stream.seek(0)
    both = hashlib.blake2b(stream.read(1024), digest_size=16)
    stream.seek(max(0, n_bytes - _DIGEST_BYTES))
    both.update(stream.read(_DIGEST_BYTES))
    return both.digest()


def check_end(path: str, head: bytes, n_bytes: int) -> None:
    """Compare the end that the header states (fEND) with the file's."""
    if len(head) >= 20:
        version = struct.unpack_from(">i", head, 4)[0]
        end = struct.unpack_from(">q" if version >= 1_000_000 else ">i", head, 12)[0]
        if end <= n_bytes:
            return
        stated = f"{end} bytes, as the header says"
    else:
        stated = "a header"
    raise ImporterError(
        f"truncated ROOT file: {path}: found {n_bytes} bytes, expected {stated}; fetch the file again",
        path,
    )
