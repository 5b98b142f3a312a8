"""What DALI's contenders share: an endless pipeline on the CPU, as torch tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from contenders._stream import Stream
from harness.contender import Inputs

__all__ = ["DaliContender", "Order"]

DEPTH = 2  # batches that DALI prepares ahead, its default


class DaliContender(Stream):
    """Builds a graph and iterates over what it delivers."""

    n_ahead = 2 * DEPTH

    def deliver(self, pipe: Any, names: list[str]) -> Iterator[Any]:
        pipe.build()
        for (batch,) in DALIGenericIterator(pipe, names, size=-1):  # without an end
            yield tuple(batch[name] for name in names)


class Order:
    """Sample ids of epoch after epoch, each shuffled, by running number."""

    def __init__(self, inputs: Inputs) -> None:
        self._n = inputs.n_samples
        self._epoch = -1
        self._ids = np.empty(0, np.int64)

    def __getitem__(self, number: int) -> int:
        epoch, place = divmod(number, self._n)
        if epoch != self._epoch:
            self._epoch, self._ids = epoch, np.random.default_rng(epoch).permutation(self._n)
        return int(self._ids[place])
