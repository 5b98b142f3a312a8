"""Clearing a ring of batches and nothing else: what a loader pays that clears slots in full."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
import threading
from collections.abc import Callable, Iterator

import numpy as np

from harness.contender import Batch, Inputs, Setting, VerificationError

__all__ = ["ClearContender"]


class ClearContender:
    """Clears slots in turn from several threads; a cleared slot counts as a batch.

    Parameters
    ----------
    clear : callable (address, n_bytes)
        Has to release the GIL.
    """

    def __init__(self, clear: Callable[[int, int], None]) -> None:
        self._clear = clear
        self._memory: mmap.mmap | None = None

    def settings(self, inputs: Inputs) -> list[Setting]:
        return [{"threads": inputs.threads, "ring_slots": inputs.ring_slots}]

    def prepare(self, inputs: Inputs, setting: Setting) -> None:
        self._threads = int(setting["threads"])
        self._n_slots = int(setting["ring_slots"])
        self._slot_bytes = inputs.batch_bytes
        self._slot_samples = inputs.batch_size
        self._memory = mmap.mmap(-1, self._n_slots * self._slot_bytes)
        if hasattr(mmap, "MADV_HUGEPAGE"):  # as the loader's ring
            with contextlib.suppress(OSError):  # a kernel without them
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))

    def verify(self, inputs: Inputs) -> int:
        if self._memory is None:
            raise RuntimeError("not prepared")
        ctypes.memset(self._address, 0xFF, len(self._memory))
        self._clear_slots(self._n_slots)
        if np.frombuffer(self._memory, np.uint64).any():
            raise VerificationError("memory is not zero after it was cleared")
        return self._n_slots * self._slot_samples

    @property
    def unit(self) -> int:
        return self._threads

    def batches(self, n: int) -> Iterator[Batch]:
        self._clear_slots(n)
        batch = range(self._slot_samples), None
        return itertools.repeat(batch, n)

    def details(self) -> Setting:
        return {}

    def close(self) -> None:
        self._memory = None

    def _clear_slots(self, n: int) -> None:
        turn = itertools.count()

        def work() -> None:
            while (k := next(turn)) < n:
                self._clear(self._address + k % self._n_slots * self._slot_bytes, self._slot_bytes)

        threads = [threading.Thread(target=work) for _ in range(self._threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
