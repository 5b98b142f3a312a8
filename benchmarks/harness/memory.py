"""What a loader costs besides its rate: the wait for the first batch, and memory over many epochs.

Each function is meant for a process of its own.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

__all__ = ["grow_over_epochs", "time_first_batches"]


def time_first_batches(path: str, n: int) -> list[float]:
    """Return n times from `iter(loader)` to its first batch (ms), after one epoch to warm up."""
    import e2eio

    times_ms = []
    with e2eio.Loader(path, batch_size=64, shuffle=True, framework="numpy") as loader:
        for _ in loader:
            pass
        for _ in range(n):
            begin = time.perf_counter()
            next(iter(loader))
            times_ms.append(1000 * (time.perf_counter() - begin))
    return times_ms


def grow_over_epochs(path: str, n: int) -> float:
    """Return how much resident memory n epochs add (MiB), after 100 in which buffers come to be.

    That is by how much the least of the last tenth is above the least of the first: what is lost never comes back,
    while buffers of reads that had to wait for the disk come and go. Threads and prefetch are fixed: "auto" may at any
    time find that more slots pay, and a slot is 32 MB of memory that nobody has lost.
    """
    import e2eio

    fixed: dict[str, Any] = {"threads": 2, "prefetch": 4, "framework": "numpy"}
    with e2eio.Loader(path, batch_size=64, shuffle=True, **fixed) as loader:
        resident = []
        for _ in range(100 + n):
            for _ in loader:
                pass
            resident.append(_resident_bytes())
    tenth = max(n // 10, 1)
    return (min(resident[-tenth:]) - min(resident[100 : 100 + tenth])) / 2**20


def _resident_bytes() -> int:
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * 4096
