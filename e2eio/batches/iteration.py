"""One pass over a loader's batches, and how it ends: in full, dropped, interrupted, forked."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any, NoReturn, Protocol

from e2eio import _core
from e2eio.batches.delivery import wait_for_batch
from e2eio.batches.frameworks import Framework
from e2eio.errors import ForkError
from e2eio.plan.resume import EpochProgress

__all__ = ["BatchIterator", "Origin"]

_TURN_S = 1.0  # once the pipeline is closed, another thread's wait for it is over at once
_ENDING_S = 0.2  # how long daemon threads may take to come to rest when the interpreter ends


class _InterpreterEnds(BaseException):
    """Raised in daemon threads, and caught before they see it."""


# These leave an iterator as it was; any other error ends it.
_LEAVE_IT = (KeyboardInterrupt, SystemExit, TimeoutError, _InterpreterEnds)

_live: weakref.WeakSet[BatchIterator] = weakref.WeakSet()
_resting: set[int] = set()  # threads
_ending = False


def _rest_daemons() -> None:
    """Have daemon threads that iterate wait in next() when the interpreter ends.

    Python <= 3.13 ends daemon threads wherever they ask for the GIL; within a framework's C++ that ends the
    process (torch says "terminate called without an active exception").
    """
    global _ending
    _ending = True
    pid, main = os.getpid(), threading.main_thread().ident
    running = [each for each in list(_live) if each._pid == pid and each._pipeline is not None]
    consumers = {each._consumer for each in running} - {main}
    end = time.monotonic() + _ENDING_S
    while time.monotonic() < end:
        if not (consumers & {thread.ident for thread in threading.enumerate()}) - _resting:
            break
        time.sleep(0.001)


atexit.register(_rest_daemons)  # runs when all threads that are no daemons have ended


def _rest() -> NoReturn:
    _resting.add(threading.get_ident())
    while True:
        threading.Event().wait()


def _check_interpreter() -> bool:
    """Raise in a daemon thread when the interpreter ends; False otherwise."""
    if _ending and threading.current_thread() is not threading.main_thread():
        raise _InterpreterEnds
    return False


def _late(timeout_s: float) -> TimeoutError:
    return TimeoutError(f"e2eio.Loader timed out after {timeout_s:g} seconds; the storage stalls")


class Origin(Protocol):
    """The loader, as its iterators see it."""

    @property
    def n_next(self) -> int:
        """Batches of the iteration that comes next."""

    def begin(self, pipeline: _core.Pipeline) -> EpochProgress:
        """Start the pipeline on the iteration that comes next."""

    def assemble(self, batch: _core.Batch, framework: Framework) -> Any:
        """Return the batch as the framework's arrays."""

    def reuse(self, pipeline: _core.Pipeline) -> None:
        """Take back the pipeline of an iterator that is done with it."""

    def note_wait(self, waited_s: float) -> None:
        """Say what the consumer waits for, if it takes very long."""

    @property
    def timeout_s(self) -> float | None:
        """Seconds to wait for a batch; None: for ever."""


class BatchIterator(Iterator[Any]):
    """One pass over a loader. Dropping it, or :meth:`close`, ends its threads; a full epoch leaves them to the loader.

    Thread rule: any thread; threads that share an iterator take turns, and get each batch once. A signal
    that raises (Ctrl-C) leaves it as it was, any other error ends it. It cannot be pickled.
    """

    # Taken away by whoever ends the iteration: one of the threads that may try.
    _pipeline: _core.Pipeline | None = None

    def __init__(self, loader: Origin, pipeline: _core.Pipeline, framework: Framework) -> None:
        self.framework = framework  # may be replaced: what the next batches are made of
        self._loader = loader
        self._pid = os.getpid()
        self._turn = (
            threading.RLock()
        )  # held within next(), to which a signal handler may come back
        self._pipeline = pipeline
        self._progress: EpochProgress | None = None  # until the first batch is asked for
        self._n_taken = 0
        self._consumer = 0  # a thread
        _live.add(self)

    def __iter__(self) -> BatchIterator:
        return self

    def __len__(self) -> int:
        """Batches that are left."""
        return self._loader.n_next if self._progress is None else self._progress.n_left

    @property
    def ready(self) -> bool:
        """Whether the next batch is there already."""
        pipeline = self._pipeline
        return pipeline is not None and self._progress is not None and pipeline.ready

    def __reduce__(self) -> str:
        raise TypeError(
            "cannot pickle an iterator of e2eio.Loader: it owns threads and memory of this process; "
            "pickle the Loader and iterate over the copy"
        )

    def __next__(self) -> Any:
        if os.getpid() != self._pid:  # before the turn, which may be that of a thread of the parent
            raise ForkError(
                f"iterator used after fork: begun in process {self._pid}, used in {os.getpid()}; "
                "iterate over the Loader again in the child"
            )
        try:
            with self._turn:
                return self._next()
        except _InterpreterEnds:
            _rest()

    def _next(self) -> Any:
        pipeline = self._pipeline
        if pipeline is None:
            raise StopIteration
        self._consumer = threading.get_ident()
        _check_interpreter()
        if self._progress is None:
            self._progress = self._loader.begin(pipeline)
        try:
            batch = wait_for_batch(
                pipeline,
                self._loader.timeout_s,
                note_wait=self._loader.note_wait,
                late=_late,
                ended=lambda: _check_interpreter() or self._pipeline is not pipeline,
            )
        except BaseException as error:
            # A signal leaves the iterator as it was; an error ends it.
            if not isinstance(error, _LEAVE_IT):
                self.close()
            raise
        if batch is None:
            taken = self._take()
            if taken is not None:
                self._progress.end()
                self._loader.reuse(taken)
            raise StopIteration
        self._n_taken += 1
        arrays = self._loader.assemble(batch, self.framework)
        self._progress.deliver(self._n_taken)
        return arrays

    def close(self) -> None:
        """End the iteration and join its threads; idempotent. It ends for those who wait in next(), too."""
        pipeline = self._take()
        if pipeline is None or os.getpid() != self._pid:
            return
        pipeline.close()
        # Not before nobody is in next() any more: the next epoch must not be mistaken for this one. (Threads that the
        # end of the interpreter has stopped never leave.)
        if self._turn.acquire(timeout=_TURN_S):
            self._turn.release()
            self._loader.reuse(pipeline)

    def _take(self) -> _core.Pipeline | None:
        taken: _core.Pipeline | None = vars(self).pop("_pipeline", None)
        if taken is not None and self._progress is not None:
            self._progress.active = False
        return taken

    def __del__(self) -> None:
        self.close()
