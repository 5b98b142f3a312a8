"""Which of torch's datasets the core can read: an e2eio.Dataset, and subsets and concatenations of some."""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Subset

from e2eio.dataset import Dataset, join_datasets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["SampleSource", "sample_source"]


@dataclass(frozen=True)
class SampleSource:
    """The samples of a torch dataset as samples of one e2eio.Dataset. Thread rule: any thread.

    Attributes
    ----------
    dataset : Dataset
        Of all datasets below, one after the other.
    numbers : range or ndarray of int64
        The number in it of each sample of the torch dataset.
    parts : tuple of Dataset
        What `dataset` was joined from.
    """

    dataset: Dataset
    numbers: range | NDArray[np.int64]
    parts: tuple[Dataset, ...]

    def ids(self, indices: Any) -> NDArray[np.int64]:
        """Return the sample ids of numbers as a sampler yields them.

        Raises
        ------
        IndexError
            A number is outside of the dataset.
        TypeError
            A number is no integer.
        """
        numbers = _integers(indices)
        n = len(self.numbers)
        wrapped = np.where(numbers < 0, numbers + n, numbers)
        outside = (wrapped < 0) | (wrapped >= n)
        if outside.any():
            raise IndexError(f"sample {numbers[outside][0]} of a dataset of {n}")
        if isinstance(self.numbers, range):
            return wrapped + self.numbers.start
        return self.numbers[wrapped]

    @cached_property
    def numbers_digest(self) -> str:
        """16 hex digits of `numbers`, whether they are a range or listed."""
        stored = _range_text(self.numbers) or np.asarray(self.numbers, dtype="<i8").tobytes()
        return hashlib.blake2b(stored, digest_size=8).hexdigest()

    def place(self, sample_id: int) -> str:
        """Say which sample of its dataset this is, as ``ds[...]`` counts, and of its shard."""
        begin = 0
        for number, part in enumerate(self.parts):
            if sample_id < begin + len(part):
                within = sample_id - begin
                which = f"sample {within}" + (
                    f" of dataset {number}" if len(self.parts) > 1 else ""
                )
                return f"{which} ({_shard_of(part, within)})"
            begin += len(part)
        raise IndexError(sample_id)


def _range_text(numbers: range | NDArray[np.int64]) -> bytes | None:
    """Return the same for a range and for its numbers; None: they are not one after the other."""
    if len(numbers) > 0 and not isinstance(numbers, range) and (np.diff(numbers) == 1).all():
        numbers = range(int(numbers[0]), int(numbers[-1]) + 1)
    return repr(numbers).encode() if isinstance(numbers, range) else None


def _shard_of(dataset: Dataset, sample: int) -> str:
    path, number = dataset.path_of(sample)
    return f"number {number} in {path}"


def sample_source(dataset: object, before: SampleSource | None = None) -> SampleSource | None:
    """Return where the samples of a dataset are; None: not all in e2eio.Datasets of one schema.

    A class of one's own that changes how samples are got is left to torch. Subsets may list their numbers
    in any way that numpy turns into integers; they are read now, once. What was joined for `before` is used
    again if it can be.
    """
    parts: list[Dataset] = []
    numbers = _resolve(dataset, parts)
    if numbers is None or any(each.schema != parts[0].schema for each in parts):
        return None
    if before is not None and list(map(id, parts)) == list(map(id, before.parts)):
        return SampleSource(before.dataset, numbers, before.parts)
    return SampleSource(join_datasets(parts), numbers, tuple(parts))


def _resolve(dataset: object, below: list[Dataset]) -> range | NDArray[np.int64] | None:
    if isinstance(dataset, Dataset) and _is_plain(dataset, Dataset):
        return _range_of(dataset, below)
    if isinstance(dataset, Subset) and _is_plain(dataset, Subset):
        inner = _resolve(dataset.dataset, below)
        return None if inner is None else _chosen(inner, dataset.indices)
    if isinstance(dataset, ConcatDataset) and _is_plain(dataset, ConcatDataset):
        parts = [_resolve(each, below) for each in dataset.datasets]
        known = [part for part in parts if part is not None]
        return _joined(known) if len(known) == len(parts) else None
    return None


def _is_plain(dataset: object, kind: type) -> bool:
    names = ("__getitem__", "__getitems__", "__len__")
    return all(getattr(type(dataset), name, None) is getattr(kind, name, None) for name in names)


def _range_of(dataset: Dataset, below: list[Dataset]) -> range:
    begin = 0
    for known in below:
        if known is dataset:
            return range(begin, begin + len(known))
        begin += len(known)
    below.append(dataset)
    return range(begin, begin + len(dataset))


def _chosen(inner: range | NDArray[np.int64], indices: Sequence[int]) -> NDArray[np.int64] | None:
    try:
        numbers = np.asarray(indices)
    except (TypeError, ValueError, RuntimeError):
        return None
    if numbers.size == 0:
        return np.zeros(0, dtype=np.int64)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        return None
    numbers = numbers.astype(np.int64, copy=False)
    wrapped = np.where(numbers < 0, numbers + len(inner), numbers)
    if wrapped.min() < 0 or wrapped.max() >= len(inner):
        return None  # torch says so when the number is drawn
    return wrapped + inner.start if isinstance(inner, range) else inner[wrapped]


def _joined(parts: list[range | NDArray[np.int64]]) -> range | NDArray[np.int64]:
    ranges = [part for part in parts if isinstance(part, range)]
    if len(ranges) == len(parts) and all(
        before.stop == after.start for before, after in pairwise(ranges)
    ):
        return range(ranges[0].start, ranges[-1].stop)
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])


def _integers(indices: Any) -> NDArray[np.int64]:
    if isinstance(indices, list | tuple | range | np.ndarray | torch.Tensor) and len(indices) > 0:
        numbers = np.asarray(indices)
        if numbers.ndim == 1 and numbers.dtype.kind in "iu":
            return numbers.astype(np.int64, copy=False)
    return np.array([operator.index(index) for index in indices], dtype=np.int64)
