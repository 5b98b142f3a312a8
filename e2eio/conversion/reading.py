"""Reading of the samples that a task wants, around those that are excluded or cannot be read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from e2eio.errors import ImporterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.importers import ImageSource

__all__ = ["LeftOut", "Rows", "WantedRows"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Samples [begin, end) of a source that are not in the dataset, and why."""

    begin: int
    end: int
    reason: str

    @property
    def n_samples(self) -> int:
        """How many."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples of a source that follow one another.

    Parameters
    ----------
    begin : int
        Number of the first in the source.
    images : array [n, C, H, W]
    scalars : dict of str to array [n]
    """

    begin: int
    images: NDArray[Any]
    scalars: dict[str, NDArray[Any]]


class WantedRows:
    """Reads rows of a source, but for some.

    Where rows cannot be read, those before and after them are still read, each by itself if need
    be: first between the source's cuts, then around the sample that the error names. Rows that are
    excluded may be unreadable. One thread at a time may use it.

    Parameters
    ----------
    source : ImageSource
    exclude : tuple of int
        Ascending rows that are not wanted.
    limit : int
        Wanted rows that may be unreadable.
    crashed : tuple of (int, str)
        Ascending rows that crash their reader, and how: the source is not asked for them.
    """

    def __init__(
        self,
        source: ImageSource,
        exclude: tuple[int, ...],
        limit: int,
        crashed: tuple[tuple[int, str], ...] = (),
    ) -> None:
        self._source = source
        self._exclude = exclude
        self._limit = limit
        self._crashed = crashed
        self._left_out: list[LeftOut] = []

    @property
    def left_out(self) -> list[LeftOut]:
        """Wanted rows that could not be read, ascending; of what was read so far."""
        return self._left_out

    def leave_out(self, begin: int, end: int, error: ImporterError) -> None:
        """Count rows as unreadable.

        Raises
        ------
        ImporterError
            They are too many; `error` itself if there may be none.
        """
        if self._limit == 0:
            raise error
        self._left_out.append(LeftOut(begin, end, str(error)))
        n_left_out = sum(rows.n_samples for rows in self._left_out)
        if n_left_out > self._limit:
            raise ImporterError(
                f"too many bad samples: {self._source.path}: found {n_left_out} or more, expected "
                f"at most skip_bad = {self._limit}; the last one: {error}",
                self._source.path,
                sample=begin,
            ) from error

    def read(self, begin: int, end: int) -> Iterator[Rows]:
        """Yield the wanted rows of [begin, end) in order, as views.

        Raises
        ------
        ImporterError
            More rows than the limit cannot be read.
        ShardIOError
            The system refused.
        """
        for row, found in self._crashed:
            yield from self._read_between(begin, row)
            if not self._excluded(row, row + 1):
                reason = f"its reader crashed: {found}"
                self.leave_out(row, row + 1, ImporterError(reason, self._source.path, sample=row))
            begin = row + 1
        yield from self._read_between(begin, end)

    def _read_between(self, begin: int, end: int) -> Iterator[Rows]:
        if begin < end:
            for first, last in self._stretches(begin, end):
                for rows in self._read(first, last):
                    yield from self._wanted(rows)

    def _excluded(self, begin: int, end: int) -> tuple[int, ...]:
        low, high = bisect_left(self._exclude, begin), bisect_left(self._exclude, end)
        return self._exclude[low:high]

    def _cuts(self, begin: int, end: int) -> list[int]:
        """Return the source's cuts within, without the ends."""
        cuts = self._source.cuts
        low = int(np.searchsorted(cuts, begin, side="right"))
        return [int(cut) for cut in cuts[low : int(np.searchsorted(cuts, end, side="left"))]]

    def _stretches(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield what is read in one go: without the parts between two cuts that nobody wants."""
        if not self._excluded(begin, end):
            yield begin, end
            return
        first = begin
        for low, high in pairwise([begin, *self._cuts(begin, end), end]):
            if len(self._excluded(low, high)) == high - low:
                if first < low:
                    yield first, low
                first = high
        if first < end:
            yield first, end

    def _read(self, begin: int, end: int) -> Iterator[Rows]:
        todo = [(begin, end)]
        while todo:
            row, last = todo.pop()
            try:
                for images, scalars in self._source.chunks(row, last):
                    if row + len(images) > last:
                        raise self._wrong_count(row + len(images), last)
                    yield Rows(row, images, scalars)
                    row += len(images)
                if row < last:
                    raise self._wrong_count(row, last)
            except ImporterError as error:
                if row == last:
                    raise
                todo += reversed(self._parts(row, last, error))

    def _wrong_count(self, row: int, last: int) -> ImporterError:
        return ImporterError(
            f"wrong number of samples: {self._source.path}: found samples up to {row}, expected "
            f"{last}, as the file says; fetch the file again",
            self._source.path,
            sample=row,
        )

    def _parts(self, begin: int, end: int, error: ImporterError) -> list[tuple[int, int]]:
        """Return what of [begin, end), which cannot be read in one go, may be readable by itself."""
        excluded = self._excluded(begin, end)
        if len(excluded) == end - begin:
            return []
        if not excluded and (self._limit == 0 or end - begin == 1):
            self.leave_out(begin, end, error)
            return []
        cuts = self._cuts(begin, end)
        if cuts:
            middle = cuts[len(cuts) // 2]
            return [(begin, middle), (middle, end)]
        if excluded:
            gaps = pairwise([begin - 1, *excluded, end])
            return [(low + 1, high) for low, high in gaps if low + 1 < high]
        bad = error.sample
        if bad is None or not begin <= bad < end:
            self.leave_out(begin, end, error)
            return []
        parts = [(begin, bad), (bad, bad + 1), (bad + 1, end)]
        return [(low, high) for low, high in parts if low < high]

    def _wanted(self, rows: Rows) -> Iterator[Rows]:
        """Yield pieces around excluded rows, so that they stay views."""
        end = rows.begin + len(rows.images)
        gaps = self._excluded(rows.begin, end)
        for low, high in pairwise([rows.begin - 1, *gaps, end]):
            part = slice(low + 1 - rows.begin, high - rows.begin)
            if part.start < part.stop:
                scalars = {name: np.asarray(column[part]) for name, column in rows.scalars.items()}
                yield Rows(low + 1, rows.images[part], scalars)
