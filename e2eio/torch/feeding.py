"""Pipelines that batches of ids are fed to, large enough for each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from e2eio import _core
from e2eio.options import resolve_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from e2eio.dataset import Dataset

__all__ = ["Feed"]


class Feed:
    """Feeds ids to a pipeline; makes a larger one for a batch that exceeds it.

    The earlier pipeline lives on until its last batch was taken: whoever waits for one holds it.

    Thread rule: one thread at a time. No thread runs before the first batch is put. In a forked child
    it is dropped unused.

    Parameters
    ----------
    dataset : Dataset
    options : dict
        Of the pipeline, without batch_size, threads and prefetch.
    batch_size : int
        Expected; larger batches may come.
    """

    def __init__(self, dataset: Dataset, options: dict[str, Any], batch_size: int) -> None:
        self._dataset = dataset
        self._options = options
        self._capacity = max(1, batch_size)
        self._epoch = 0
        self._pid = os.getpid()
        self._pipeline: _core.Pipeline | None = None
        self._running = False
        self._last: dict[str, Any] = {}

    def limit(self, ahead: int, n_workers: int) -> None:
        """Set how many batches are decoded ahead at most, and by how many threads (0: as many as are of use)."""
        self._options = {
            **self._options,
            "threads": min(n_workers, _core.usable_cores())
            if n_workers > 0
            else resolve_threads("auto"),
            "auto_threads": n_workers == 0,
            "prefetch": max(1, ahead),
            "auto_prefetch": ahead > 1,
        }

    def begin(self, epoch: int) -> None:
        """Drop what was put; what is put from now on is of this epoch, for random transforms."""
        self._epoch = epoch
        self._running = False

    def put(self, ids: NDArray[np.int64]) -> _core.Pipeline:
        """Have a batch decoded; returns the pipeline that will deliver it, in the order of calls."""
        if len(ids) > self._capacity:
            self._capacity = max(len(ids), 2 * self._capacity)
            self._pipeline = None
        if self._pipeline is None:
            self._pipeline = self._make()
            self._running = False
        if not self._running:
            self._pipeline.start_fed(self._epoch)
            self._running = True
        self._dataset.awaken()
        self._pipeline.feed(ids)
        return self._pipeline

    def _make(self) -> _core.Pipeline:
        readers = self._dataset.shards
        return _core.Pipeline(readers, batch_size=self._capacity, fed=True, **self._options)

    def stats(self) -> dict[str, Any]:
        """Return the pipeline's counters, also after its end; {}: nothing was put."""
        return self._last if self._pipeline is None else self._pipeline.stats()

    def close(self) -> None:
        """Stop and join the threads; idempotent."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None and os.getpid() == self._pid:
            self._last = pipeline.stats()
            pipeline.close()
