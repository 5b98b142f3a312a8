"""One pass over a DataLoader: batches that the core decodes, in the place of torch's workers."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import dataloader as torch_loader
from torch.utils.data._utils import pin_memory as torch_pinning

from e2eio.batches.delivery import SlowWarning, wait_for_batch
from e2eio.batches.lease import Lease
from e2eio.dataset import Samples
from e2eio.errors import ConfigError, E2eioError, ForkError
from e2eio.options import SAMPLE_ID
from e2eio.torch.collation import draws_nothing, is_default
from e2eio.torch.feeding import Feed
from e2eio.torch.samplers import unobserved
from e2eio.torch.workers import WorkerStreams, add_note

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio import _core
    from e2eio.batches.delivery import BatchAssembly
    from e2eio.torch.draws import Draws
    from e2eio.torch.identity import RankComparison
    from e2eio.torch.sources import SampleSource

__all__ = ["NativeIterator", "TrackedMulti", "TrackedSingle"]

_pin_memory: Callable[[Any, str | None], Any] = torch_pinning.pin_memory

# Batches that num_workers=0 decodes ahead of need, where nobody can notice that they were drawn.
_AHEAD = 2


class _Tracked(torch_loader._BaseDataLoaderIter):
    """Counts what is handed out, for the loader's state. Its index sampler is a Draws."""

    _index_sampler: Draws
    _base_seed: int

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        if not first_iter:
            self._index_sampler.restart()
        super()._reset(loader, first_iter)

    def __next__(self) -> Any:
        try:
            data = super().__next__()
        except StopIteration:
            self._index_sampler.finish()
            raise
        self._count()
        return data

    def _count(self) -> None:
        self._index_sampler.yielded()


class TrackedSingle(_Tracked, torch_loader._SingleProcessDataLoaderIter):
    """torch's iterator without workers."""


class TrackedMulti(_Tracked, torch_loader._MultiProcessingDataLoaderIter):
    """torch's iterator over worker processes."""


@dataclass(slots=True)
class _Pending:
    number: int
    ids: NDArray[np.int64] | None = None  # None: the index was bad
    pipeline: _core.Pipeline | None = None  # None: there is nothing to decode
    error: Exception | None = None


