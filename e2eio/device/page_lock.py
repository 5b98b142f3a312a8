"""The functions with which the core locks batch memory to its pages, so that a card reads it by itself."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import torch

__all__ = ["NO_PAGE_LOCK", "cuda_page_lock"]

#: (lock, unlock, flags, enter, leave, context) for the core: memory stays pageable.
NO_PAGE_LOCK = (0, 0, 0, 0, 0, 0)

# cudaHostRegisterPortable: pinned for all contexts (CUDA Runtime API, section 5.9 "Memory Management").
_PORTABLE = 1
# The path at the end of a line of /proc/self/maps; it may have spaces in it.
_RUNTIME = re.compile(r"^(?:\S+ +){5}(/.*/libcudart[^/]*\.so[^/]*)$")


def cuda_page_lock(device: torch.device | None = None) -> tuple[int, ...]:
    """Return the addresses of cudaHostRegister and cudaHostUnregister, the flags, and the context to call them in.

    They are those of the CUDA runtime that torch has loaded: memory registered with another copy of it would
    be unknown to torch. ``NO_PAGE_LOCK`` if there is none. Without a context of their own, the core's threads
    would make one on the first card, some hundred MB of it, whatever card the process uses.

    Parameters
    ----------
    device : torch.device or None
        Whose context; None: the current one's.
    """
    if not torch.cuda.is_available():
        return NO_PAGE_LOCK
    torch.cuda.init()
    for path in _loaded_runtimes():
        runtime = ctypes.CDLL(path)
        lock, unlock = (
            _address(runtime, "cudaHostRegister"),
            _address(runtime, "cudaHostUnregister"),
        )
        if lock and unlock:
            return (lock, unlock, _PORTABLE, *_context_of(device))
    return NO_PAGE_LOCK


def _context_of(device: torch.device | None) -> tuple[int, int, int]:
    """Return cuCtxPushCurrent, cuCtxPopCurrent and the device's primary context; zeros if there is no such thing."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0, 0, 0
    enter, leave = _address(driver, "cuCtxPushCurrent_v2"), _address(driver, "cuCtxPopCurrent_v2")
    context = ctypes.c_void_p()
    with torch.cuda.device(device):
        torch.cuda.synchronize()  # makes the context
        failed = driver.cuCtxGetCurrent(ctypes.byref(context))
    if failed or not (enter and leave and context.value):
        return 0, 0, 0
    return enter, leave, context.value


def _address(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def _loaded_runtimes() -> list[str]:
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = [match.group(1) for line in lines if (match := _RUNTIME.match(line))]
    return sorted(set(found))
