"""Base of contenders that deliver an endless series of batches."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from harness.contender import Batch, Inputs, Setting, verify_epoch

__all__ = ["Stream", "repeat", "shuffled_batches"]


def repeat(epochs: Iterable[Any]) -> Iterator[Any]:
    """Go through a loader again and again."""
    while True:
        yield from epochs


def shuffled_batches(n_samples: int, batch_size: int) -> Iterator[list[int]]:
    """Yield batches of sample ids for ever: one exact shuffled epoch after the other."""
    random = np.random.default_rng(0)
    while True:
        ids = random.permutation(n_samples)
        for begin in range(0, n_samples, batch_size):
            yield ids[begin : begin + batch_size].tolist()


class Stream(ABC):
    """Delivers batches without end; the first `n_samples` samples are one epoch.

    Subclasses open their stream, and say how many batches are ready ahead of the consumer: a timed
    run begins after so many, which were made during the turns of others.
    """

    n_ahead = 2

    def __init__(self) -> None:
        self._batches: Iterator[Batch] | None = None
        self._details: Setting = {}

    @abstractmethod
    def settings(self, inputs: Inputs) -> list[Setting]:
        """See Contender."""

    @abstractmethod
    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Batch]:
        """Return the stream of (images float32 [b, C, H, W], labels [b])."""

    def prepare(self, inputs: Inputs, setting: Setting) -> None:
        self._batches = self.open(inputs, setting)

    def verify(self, inputs: Inputs) -> int:
        def epoch() -> Iterator[tuple[object, object]]:
            left = inputs.n_samples
            for images, labels in self._opened():
                x: Any = images
                y: Any = labels
                yield x[:left], y[:left]
                left -= len(x[:left])
                if left == 0:
                    return

        return verify_epoch(epoch(), inputs)

    @property
    def unit(self) -> int:
        return 1

    def batches(self, n: int) -> Iterator[Batch]:
        return itertools.islice(self._opened(), n)

    def details(self) -> Setting:
        return self._details

    def close(self) -> None:
        self._batches = None

    def _opened(self) -> Iterator[Batch]:
        if self._batches is None:
            raise RuntimeError("not prepared")
        return self._batches
