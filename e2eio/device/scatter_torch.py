"""Scattering in plain torch operations: runs on any device, and is what the Triton kernel is compared with."""

from __future__ import annotations

import numpy as np
import torch

from e2eio.device.moves import Moves
from e2eio.device.wire_view import WireView

__all__ = ["scatter"]


def scatter(wire: WireView, out: torch.Tensor, moves: Moves, *, clear: bool = False) -> None:
    """Write the listed pixels of a wire batch into an image batch.

    Parameters
    ----------
    wire : WireView
    out : [n, C, H, W]
        On the wire's device; contiguous or channels_last. What is not listed is left as it is.
    moves : Moves
    clear : bool
        Write zeros in place of the values: undoes the scattering of the same wire with the same moves.
    """
    n_channels, height, width = wire.shape[1:]
    flat = torch.as_strided(out, (_extent(out),), (1,))
    for block in np.unique(wire.blocks):
        entries = torch.from_numpy(np.flatnonzero((wire.blocks == block) & (wire.n_words > 0)))
        counts = torch.from_numpy(wire.n_words)[entries]
        total = int(counts.sum())
        entries, counts = entries.to(out.device), counts.to(out.device)
        which = torch.repeat_interleave(entries, counts, output_size=total)
        begins = torch.repeat_interleave(counts.cumsum(0) - counts, counts, output_size=total)
        table = wire.channels.long()[which]
        i = torch.arange(total, device=out.device) - begins
        edge = int(block)
        columns = width // edge
        native = (i // columns) * edge * width + (i % columns) * edge
        is_dense = table[:, 3] >= 1 << 16
        listed = wire.positions[torch.where(is_dense, 0, table[:, 0] + i)].long()
        position = torch.where(is_dense, native, listed)
        sample, channel = which // n_channels, which % n_channels
        values = _values(wire, table[:, 1] + i, sample, channel, moves, out.dtype)
        if clear:
            values = torch.zeros_like(values)
        base = sample * out.stride(0) + channel * out.stride(1)
        for dy, dx in np.ndindex(edge, edge):
            y, x = position // width + dy, position % width + dx
            if moves.flip_eta is not None:
                y = torch.where(moves.flip_eta[sample], height - 1 - y, y)
            if moves.roll_phi is not None:
                x = torch.remainder(x + moves.roll_phi[sample], width)
            flat[base + y * out.stride(2) + x * out.stride(3)] = values


def _extent(out: torch.Tensor) -> int:
    return 1 + sum(
        (size - 1) * stride for size, stride in zip(out.shape, out.stride(), strict=True)
    )


def _values(
    wire: WireView,
    index: torch.Tensor,
    sample: torch.Tensor,
    channel: torch.Tensor,
    moves: Moves,
    dtype: torch.dtype,
) -> torch.Tensor:
    values = wire.values[index]
    if moves.flip_eta is not None and moves.flip_sign is not None:
        values = torch.where(
            moves.flip_eta[sample], values.float() * moves.flip_sign[channel], values.float()
        )
    if moves.scale is not None:
        values = values.float() * moves.scale[channel]
    return values.to(dtype)
