"""What the sources in ROOT files share: a table, its size and digest, and how to walk through it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.errors import E2eioError, ImporterError
from e2eio.importers.file_source import FileSource
from e2eio.importers.source import Chunk, ImportOptions
from e2eio.schema import DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.importers.root.file import Column, Lists, RootFile, Table

    Ints = NDArray[np.int64]

__all__ = ["CHUNK_BYTES", "TableSource", "merged", "scalar_dtype", "sizes"]

#: Decoded size of a chunk, about.
CHUNK_BYTES: Final = 32 << 20


class TableSource(FileSource):
    """A table of a ROOT file; one thread at a time may use it.

    Those that derive from it set `_schema`, `_geometry` and `_cuts` and yield chunks in `_read`.
    """

    _cuts: Ints

    def __init__(self, file: RootFile, table: Table, options: ImportOptions) -> None:
        text = f"{table.name}\0{options.jet_recipe()}"
        digest = hashlib.blake2b(file.fingerprint + text.encode(), digest_size=16).digest()
        super().__init__(file.path, file.n_bytes, digest)
        self._file = file
        self._table = table
        self._options = options
        self._skipped: list[str] = []

    @property
    def n_samples(self) -> int:
        """Images."""
        return int(self._cuts[-1])

    @property
    def cuts(self) -> Ints:
        """First samples of baskets or clusters, and the number of samples."""
        return self._cuts

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()

    def chunks(self, begin: int, end: int) -> Iterator[Chunk]:
        """Yield the samples [begin, end) in order."""
        try:
            yield from super().chunks(begin, end)
        except MemoryError as error:
            raise self._error("too little memory", "no memory", "some") from error

    def _error(self, what: str, found: str, expected: str, row: int | None = None) -> E2eioError:
        at = "" if row is None else f", entry {row}"
        return ImporterError(
            f"{what}: {self.path}: tree {self._table.name!r}{at}: found {found}, "
            f"expected {expected}; mend or leave out the file",
            self.path,
            sample=row,
        )

    def _read_lists(self, name: str, begin: int, end: int) -> tuple[NDArray[Any], Ints]:
        """Return the numbers of a column of one list per entry, and the lists' lengths."""
        lists = self._table.read(name, begin, end)
        if len(lists.counts) != 1:
            raise self._error(f"wrong column {name!r}", self._table.column(name).text, "a list")
        return lists.values, sizes(lists)

    def _read_scalar(self, name: str, begin: int, end: int) -> NDArray[Any]:
        return self._table.read(name, begin, end).values


def sizes(lists: Lists) -> Ints:
    """Return the length of each outermost list."""
    count = lists.counts[0]
    return np.full(lists.n, count) if isinstance(count, int) else count


def scalar_dtype(column: Column) -> str | None:
    """Return the dtype of the scalar field that a column makes, or None if it makes none."""
    name = "float32" if column.dtype == "float16" else column.dtype
    return name if column.is_scalar and name in DTYPES else None


def merged(cuts: Ints, weights: Ints, begin: int, end: int, limit: int) -> list[tuple[int, int]]:
    """Cut [begin, end) at `cuts` into ranges of at most `limit` bytes each, or of one segment.

    Parameters
    ----------
    cuts : ndarray
        Ascending, from 0 on.
    weights : ndarray
        Bytes of the segment after each cut.
    begin, end : int
    limit : int
    """
    ranges: list[tuple[int, int]] = []
    start, held = begin, 0
    for (first, last), weight in zip(pairwise(cuts.tolist()), weights.tolist(), strict=True):
        if last <= begin or first >= end or first == last:
            continue
        if held and held + weight > limit:
            ranges.append((start, first))
            start, held = first, 0
        held += weight
    if start < end:
        ranges.append((start, end))
    return ranges
