"""The C library's memset."""

from __future__ import annotations

import ctypes

from contenders._clear import ClearContender
from harness.contender import Contender

__all__ = ["create"]


def create() -> Contender:
    memset = ctypes.CDLL(None).memset  # unlike ctypes.memset, releases the GIL
    memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    memset.restype = ctypes.c_void_p

    def clear(address: int, n_bytes: int) -> None:
        memset(address, 0, n_bytes)

    return ClearContender(clear)
