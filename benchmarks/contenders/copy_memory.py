"""Copying batches into a ring and nothing else: what a loader pays that reads dense images."""

from __future__ import annotations

import ctypes

import numpy as np

from contenders._clear import ClearContender
from harness.contender import Contender, Inputs, Setting, VerificationError

__all__ = ["create"]


class CopyContender(ClearContender):
    """Copies a batch of ones into the slots in turn, from several threads."""

    def __init__(self) -> None:
        self._copy = ctypes.CDLL(None).memcpy  # unlike ctypes.memmove, releases the GIL
        self._copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        self._copy.restype = ctypes.c_void_p
        super().__init__(self._fill)

    def prepare(self, inputs: Inputs, setting: Setting) -> None:
        super().prepare(inputs, setting)
        # As many source batches as slots, so that they do not come from the caches.
        floats = self._n_slots * self._slot_bytes // 4
        self._source = np.ones(floats, np.float32)

    def verify(self, inputs: Inputs) -> int:
        if self._memory is None:
            raise RuntimeError("not prepared")
        self._clear_slots(self._n_slots)
        if (np.frombuffer(self._memory, np.float32) != 1).any():
            raise VerificationError("memory is not what was copied into it")
        return self._n_slots * self._slot_samples

    def _fill(self, address: int, n_bytes: int) -> None:
        self._copy(address, self._source.ctypes.data + address - self._address, n_bytes)


def create() -> Contender:
    return CopyContender()
