"""Times on a card, by CUDA events, and rates into its memory.

An event is a mark in a stream: the card notes the time when all that was queued before it is done.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from gpu.feeds import Feed

__all__ = ["Stall", "copy_bytes_per_s", "jets_per_s", "kernel_ms", "train"]

WARM_UP_STEPS = 20


def jets_per_s(feed: Feed, seconds: float, device: torch.device) -> float:
    """Return the rate of one feed from its first ``iter()`` to the end of the last copy; restarts included."""
    _wait_for(device)
    n, begin = 0, time.perf_counter()
    for batch in _endless(feed):
        n += len(batch[0])
        del batch
        if time.perf_counter() - begin >= seconds:
            break
    _wait_for(device)
    return n / (time.perf_counter() - begin)


def _endless(feed: Feed) -> Iterator[Any]:
    while True:
        yield from feed.epoch()


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def kernel_ms(action: Callable[[], object], times: int = 20, *, as_graph: bool = True) -> float:
    """Return what an action takes the card: as a graph, so that the host's launches do not count.

    What copies from pageable memory, or waits for the card, cannot be a graph: the host's part counts there.
    """

    def repeated() -> None:
        for _ in range(times):
            action()

    action()  # compiles what is to be compiled
    torch.cuda.synchronize()
    if as_graph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            repeated()
    run = graph.replay if as_graph else repeated
    run()
    begin, end = _event(), _event()
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / times


def copy_bytes_per_s(device: torch.device, n_bytes: int = 1 << 28, times: int = 10) -> float:
    """Return the rate of copies from pinned host memory, one after the other."""
    source = torch.empty(n_bytes, dtype=torch.uint8).pin_memory()
    target = torch.empty(n_bytes, dtype=torch.uint8, device=device)
    target.copy_(source, non_blocking=True)
    begin, end = _event(), _event()
    begin.record()
    for _ in range(times):
        target.copy_(source, non_blocking=True)
    end.record()
    end.synchronize()
    return times * n_bytes / (1e-3 * float(begin.elapsed_time(end)))


class Stall(NamedTuple):
    """What the compute stream did while a network was trained.

    Attributes
    ----------
    share : float
        Of the time in which no step was under way, between the end of one and the begin of the next.
    step_ms : float
        Time from begin to begin, averaged.
    """

    share: float
    step_ms: float


def train(network: torch.nn.Module, batches: Iterable[Any], steps: int) -> Stall:
    """Train for some steps in bfloat16 and return what the compute stream did, by its events.

    The begin of a step is marked after the batch was delivered: the stream waits for the batch there.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
    for k, (images, labels) in zip(range(WARM_UP_STEPS + steps), batches, strict=False):
        begin, end = _event(), _event()
        begin.record()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            classes = network(images)
        cross_entropy(classes.float(), labels.long()).backward()
        optimizer.step()
        end.record()
        if k >= WARM_UP_STEPS:
            marks.append((begin, end))
    torch.cuda.synchronize()
    total = marks[0][0].elapsed_time(marks[-1][0])
    pairs = itertools.pairwise(marks)
    idle = sum(end.elapsed_time(begin) for (_, end), (begin, _) in pairs)
    return Stall(idle / total, total / (len(marks) - 1))


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)
