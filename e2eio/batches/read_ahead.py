"""Iterations of consumers that take batches before they are used, on their way to a device."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from e2eio.batches.frameworks import Framework
from e2eio.batches.iteration import BatchIterator
from e2eio.plan.resume import EpochProgress

__all__ = ["ReadAhead"]


class ReadAhead(Iterator[Any]):
    """One epoch of a loader, whose state counts the batches that :meth:`use` was called for, not those taken.

    Thread rule: one thread takes batches; use(), end() and close() from another, one at a time.

    Parameters
    ----------
    batches : BatchIterator
        Of a loader, not begun.
    framework : Framework or None
        What the arrays are, whatever the loader's own. None: those.
    """

    def __init__(self, batches: BatchIterator, framework: Framework | None = None) -> None:
        self._batches = batches
        if framework is not None:
            batches.framework = framework
        self._used: EpochProgress | None = (
            None  # what the loader's state tells; from the first batch on
        )
        self._n_used = 0

    def __len__(self) -> int:
        """Batches that are left to be used."""
        return len(self._batches) if self._used is None else self._used.n_left

    def __next__(self) -> Any:
        batch = next(self._batches)
        if self._used is None:
            self._used = self._batches._progress
            assert self._used is not None
            self._batches._progress = copy.copy(self._used)  # goes on counting what is taken
            self._used.deliver(0)
        return batch

    @property
    def ready(self) -> bool:
        """Whether the next batch is there already."""
        return self._batches.ready

    def use(self) -> None:
        """Note that the consumer has been given one more batch."""
        self._n_used += 1
        if self._used is not None:
            self._used.deliver(self._n_used)

    def end(self) -> None:
        """Note that the consumer knows that the epoch is over."""
        if self._used is not None:
            self._used.end()

    def close(self) -> None:
        """End the iteration, also for a thread that waits for its next batch; idempotent."""
        self._batches.close()
        if self._used is not None:
            self._used.active = False
