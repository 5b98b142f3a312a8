"""Waiting for other processes: bounded, and open to signals."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["wait_until"]


def wait_until(done: Callable[[], bool], timeout_s: float) -> bool:
    """Return whether it became true in time. Python's own sleep lets Ctrl-C through."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.0005
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.05)
    return True
