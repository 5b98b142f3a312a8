"""Small steps that the augmentations share, on nodes of a graph. Images are float32 [C, H, W]."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from e2eio.dali.binding import fn, types

__all__ = [
    "Shape",
    "by_cells",
    "coins",
    "constant",
    "in_runs",
    "keep",
    "seeded",
    "select",
    "window",
]

#: (channels, height, width) of the images at a place of the graph.
Shape = tuple[int, int, int]


def constant(values: ArrayLike, like: Any, dtype: Any = np.float32) -> Any:
    """Return an array as a node on the device of another node; floats as float32, integers as int32."""
    return types.Constant(np.asarray(values, dtype), device=like.device)


def seeded(seed: int | None, what: str) -> dict[str, Any]:
    """Return the option of a random operator that draws `what`, as in "roll_phi shift"; None: the pipeline's own.

    Hashed, so that neither the draws of one operation, nor those of operations with the same or neighbouring seeds go
    together.
    """
    if seed is None:
        return {}
    digest = hashlib.blake2b(f"e2eio-dali-draw-2\n{seed}\n{what}\n".encode(), digest_size=8)
    return {"seed": int.from_bytes(digest.digest(), "little") >> 1}


def coins(
    p: float,
    seed: int | None,
    what: str,
    *,
    device: str = "cpu",
    shape: Sequence[int] = (),
) -> Any:
    """Return int32 0 or 1, 1 with probability p: one per sample, or an array of them per sample."""
    options = seeded(seed, what)
    if shape:
        options["shape"] = list(shape)
    return fn.random.coin_flip(probability=p, dtype=types.INT32, device=device, **options)


def keep(images: Any, kept: Any) -> Any:
    """Return the images where `kept` is 1, and +0.0 where it is 0: exact for NaN and infinities, too."""
    return _floats(_bits(images) & (kept * -1))


def select(where: Any, images: Any, others: Any) -> Any:
    """Return `images` where a comparison is true, and `others`, bit for bit."""
    mask = where * -1
    return _floats((_bits(images) & mask) | (_bits(others) & (mask ^ -1)))


def window(images: Any, start: Any, extent: tuple[int, int]) -> Any:
    """Cut out rows and columns; what lies outside of the images is 0."""
    return fn.slice(
        images,
        start=start,
        shape=list(extent),
        axes=[1, 2],
        out_of_bounds_policy="pad",
        fill_values=0.0,
    )


def in_runs(
    images: Any, keys: Sequence[Hashable], apply: Callable[[Any, Any, list[int]], Any]
) -> Any:
    """Apply a function to each run of channels with the same key; channels with None stay what they are.

    Parameters
    ----------
    images : DataNode
        [C, H, W].
    keys : sequence
        One per channel.
    apply : callable
        Of the images of a run, its key and the numbers of its channels.
    """
    runs = [
        (key, [c for c, _ in run]) for key, run in groupby(enumerate(keys), lambda pair: pair[1])
    ]
    if len(runs) == 1:
        return images if runs[0][0] is None else apply(images, *runs[0])
    parts = []
    for key, channels in runs:
        part = fn.slice(images, start=[channels[0]], shape=[len(channels)], axes=[0])
        parts.append(part if key is None else apply(part, key, channels))
    return fn.cat(*parts, axis=0)


def by_cells(
    images: Any, shape: Shape, edge: int, apply: Callable[[Any, tuple[int, ...]], Any]
) -> Any:
    """Apply a function to images seen as [C, rows, edge, columns, edge], in cells of the readout.

    The function also gets [C, rows, 1, columns, 1], the shape of one number per cell, which broadcasts. The grid begins at
    the first pixel; cells at the other border may be cut.
    """
    channels, height, width = shape
    rows, columns = -(-height // edge), -(-width // edge)
    whole = (rows * edge, columns * edge)
    if whole != (height, width):
        images = window(images, [0, 0], whole)
    images = fn.reshape(images, shape=[channels, rows, edge, columns, edge], layout="")
    images = apply(images, (channels, rows, 1, columns, 1))
    images = fn.reshape(images, shape=[channels, *whole], layout="CHW")
    return images if whole == (height, width) else window(images, [0, 0], (height, width))


def _bits(images: Any) -> Any:
    return fn.reinterpret(images, dtype=types.INT32)


def _floats(bits: Any) -> Any:
    return fn.reinterpret(bits, dtype=types.FLOAT)
