"""Wire batches in, dense batches on the device out, ahead of need."""

from __future__ import annotations

import os
import shutil
import sysconfig
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from e2eio.batches.forms import Wire
from e2eio.device.lanes import Lane, lane_for
from e2eio.device.moves import Moves
from e2eio.device.outputs import Outputs, RecycledOutputs, Scatter
from e2eio.device.wire_view import DTYPES, WireView

__all__ = ["DeviceFeed", "scatter_for"]


def scatter_for(device: torch.device) -> Scatter:
    """Return the Triton kernel where it runs, else plain torch operations; on a card with a warning."""
    if device.type == "cuda":
        missing = _missing_for_triton()
        if not missing:
            from e2eio.device import scatter_triton

            return scatter_triton.scatter
        warnings.warn(
            f"{missing}: images are filled by plain torch operations, which is several times slower",
            stacklevel=3,
        )
    from e2eio.device import scatter_torch

    return scatter_torch.scatter


def _missing_for_triton() -> str:
    if find_spec("triton") is None:
        return "triton is missing (install it with 'pip install triton')"
    compilers = [os.environ.get("CC", "cc"), "gcc", "clang"]
    if not any(shutil.which(name) for name in compilers):
        return "there is no C compiler, which triton needs to start a kernel (install gcc, or name one in CC)"
    # Debian's default scheme names another directory than that of its packages.
    rooms = (sysconfig.get_path("include"), sysconfig.get_path("include", "posix_prefix"))
    if not any(Path(room, "Python.h").exists() for room in rooms):
        return "Python.h is missing, which triton compiles against (install python3-dev, or python3-devel)"
    return ""


@dataclass
class _OnItsWay:
    batch: Any
    event: Any
    tensors: list[torch.Tensor]


class DeviceFeed(Iterator[Any]):
    """Moves batches to a device on a stream of its own, and fills images there.

    Thread rule: one thread. The batch is ready for the stream that is current when it is delivered; the host
    waits for nothing. Dropping it, or :meth:`close`, waits for the copies out of lent memory.

    Parameters
    ----------
    batches : iterator
        Tensors in dicts, tuples or lists; each :class:`e2eio.Wire` among them becomes the dense images.
    device : torch.device
    ready : callable, or None
        Returns whether the next batch is there already: only then a batch is taken from `batches` ahead of need.
        None: always.
    depth : int
        Batches on their way to the device beside the one that is delivered.
    recycle : bool
        Fill buffers of a ring that are cleared sparsely, instead of fresh tensors.
    channels_last : bool
        Memory order of the images [n, C, H, W].
    dtype : torch.dtype or None
        Of the images; None: the wire's.
    moves : callable, or None
        The :class:`Moves` of a batch, made from it; None: none. Called with the feed's stream current; tensors
        that were made before the feed may be used.
    pageable : bool
        Batches are known not to be locked to their pages; otherwise that is warned about.
    """

    def __init__(
        self,
        batches: Iterator[Any],
        device: torch.device,
        *,
        ready: Callable[[], bool] | None = None,
        depth: int = 2,
        recycle: bool = False,
        channels_last: bool = False,
        dtype: torch.dtype | None = None,
        moves: Callable[[Any], Moves] | None = None,
        pageable: bool = False,
    ) -> None:
        self._pid = os.getpid()
        self._batches = batches
        self._lane: Lane = lane_for(device)
        self._lane.wait_for(self._lane.consumed())  # what `moves` holds may be under way
        self._ready = ready
        self._depth = depth
        self._dtype = dtype
        self._moves = moves
        scatter = scatter_for(device)
        self._outputs: Outputs | RecycledOutputs
        if recycle:
            self._outputs = RecycledOutputs(
                self._lane, scatter, channels_last=channels_last, n_kept=depth + 2
            )
        else:
            self._outputs = Outputs(self._lane, scatter, channels_last=channels_last)
        self._under_way: deque[_OnItsWay] = deque()
        self._copied: deque[tuple[Any, Any]] = deque()  # event, what it reads from
        self._warned = pageable
        self._error: Exception | None = None

    def __next__(self) -> Any:
        if not self._under_way:
            self._take()
        while self._error is None and len(self._under_way) <= self._depth:
            if self._ready is not None and not self._ready():
                break
            self._take()
        if not self._under_way:
            error = self._error or StopIteration()
            # Who waited too long may go on waiting; after all else it is over.
            self._error = None if isinstance(error, TimeoutError) else StopIteration()
            raise error
        first = self._under_way.popleft()
        self._lane.hand_over(first.event, first.tensors)
        return first.batch

    def _take(self) -> None:
        """Begin with the next batch; an error is kept for its place in the order."""
        if self._error is not None:
            return
        self._let_go()
        try:
            batch = next(self._batches)
        except StopIteration:
            self._error = StopIteration()  # without a traceback, which would hold this object
            return
        except Exception as error:
            self._error = error  # raised by __next__, in its place
            return
        tensors: list[torch.Tensor] = []
        try:
            with self._lane.work():
                moved = _map(batch, lambda value: self._move(value, batch, tensors))
        except Exception as error:  # the device's memory is full, say
            self._error = error
        event = self._lane.mark()
        self._copied.append((event, batch))
        if self._error is None:
            self._under_way.append(_OnItsWay(moved, event, tensors))

    def _let_go(self) -> None:
        """Drop the batches that were copied; wait where there are many, or where the next one may need their memory."""
        while self._copied and self._lane.is_over(self._copied[0][0]):
            self._copied.popleft()
        starving = self._ready is not None and not self._ready()
        most = 0 if starving else 2 * self._depth + 1
        while len(self._copied) > most:
            self._lane.finish(self._copied.popleft()[0])

    def _move(self, value: Any, batch: Any, tensors: list[torch.Tensor]) -> Any:
        device = self._lane.device
        if isinstance(value, Wire):
            on_host = torch.from_numpy(value.buffer)
            self._note_pageable(on_host)
            buffer = on_host.to(device, non_blocking=True)
            wire = WireView.of(value, buffer)
            moves = Moves() if self._moves is None else self._moves(batch)
            dtype = self._dtype or DTYPES[int(value.header["dtype"])]
            result, memory = self._outputs.fill(wire, moves, dtype)
            self._lane.keep(moves.tensors)
            tensors.append(memory)
            return result
        if isinstance(value, torch.Tensor):
            crosses = device.type == "cuda" and value.device.type == "cpu"
            # Pinned memory goes back to torch's cache, which waits for the copy.
            source = value.pin_memory() if crosses and not value.is_pinned() else value
            result = source.to(device, non_blocking=True)
            tensors.append(result)
            return result
        return value

    def _note_pageable(self, buffer: torch.Tensor) -> None:
        if self._lane.device.type == "cuda" and not self._warned and not buffer.is_pinned():
            self._warned = True
            warnings.warn(
                "the system does not lock batch memory to its pages: copies to the device are slower and the host "
                "waits for them; raise the limit (ulimit -l), or pass pin_memory=False to accept it",
                stacklevel=6,
            )

    def close(self) -> None:
        """Drop what is under way, after the copies that read from lent memory; idempotent."""
        if self._pid != os.getpid():
            return  # the copies are the parent's, and a forked child has no card
        self._under_way.clear()
        while self._copied:
            self._lane.finish(self._copied.popleft()[0])

    def __del__(self) -> None:
        if hasattr(self, "_error"):  # made in full
            self.close()


def _map(batch: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(batch, Wire):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: _map(value, function) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_map(value, function) for value in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(_map(value, function) for value in batch)
    return function(batch)
