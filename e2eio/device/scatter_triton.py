"""Scattering in one kernel on the card: the only module that imports triton."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from e2eio.device.moves import Moves
from e2eio.device.wire_view import WireView

__all__ = ["scatter"]

# Pixels that a program writes at a time: neighbours of a block lie side by side, so that stores coalesce.
_CHUNK = 256
# Programs per channel of a sample; each takes every so-manieth chunk, so that long channels do not decide.
_PROGRAMS = 8


@triton.jit  # type: ignore[untyped-decorator]
def _scatter(
    table: Any,
    positions: Any,
    values: Any,
    out: Any,
    scale: Any,
    flip_eta: Any,
    flip_sign: Any,
    roll_phi: Any,
    n_channels: Any,
    height: Any,
    width: Any,
    stride_sample: Any,
    stride_channel: Any,
    stride_y: Any,
    stride_x: Any,
    has_scale: tl.constexpr,
    has_flip: tl.constexpr,
    has_sign: tl.constexpr,
    has_roll: tl.constexpr,
    clear: tl.constexpr,
    chunk: tl.constexpr,
) -> None:
    entry = tl.program_id(0)
    first_position = tl.load(table + entry * 4)
    first_value = tl.load(table + entry * 4 + 1)
    n = tl.load(table + entry * 4 + 2)
    packed = tl.load(table + entry * 4 + 3)
    edge = packed & 0xFFFF
    n_listed = tl.where(packed < 0x10000, n, 0)  # dense channels have no positions
    sample = entry // n_channels
    channel = entry % n_channels
    columns = width // edge
    area = edge * edge
    n_pixels = n * area
    base = sample.to(tl.int64) * stride_sample + channel.to(tl.int64) * stride_channel
    for begin in range(tl.program_id(1) * chunk, n_pixels, tl.num_programs(1) * chunk):
        pixel = begin + tl.arange(0, chunk)
        inside = pixel < n_pixels
        i = pixel // area
        in_block = pixel % area
        native = (i // columns) * edge * width + (i % columns) * edge
        listed = tl.load(positions + first_position + i, mask=i < n_listed, other=0)
        position = tl.where(n_listed > 0, listed, native)
        y = position // width + in_block // edge
        x = position % width + in_block % edge
        value = tl.load(values + first_value + i, mask=inside, other=0)
        if has_flip:
            flipped = tl.load(flip_eta + sample) != 0
            y = tl.where(flipped, height - 1 - y, y)
            if has_sign:
                sign = tl.load(flip_sign + channel)
                value = tl.where(flipped, value.to(tl.float32) * sign, value.to(tl.float32))
        if has_roll:
            x = x + tl.load(roll_phi + sample)
            x = x % width  # C's remainder: negative for what left on the left
            x = tl.where(x < 0, x + width, x)
        if has_scale:
            value = value.to(tl.float32) * tl.load(scale + channel)
        if clear:
            value = tl.zeros_like(value)
        at = base + y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x
        tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


def scatter(wire: WireView, out: torch.Tensor, moves: Moves, *, clear: bool = False) -> None:
    """Write the listed pixels of a wire batch into an image batch: :func:`scatter_torch.scatter`, fused.

    Launched on the current stream.
    """
    largest = int(wire.n_pixels.max(initial=0))
    if largest == 0:
        return
    n, n_channels, height, width = wire.shape
    nothing = wire.channels
    programs = min(_PROGRAMS, triton.cdiv(largest, _CHUNK))
    _scatter[(n * n_channels, programs)](
        wire.channels,
        wire.positions,
        wire.values,
        out,
        nothing if moves.scale is None else moves.scale,
        # As bytes: pointers to bits are a matter of the compiler's version.
        nothing if moves.flip_eta is None else moves.flip_eta.view(torch.uint8),
        nothing if moves.flip_sign is None else moves.flip_sign,
        nothing if moves.roll_phi is None else moves.roll_phi,
        n_channels,
        height,
        width,
        *out.stride(),
        has_scale=moves.scale is not None,
        has_flip=moves.flip_eta is not None,
        has_sign=moves.flip_sign is not None,
        has_roll=moves.roll_phi is not None,
        clear=clear,
        chunk=_CHUNK,
    )
