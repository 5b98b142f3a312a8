"""Images with parts missing, on nodes of a graph: whole channels, rectangles.

They take and give float32 images [C, H, W] on either device. What is missing is +0.0, the rest bit for bit what it was.
"""

from __future__ import annotations

import math as scalar_math
from collections.abc import Sequence
from typing import Any

import numpy as np

from e2eio.dali.binding import fn, math, types
from e2eio.dali.nodes import Shape, coins, constant, keep, seeded

__all__ = ["channel_dropout", "random_erase"]


def channel_dropout(
    images: Any,
    shape: Shape,
    *,
    p: float,
    channels: Sequence[int] | None = None,
    seed: int | None = None,
) -> Any:
    """Set whole channels to zero, each on its own.

    Parameters
    ----------
    images : DataNode
        float32 [C, H, W].
    shape : tuple of int
        (C, H, W).
    p : float
        Probability per channel and sample.
    channels : sequence of int or None
        Those that may be dropped; None: all.
    seed : int or None
        Of this operation; None: from the pipeline's.
    """
    dropped = coins(
        p, seed, "channel_dropout whether", device=images.device, shape=(shape[0], 1, 1)
    )
    if channels is not None:
        may = [[[int(channel in channels)]] for channel in range(shape[0])]
        dropped = dropped & constant(may, images, dtype=np.int32)
    return keep(images, dropped ^ 1)


def random_erase(
    images: Any,
    shape: Shape,
    *,
    p: float = 0.5,
    scale: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
    seed: int | None = None,
) -> Any:
    """Set a rectangle to zero in all channels (Z. Zhong et al., Random Erasing, AAAI 2020, arXiv:1708.04896).

    Arguments and defaults are those of ``torchvision.transforms.RandomErasing``; a rectangle that is longer than the image
    is cut, where torchvision draws another.

    Parameters
    ----------
    images : DataNode
        float32 [C, H, W].
    shape : tuple of int
        (C, H, W).
    p : float
        Probability per sample.
    scale : (float, float)
        Bounds of the area of the rectangle, as a fraction of the image's.
    ratio : (float, float)
        Bounds of its height over its width; the logarithm is uniform.
    seed : int or None
        Of this operation; None: from the pipeline's.
    """
    _, height, width = shape
    draw = [
        fn.random.uniform(range=[0.0, 1.0], **seeded(seed, f"random_erase {each}"))
        for each in ("area", "ratio", "y", "x")
    ]
    area = (draw[0] * (scale[1] - scale[0]) + scale[0]) * float(height * width)
    low, high = (scalar_math.log(bound) for bound in ratio)
    aspect = math.exp(draw[1] * (high - low) + low)
    sides = (math.sqrt(area * aspect), math.sqrt(area / aspect))
    extents, anchors = [], []
    for side, size, place in zip(sides, (height, width), draw[2:], strict=True):
        extent = math.clamp(math.floor(side + 0.5), 1.0, float(size))
        anchors.append(math.min(math.floor(place * (size + 1.0 - extent)), size - extent))
        extents.append(extent)
    erased = fn.cast(
        coins(p, seed, "random_erase whether"), dtype=types.FLOAT
    )  # a rectangle without extent erases nothing
    return fn.erase(
        images,
        anchor=fn.stack(*anchors),
        shape=fn.stack(*(extent * erased for extent in extents)),
        axis_names="HW",
        fill_value=0.0,
    )
