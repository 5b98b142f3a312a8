"""The functions with which the core locks batch memory to its pages, so that a card reads it by itself."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import torch

__all__ = ["NO_PAGE_LOCK", "cuda_page_lock"]

#: (lock, unlock, flags) for the core: memory stays pageable.
NO_PAGE_LOCK = (0, 0, 0)

# cudaHostRegisterPortable: pinned for all contexts (CUDA Runtime API, section 5.9 "Memory Management").
_PORTABLE = 1
_RUNTIME = re.compile(r"(/\S*libcudart\S*\.so\S*)$")


def cuda_page_lock() -> tuple[int, int, int]:
    """Return the addresses of cudaHostRegister and cudaHostUnregister, and the flags.

    They are those of the CUDA runtime that torch has loaded: memory registered with another copy of it would
    be unknown to torch. ``NO_PAGE_LOCK`` if there is none.
    """
    if not torch.cuda.is_available():
        return NO_PAGE_LOCK
    torch.cuda.init()
    for path in _loaded_runtimes():
        runtime = ctypes.CDLL(path)
        lock, unlock = runtime.cudaHostRegister, runtime.cudaHostUnregister
        addresses = [ctypes.cast(function, ctypes.c_void_p).value for function in (lock, unlock)]
        if all(addresses):
            return int(addresses[0] or 0), int(addresses[1] or 0), _PORTABLE
    return NO_PAGE_LOCK


def _loaded_runtimes() -> list[str]:
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = [match.group(1) for line in lines if (match := _RUNTIME.search(line))]
    return sorted(set(found))