class NativeIterator(_Tracked):
    """Draws what torch's iterators draw, when they draw it, and has the core decode it.

    With workers, `prefetch_factor * num_workers` batches are drawn when the iteration begins, and one more when a batch
    has arrived, as torch does. Without workers a batch is drawn when it is asked for; two more are where that leaves no
    trace (`unobserved`).

    An error takes the place of its batch; the iteration goes on after it, as torch's does.

    Thread rule: any thread; threads that share an iterator take turns, and get each batch once.
    """

    def __init__(
        self,
        loader: Any,
        source: SampleSource,
        assembly: BatchAssembly,
        feed: Feed,
        comparison: RankComparison,
    ) -> None:
        super().__init__(loader)
        if assembly.dtype == "bfloat16" and not self._is_assembled():
            raise ConfigError(
                "samples of dtype='bfloat16': numpy has no bfloat16; collate float32 and convert the batch, or "
                "leave collate_fn and batch_size to e2eio"
            )
        self._base_seed = self._index_sampler.settle(self._base_seed)
        self._pid = os.getpid()
        self._turn = threading.RLock()  # a signal handler may come back to next()
        self._source = source
        self._assembly = assembly
        self._feed = feed
        self._comparison = comparison  # with the first batch: some iterators are only looked at
        self._ahead = _AHEAD if unobserved(self._index_sampler.samplers) else 0
        self._streams: WorkerStreams | None = None
        self._slow = SlowWarning("e2eio.DataLoader")
        if self._num_workers > 0:
            self._be_workers(loader)
            self._ahead = loader.prefetch_factor * self._num_workers
            if self._ahead <= 0:
                raise AssertionError(
                    "prefetch_factor must be greater than 0 for MultiProcessingDataLoaderIter"
                )
        feed.limit(self._ahead, self._num_workers)
        self._reset(loader, first_iter=True)

    def __next__(self) -> Any:
        if os.getpid() != self._pid:  # before the turn, which may be that of a thread of the parent
            raise ForkError(
                f"DataLoader iterator used after fork: made in process {self._pid}, used in {os.getpid()}; "
                "call iter() on the DataLoader in the child"
            )
        with self._turn:
            self._comparison.check()
            return super().__next__()

    def close(self) -> None:
        """End the iteration and join its threads; idempotent."""
        self._drawn_out = True
        self._pending.clear()
        self._feed.close()

    def _be_workers(self, loader: Any) -> None:
        if loader.worker_init_fn is not None or not draws_nothing(self._collate_fn):
            self._streams = WorkerStreams(self._base_seed, self._num_workers)
        if loader.worker_init_fn is not None and self._streams is not None:
            self._streams.initialise(loader.worker_init_fn, self._dataset)

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        if self._num_workers > 0 or not first_iter:  # torch asks for a second iterator here
            super()._reset(loader, first_iter)
        self._base_seed = self._index_sampler.settle(self._base_seed)
        self._pending: deque[_Pending] = deque()
        self._n_drawn = 0
        self._drawn_out = False
        self._feed.begin(self._base_seed)
        for _ in range(self._ahead if self._num_workers > 0 else 0):
            self._put_next()

    def _is_assembled(self) -> bool:
        return self._auto_collation and is_default(self._collate_fn)

    def _put_next(self) -> None:
        if self._drawn_out:
            return
        try:
            index = next(self._index_sampler)
        except StopIteration:
            self._drawn_out = True
            return
        pending = _Pending(self._n_drawn)
        self._n_drawn += 1
        try:
            pending.ids = self._source.ids(index if self._auto_collation else [index])
            if len(pending.ids) > 0:
                pending.pipeline = self._feed.put(pending.ids)
        except Exception as error:  # its batch is where torch raises it
            pending.error = error
        self._pending.append(pending)

    def _next_data(self) -> Any:
        if self._num_workers == 0:
            while len(self._pending) <= self._ahead and not self._drawn_out:
                self._put_next()
        if not self._pending:
            if not self._persistent_workers:
                self._feed.close()
            raise StopIteration
        pending = self._pending[0]
        batch: _core.Batch | None = None
        try:
            if pending.pipeline is not None:
                batch = self._wait(pending.pipeline)
        except E2eioError as error:  # a signal or a timeout leaves the batch where it is
            pending.error = error
        self._pending.popleft()
        self._index_sampler.yielded()
        if self._num_workers > 0:
            self._put_next()
        if pending.error is not None:
            try:
                raise pending.error
            finally:
                pending.error = None  # its traceback holds this frame
        return self._delivered(pending, batch)

    def _count(self) -> None:
        pass  # an error counts as well: _next_data does it

    def _wait(self, pipeline: _core.Pipeline) -> _core.Batch | None:
        return wait_for_batch(
            pipeline,
            self._timeout or None,
            note_wait=lambda s: self._slow.note(s, self._source.dataset, stacklevel=9),
            late=lambda _: RuntimeError(f"DataLoader timed out after {self._timeout} seconds"),
        )

    def _delivered(self, pending: _Pending, batch: _core.Batch | None) -> Any:
        if batch is not None and self._is_assembled():
            data = self._assembly.assemble(batch, _ignore)
        else:
            data = self._collated(pending, batch)
        if self._pin_memory:
            data = _pin_memory(data, self._pin_memory_device)
        return data

    def _collated(self, pending: _Pending, batch: _core.Batch | None) -> Any:
        samples = [] if batch is None else self._samples(batch)
        try:
            given = samples if self._auto_collation else samples[0]
            if self._streams is None:
                return self._collate_fn(given)
            try:
                with self._streams.acting(pending.number % self._num_workers):
                    return self._collate_fn(given)
            finally:
                self._index_sampler.progress.workers_drew = self._streams.drawn
        except Exception as error:
            add_note(error, self._note_of(pending))
            raise

    def _samples(self, batch: _core.Batch) -> list[Any]:
        ids = batch.ids
        image = Lease(batch, self._assembly.dtype, _ignore).array(writable=True)
        columns: dict[str, NDArray[Any]] = {}
        for name in self._assembly.fields:
            if name == self._assembly.image_name:
                columns[name] = image
            else:
                columns[name] = ids if name == SAMPLE_ID else self._assembly.scalars_at(name, ids)
        return Samples(columns, as_dict=self._assembly.as_dict)

    def _note_of(self, pending: _Pending) -> str:
        places = [
            self._source.place(int(each)) for each in ([] if pending.ids is None else pending.ids)
        ]
        listed = "; ".join(places[:8]) + ("; ..." if len(places) > 8 else "")
        return f"in collate_fn of batch {pending.number} of {len(places)} samples: {listed}"

    def __del__(self) -> None:
        feed = getattr(self, "_feed", None)
        if feed is not None and not sys.is_finalizing():
            feed.close()


def _ignore() -> None:
    """Batches are writable: that they were written into is no news."""
