"""The image batches on the device: fresh ones, or recycled ones that are cleared where they were written."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from e2eio.device.lanes import Lane
from e2eio.device.moves import Moves
from e2eio.device.wire_view import WireView

__all__ = ["Outputs", "RecycledOutputs", "Scatter"]

Scatter = Callable[..., None]

_TYPE_STRINGS = {torch.float32: "<f4", torch.float16: "<f2", torch.bfloat16: "<i2"}


class Outputs:
    """Fresh tensors: they belong to whoever gets them."""

    def __init__(self, lane: Lane, scatter: Scatter, *, channels_last: bool) -> None:
        self._lane = lane
        self._scatter = scatter
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def fill(
        self, wire: WireView, moves: Moves, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the dense batch [n, C, H, W], and the tensor whose memory it is. Requires: in the lane's context."""
        out = torch.empty(
            wire.shape, dtype=dtype, device=self._lane.device, memory_format=self._format
        )
        out.zero_()
        self._scatter(wire, out, moves)
        return out, out


@dataclass
class _Slot:
    memory: torch.Tensor
    wire: WireView | None = None  # what it was filled from; None: unknown, or nothing
    moves: Moves | None = None
    clean: bool = True
    free_after: Any = None


class _Lease:
    """Keeps a slot from being used again as long as a tensor over it lives."""

    def __init__(
        self, slot: _Slot, shape: tuple[int, ...], give_back: Callable[[_Slot], None]
    ) -> None:
        self._slot: _Slot | None = slot
        self._give_back = give_back
        self._counter: torch.Tensor | None = None
        self._version = 0
        interface = {
            "shape": shape,
            "typestr": _TYPE_STRINGS[slot.memory.dtype],
            "data": (slot.memory.data_ptr(), False),
            "version": 2 if slot.memory.is_cuda else 3,
        }
        if slot.memory.is_cuda:
            self.__cuda_array_interface__ = interface
        else:
            self.__array_interface__ = interface

    def watch(self, tensor: torch.Tensor) -> None:
        # Shares the version counter, which in-place operations raise, but not the memory.
        counter = tensor.detach()
        counter.data = torch.empty(0, device=tensor.device, dtype=tensor.dtype)
        self._counter, self._version = counter, counter._version

    def __del__(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            if self._counter is not None and self._counter._version != self._version:
                slot.clean, slot.wire = False, None
                warnings.warn(
                    "a recycled device batch was changed in place and is cleared in full; copy it first, or "
                    "pass recycle=False",
                    stacklevel=2,
                )
            self._give_back(slot)


class RecycledOutputs:
    """Tensors over a ring of buffers, cleared where the batch before wrote.

    In-place operations of torch on a batch are noticed, and its buffer is cleared in full; what writes past
    torch (a raw pointer, ``.data``) is not: such consumers take :class:`Outputs`.

    A buffer is filled again after the work that was queued, when its batch was dropped, on the stream that is current
    then and on the one that batches are delivered to. A batch that other streams read is kept until they have done
    so: ``record_stream`` does nothing for memory that is lent.
    """

    def __init__(self, lane: Lane, scatter: Scatter, *, channels_last: bool, n_kept: int) -> None:
        self._lane = lane
        self._scatter = scatter
        self._channels_last = channels_last
        self._n_kept = n_kept
        self._free: list[_Slot] = []

    def fill(
        self, wire: WireView, moves: Moves, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the dense batch [n, C, H, W], and the tensor whose memory it is. Requires: in the lane's context."""
        n, channels, height, width = wire.shape
        shape = (n, height, width, channels) if self._channels_last else wire.shape
        slot = self._take(n * channels * height * width, dtype)
        if slot.free_after is not None:
            self._lane.wait_for(slot.free_after)
        if slot.wire is not None and slot.moves is not None:
            self._scatter(slot.wire, self._image(slot, slot.wire), slot.moves, clear=True)
        elif not slot.clean:
            slot.memory.zero_()
        slot.wire, slot.moves, slot.clean = wire, moves, False
        self._scatter(wire, self._image(slot, wire), moves)
        # torch's allocator does not know the lent tensor; the buffer may be freed while it is still read.
        return self._lend(slot, shape, dtype), slot.memory

    def _take(self, n_values: int, dtype: torch.dtype) -> _Slot:
        for i, slot in enumerate(self._free):
            if slot.memory.numel() >= n_values and slot.memory.dtype == dtype:
                return self._free.pop(i)
        return _Slot(torch.zeros(n_values, dtype=dtype, device=self._lane.device))

    def _image(self, slot: _Slot, wire: WireView) -> torch.Tensor:
        n, channels, height, width = wire.shape
        flat = slot.memory[: n * channels * height * width]
        if self._channels_last:
            return flat.view(n, height, width, channels).permute(0, 3, 1, 2)
        return flat.view(wire.shape)

    def _lend(self, slot: _Slot, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        lease = _Lease(slot, shape, self._give_back)
        on_card = slot.memory.is_cuda
        lent = torch.as_tensor(lease, device=slot.memory.device) if on_card else np.asarray(lease)
        tensor = torch.as_tensor(lent).view(dtype)
        if self._channels_last:
            tensor = tensor.permute(0, 3, 1, 2)
        lease.watch(tensor)
        return tensor

    def _give_back(self, slot: _Slot) -> None:
        if len(self._free) < self._n_kept:
            slot.free_after = self._lane.consumed()
            self._free.append(slot)
