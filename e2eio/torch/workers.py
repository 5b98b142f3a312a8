"""The random numbers of torch's worker processes, where there are threads."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data._utils import worker as torch_worker

# The seed of numpy that torch gives a worker process.
_generate_state: Callable[[int, int], list[int]] = torch_worker._generate_state

__all__ = ["WorkerStreams", "add_note", "global_streams_kept"]


def _states() -> tuple[Any, Any, Any]:
    return random.getstate(), torch.get_rng_state(), np.random.get_state()


def _restore(states: tuple[Any, Any, Any]) -> None:
    random.setstate(states[0])
    torch.set_rng_state(states[1])
    np.random.set_state(states[2])


def _equal(before: tuple[Any, Any, Any], after: tuple[Any, Any, Any]) -> bool:
    return (
        before[0] == after[0]
        and torch.equal(before[1], after[1])
        and all(np.array_equal(one, other) for one, other in zip(before[2], after[2], strict=True))
    )


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an error, in any version of Python."""
    if sys.version_info >= (3, 11):
        error.add_note(note)
    else:
        vars(error).setdefault("__notes__", []).append(note)


@contextmanager
def global_streams_kept() -> Iterator[None]:
    """Put the global random numbers of Python, torch (of the CPU) and numpy back afterwards."""
    before = _states()
    try:
        yield
    finally:
        _restore(before)


class WorkerStreams:
    """Runs Python code with the random numbers that it would have in torch's worker processes.

    A worker process seeds Python's, torch's and numpy's random numbers with the loader's base seed and its own
    number. `collate_fn` and `worker_init_fn` run in the consumer's thread here, but with those streams, so
    that they draw what they would draw there, and leave the consumer's alone.

    Thread rule: one thread at a time.
    """

    def __init__(self, base_seed: int, n_workers: int) -> None:
        self._seeds = [base_seed + worker for worker in range(n_workers)]
        self._states: list[tuple[Any, Any, Any]] = []
        #: collate_fn has drawn.
        self.drawn = False
        with global_streams_kept():
            for worker, seed in enumerate(self._seeds):
                random.seed(seed)
                torch.default_generator.manual_seed(seed)
                np.random.seed(_generate_state(base_seed, worker))
                self._states.append(_states())

    @contextmanager
    def acting(self, worker: int) -> Iterator[None]:
        """Draw from the streams of a worker."""
        before = self._states[worker]
        with global_streams_kept():
            _restore(before)
            try:
                yield
            finally:
                after = self._states[worker] = _states()
                self.drawn = self.drawn or not _equal(before, after)

    def initialise(self, worker_init_fn: Callable[[int], object], dataset: Any) -> None:
        """Call `worker_init_fn` for each worker; get_worker_info() works in it."""
        outside = torch_worker._worker_info
        for worker, seed in enumerate(self._seeds):
            with self.acting(worker):
                torch_worker._worker_info = torch_worker.WorkerInfo(
                    id=worker, num_workers=len(self._seeds), seed=seed, dataset=dataset
                )
                try:
                    worker_init_fn(worker)
                except Exception as error:
                    add_note(error, f"in worker_init_fn of worker {worker} of {len(self._seeds)}")
                    raise
                finally:
                    torch_worker._worker_info = outside
        self.drawn = False  # it is called again wherever the state is gone on with
