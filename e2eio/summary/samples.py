"""Single samples that stand out: the largest, and those that occur more than once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.summary.stream import Chunk

__all__ = ["Largest", "Repeats", "fingerprints"]

# splitmix64 (Steele, Lea, Flood 2014): every bit of the input changes half of those of the output.
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS: Final = (np.uint64(30), np.uint64(27), np.uint64(31))

# Fingerprints held at most, 16 bytes each; of larger datasets every second one, every fourth, ...
_MOST: Final = 1 << 23


class Largest:
    """The samples with the largest sums of absolute values, and with the largest pixels, of each channel.

    Parameters
    ----------
    n_channels : int
    n : int
        Samples of each.

    Attributes
    ----------
    sums, peaks : float64 [n, C]
        Descending; -inf: no such sample.
    sum_ids, peak_ids : int64 [n, C]
        Numbers of the samples.
    """

    def __init__(self, n_channels: int, n: int = 8) -> None:
        self.sums = np.full((n, n_channels), -np.inf)
        self.peaks = np.full((n, n_channels), -np.inf)
        self.sum_ids = np.full((n, n_channels), -1, dtype=np.int64)
        self.peak_ids = np.full((n, n_channels), -1, dtype=np.int64)

    def add(self, chunk: Chunk) -> None:
        """Take in the samples of a chunk."""
        sizes = np.where(np.isfinite(chunk.values), np.abs(chunk.values), 0.0).astype(np.float64)
        sums = chunk.reduce(np.add, sizes, 0.0)
        peaks = chunk.reduce(np.maximum, sizes, 0.0)
        self.sums, self.sum_ids = _top(self.sums, self.sum_ids, sums, chunk.ids)
        self.peaks, self.peak_ids = _top(self.peaks, self.peak_ids, peaks, chunk.ids)


def _top(
    best: NDArray[np.float64],
    ids: NDArray[np.int64],
    values: NDArray[np.float64],
    new: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    every = np.concatenate([best, values])
    numbers = np.concatenate([ids, np.broadcast_to(new[:, None], values.shape)])
    # By value, and of equal ones the lower number: the answer does not depend on the chunks.
    order = np.lexsort((numbers, -every), axis=0)[: len(best)]
    return np.take_along_axis(every, order, 0), np.take_along_axis(numbers, order, 0)


def fingerprints(chunk: Chunk) -> NDArray[np.uint64]:
    """Return 64 bits that depend on every pixel of a sample, [n]; 0 for an empty one."""
    with np.errstate(over="ignore"):
        mixed = chunk.position.astype(np.uint64) << np.uint64(32)
        mixed |= chunk.values.view(np.uint32)
        mixed += _STEP
        for factor, shift in zip(_MIX, _SHIFTS[:2], strict=True):
            mixed ^= mixed >> shift
            mixed *= factor
        mixed ^= mixed >> _SHIFTS[2]
        marks: NDArray[np.uint64] = chunk.reduce(np.add, mixed, 0).sum(axis=1, dtype=np.uint64)
        return marks


class Repeats:
    """Finds samples whose images are equal, by fingerprints of 64 bits.

    Of more than `most` samples only those are remembered whose fingerprint ends in one zero bit, then two, and so on: equal
    samples are kept or dropped together, so that memory stays bounded and the estimate of their number does not lean.

    Parameters
    ----------
    most : int
        Fingerprints held at most.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._kept: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []
        self._n = 0
        self.bits = 0

    def add(self, chunk: Chunk) -> None:
        """Take in the samples of a chunk."""
        marks, ids = self._chosen(fingerprints(chunk), chunk.ids)
        if not marks.size:
            return
        self._kept.append((marks, ids.copy()))
        self._n += marks.size
        while self._n > self._most:
            self.bits += 1
            self._kept = [self._chosen(*part) for part in self._kept]
            self._n = sum(marks.size for marks, _ in self._kept)

    def _chosen(
        self, marks: NDArray[np.uint64], ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        kept = (marks != 0) & (marks & np.uint64((1 << self.bits) - 1) == 0)
        return marks[kept], ids[kept]

    def groups(self) -> list[NDArray[np.int64]]:
        """Return the numbers of the samples of each group of equal ones, ascending."""
        if not self._kept:
            return []
        marks = np.concatenate([part[0] for part in self._kept])
        ids = np.concatenate([part[1] for part in self._kept])
        order = np.lexsort((ids, marks))
        marks, ids = marks[order], ids[order]
        ends = np.flatnonzero(np.diff(marks)) + 1
        parts = [part for part in np.split(ids, ends) if part.size > 1]
        return sorted(parts, key=lambda part: int(part[0]))
