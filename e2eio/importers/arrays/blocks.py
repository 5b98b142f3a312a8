"""What the sources of named arrays (HDF5, Zarr) share: blocks of rows, read ahead where that helps."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from e2eio.importers.arrays.selection import ArrayInfo, Selection
from e2eio.importers.file_source import FileSource
from e2eio.importers.source import Chunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ArraySource", "RowReader", "reading_threads"]

_CHUNK_BYTES: Final = 32 << 20  # decoded, yielded at a time
_PLAIN_BYTES: Final = 4 << 20  # the same, of what is stored as it is
_MAX_BLOCK_BYTES: Final = 256 << 20  # decoded at a time, where stored chunks are that long
_COLUMN_ROWS: Final = 1 << 16  # of a scalar field, read at a time
_MAX_CUTS: Final = 1 << 20
_MAX_THREADS: Final = 4


class RowReader(Protocol):
    """Reads rows of one array; several threads may call it."""

    @property
    def step(self) -> int:
        """Rows of a stored chunk: reading its multiples is cheapest."""

    @property
    def is_plain(self) -> bool:
        """Reading costs as much as copying: it pays to do it in the cache, and not ahead."""

    def read(self, begin: int, end: int) -> NDArray[Any]:
        """Return the rows [begin, end), a fresh array in native byte order."""


def reading_threads() -> int:
    """Return how many threads a source may use: one where processes share the cores already."""
    if multiprocessing.parent_process() is not None:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return min(_MAX_THREADS, len(os.sched_getaffinity(0)))
    return min(_MAX_THREADS, os.cpu_count() or 1)


class ArraySource(FileSource):
    """A source whose images and scalar fields are arrays; one thread at a time may use it.

    Parameters
    ----------
    path : str
    n_bytes : int
        Size of the file.
    fingerprint : bytes
        Of the file; what is selected of it is added.
    selection : Selection
    make_reader : callable
        Makes the reader of an array.
    """

    def __init__(
        self,
        path: str,
        n_bytes: int,
        fingerprint: bytes,
        selection: Selection,
        make_reader: Callable[[ArrayInfo], RowReader],
    ) -> None:
        chosen = repr((selection.images, selection.columns)).encode()
        digest = hashlib.blake2b(fingerprint + chosen, digest_size=16).digest()
        super().__init__(path, n_bytes, digest)
        self._schema = selection.schema
        self._geometry = selection.geometry
        self._skipped = selection.skipped
        self._selection = selection
        self._images = [make_reader(image) for image in selection.images]
        tables = {column.array for column in selection.columns}
        self._columns = {array: make_reader(array) for array in sorted(tables, key=str)}
        self._step = max(reader.step for reader in self._images)

    @property
    def n_samples(self) -> int:
        """Samples in the file."""
        return self._selection.n_samples

    @property
    def cuts(self) -> NDArray[np.int64]:
        """First samples of stored chunks, and the number of samples."""
        n = self.n_samples
        step = self._step * -(-n // (self._step * _MAX_CUTS))
        return np.append(np.arange(0, n, step, dtype=np.int64), np.int64(n))

    def _read(self, begin: int, end: int) -> Iterator[Chunk]:
        per_chunk = max(1, self._chunk_bytes() // self._sample_bytes())
        columns = _Columns(self._columns, self.n_samples)
        for first, images in self._blocks(begin, end):
            for at in range(0, len(images), per_chunk):
                part = images[at : at + per_chunk]
                rows = (first + at, first + at + len(part))
                scalars = {
                    column.name: columns.read(column.array, column.index, *rows)
                    for column in self._selection.columns
                }
                part.flags.writeable = False
                yield part, scalars

    def _is_plain(self) -> bool:
        return all(reader.is_plain for reader in self._images)

    def _chunk_bytes(self) -> int:
        return _PLAIN_BYTES if self._is_plain() else _CHUNK_BYTES

    def _sample_bytes(self) -> int:
        itemsize = max(4, np.dtype(self._selection.images[0].dtype).itemsize)
        return itemsize * self._geometry.n_pixels

    def _bounds(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Cut [begin, end) at multiples of the stored chunks, as far as memory allows."""
        sample = self._sample_bytes()
        rows = max(1, self._chunk_bytes() // sample)
        if rows >= self._step:
            rows -= rows % self._step
        else:
            rows = min(self._step, max(1, _MAX_BLOCK_BYTES // sample))
        edges = [begin, *range(begin - begin % rows + rows, end, rows), end]
        return [(low, high) for low, high in pairwise(edges) if low < high]

    def _blocks(self, begin: int, end: int) -> Iterator[tuple[int, NDArray[Any]]]:
        bounds = self._bounds(begin, end)
        if self._is_plain() or reading_threads() == 1 or len(bounds) < 2:
            for low, high in bounds:
                yield low, self._read_block(low, high)
            return
        # One block ahead: two are held, and a third for as long as the caller holds his.
        with ThreadPoolExecutor(1, "e2eio-read") as ahead:
            pending = ahead.submit(self._read_block, *bounds[0])
            for (low, _), following in zip(bounds, [*bounds[1:], None], strict=True):
                block = pending.result()
                if following is not None:
                    pending = ahead.submit(self._read_block, *following)
                yield low, block
                del block

    def _read_block(self, begin: int, end: int) -> NDArray[Any]:
        """Return images [n, C, H, W], float32 or float64."""
        parts = [reader.read(begin, end) for reader in self._images]
        images = parts[0] if len(parts) == 1 else np.stack(parts, axis=1)
        if images.dtype == np.float16:
            images = images.astype(np.float32)
        return self._geometry.view(_with_own_dtype(images))


class _Columns:
    """Scalar fields, read many rows at a time and kept for the next images."""

    def __init__(self, readers: dict[ArrayInfo, RowReader], n_samples: int) -> None:
        self._readers = readers
        self._n_samples = n_samples
        self._held: dict[ArrayInfo, tuple[int, NDArray[Any]]] = {}

    def read(self, array: ArrayInfo, index: int, begin: int, end: int) -> NDArray[Any]:
        """Return column `index` of the rows [begin, end)."""
        first, table = self._held.get(array, (0, None))
        if table is None or not first <= begin <= end <= first + len(table):
            rows = max(end - begin, min(_COLUMN_ROWS, self._n_samples - begin))
            first, table = begin, self._table(array, begin, begin + rows)
            self._held[array] = (first, table)
        column: NDArray[Any] = table[begin - first : end - first, index]
        return column

    def _table(self, array: ArrayInfo, begin: int, end: int) -> NDArray[Any]:
        table = self._readers[array].read(begin, end).reshape(end - begin, -1)
        return _with_own_dtype(table.astype(np.float32) if table.dtype == np.float16 else table)


def _with_own_dtype(values: NDArray[Any]) -> NDArray[Any]:
    """Return the same array; libraries make dtypes that are equal to numpy's but not the same object."""
    return values.view(np.dtype(values.dtype.name))
