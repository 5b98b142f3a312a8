"""Moves of pixels, on nodes of a graph: rows are eta, columns phi; all channels move together. All are exact.

They take and give float32 images [C, H, W] on either device, and mean what the transforms of the same names mean.
Places are drawn on the CPU, since that is where DALI wants the arguments of its operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from e2eio.dali.binding import fn, math, types
from e2eio.dali.nodes import Shape, coins, constant, seeded, select, window
from e2eio.errors import ConfigError

__all__ = ["crop", "flip_eta", "roll_phi", "rot90", "translate"]


def flip_eta(
    images: Any, shape: Shape, *, p: float = 0.5, odd: Sequence[int] = (), seed: int | None = None
) -> Any:
    """Mirror the rows: eta -> -eta.

    Parameters
    ----------
    images : DataNode
        float32 [C, H, W].
    shape : tuple of int
        (C, H, W).
    p : float
        Probability per sample.
    odd : sequence of int
        Channels that change sign with it, dz above all.
    seed : int or None
        Of this operation; None: from the pipeline's.
    """
    flipped = coins(p, seed, "flip_eta whether")
    mirrored = fn.flip(images, vertical=flipped, horizontal=0)
    if not odd:
        return mirrored
    is_odd = [[[int(channel in odd)]] for channel in range(shape[0])]
    per_sample = flipped.gpu() if images.device == "gpu" else flipped
    turned = constant(is_odd, images, dtype=np.int32) * per_sample
    return select((turned > 0) & (mirrored != 0.0), mirrored * -1.0, mirrored)


def roll_phi(
    images: Any,
    shape: Shape,
    *,
    p: float = 1.0,
    max_shift: int | None = None,
    amount: int | None = None,
    step: int = 1,
    seed: int | None = None,
) -> Any:
    """Move the columns; what leaves on one side comes in on the other. For images of the whole detector.

    Parameters
    ----------
    images : DataNode
        float32 [C, H, W].
    shape : tuple of int
        (C, H, W).
    p : float
        Probability per sample.
    max_shift : int or None
        Shifts are uniform in [-max_shift, max_shift], in pixels. None: half the width.
    amount : int or None
        In its place: one shift for all, to the right.
    step : int
        Random shifts are multiples of it.
    seed : int or None
        Of this operation; None: from the pipeline's.

    Raises
    ------
    ConfigError
        Shifts by more than the width, or a step below 1.
    """
    width = shape[2]
    if step < 1 or not 0 <= (max_shift or 0) <= width:
        raise ConfigError(
            f"max_shift is {max_shift} and step {step}; expected 0 to the image's {width} columns, and at least 1"
        )
    if amount is not None:
        least = most = (amount + width // 2) % width - width // 2
        step = 1
    else:
        most = (width // 2 if max_shift is None else max_shift) // step
        least = -most
    shift = _integers(least, most, seed, "roll_phi shift") * step
    shift = shift * coins(p, seed, "roll_phi whether")
    return _rolled(images, shift, max(abs(least), most) * step, width)


def rot90(
    images: Any,
    shape: Shape,
    *,
    p: float = 1.0,
    turns: int | Literal["random"] = "random",
    seed: int | None = None,
) -> Any:
    """Turn by quarters, counterclockwise, as ``numpy.rot90``. No symmetry of the detector.

    Parameters
    ----------
    images : DataNode
        float32 [C, H, W]; square, unless it is by half a turn.
    shape : tuple of int
        (C, H, W).
    p : float
        Probability per sample.
    turns : {0, 1, 2, 3} or "random"
        "random": each as likely.
    seed : int or None
        Of this operation; None: from the pipeline's.

    Raises
    ------
    ConfigError
        Quarter turns of images that are not square.
    """
    _, height, width = shape
    least, most = (0, 3) if turns == "random" else (int(turns), int(turns))
    quarters = _integers(least, most, seed, "rot90 turns") * coins(p, seed, "rot90 whether")
    if (least, most) not in ((0, 0), (2, 2)):
        if height != width:
            raise ConfigError(
                f"quarter turns of images of {height} x {width}; expected square ones"
            )
        both = fn.stack(images, fn.transpose(images, perm=[0, 2, 1]), axis=0)
        turned = fn.reshape(quarters & 1, shape=[1])
        images = fn.reshape(
            fn.slice(both, start=turned, shape=[1], axes=[0]), shape=list(shape), layout="CHW"
        )
    return fn.flip(images, vertical=_bit_of(quarters, (1, 2)), horizontal=_bit_of(quarters, (2, 3)))


def translate(
    images: Any,
    shape: Shape,
    *,
    max_shift: int | tuple[int, int],
    p: float = 1.0,
    seed: int | None = None,
) -> Any:
    """Move the images by some pixels; zeros come in. For the window of a jet, which is not periodic.

    Parameters
    ----------
    images : DataNode
        float32 [C, H, W].
    shape : tuple of int
        (C, H, W).
    max_shift : int or (int, int)
        Shifts of rows (eta) and columns (phi) are uniform in [-max_shift, max_shift], in pixels.
    p : float
        Probability per sample.
    seed : int or None
        Of this operation; None: from the pipeline's.
    """
    by = (max_shift, max_shift) if isinstance(max_shift, int) else max_shift
    moved = coins(p, seed, "translate whether")
    shifts = [
        _integers(-most, most, seed, f"translate {axis}") * moved
        for axis, most in zip("yx", by, strict=True)
    ]
    return window(images, fn.stack(*shifts), shape[1:])


def crop(
    images: Any,
    shape: Shape,
    *,
    extent: tuple[int, int],
    random: bool = False,
    seed: int | None = None,
) -> Any:
    """Cut a window out, or, where it is larger than the images, put zeros around them.

    Parameters
    ----------
    images : DataNode
        float32 [C, H, W].
    shape : tuple of int
        (C, H, W).
    extent : (int, int)
        Height and width of the result, in pixels.
    random : bool
        Each place as likely, for each sample anew. Otherwise the centre, or half a pixel above and left of it.
    seed : int or None
        Of this operation; None: from the pipeline's.
    """
    starts = []
    for size, wanted, axis in zip(shape[1:], extent, "yx", strict=True):
        room = size - wanted
        middle = abs(room) // 2 * (1 if room > 0 else -1)
        bounds = (min(room, 0), max(room, 0)) if random else (middle, middle)
        starts.append(_integers(*bounds, seed, f"crop {axis}"))
    return window(images, fn.stack(*starts), extent)


def _integers(least: int, most: int, seed: int | None, what: str) -> Any:
    """Return int32 in [least, most], each as likely, one per sample."""
    if least == most:
        return types.Constant(least, dtype=types.INT32, device="cpu", shape=[])
    # Drawn from a range, not from a list of values: the list would be thousands of numbers long.
    drawn = fn.random.uniform(range=[0.0, 1.0], **seeded(seed, what))
    whole = math.min(math.floor(drawn * float(most - least + 1)), float(most - least))
    return fn.cast(whole, dtype=types.INT32) + least


def _bit_of(quarters: Any, among: tuple[int, int]) -> Any:
    return fn.cast((quarters == among[0]) | (quarters == among[1]), dtype=types.INT32)


def _rolled(images: Any, shift: Any, most: int, width: int) -> Any:
    """Roll the columns by [-most, most]: wrap so many of them round, then cut the window."""
    if most == 0:
        return images
    last = fn.slice(images, start=[width - most], shape=[most], axes=[2])
    first = fn.slice(images, start=[0], shape=[most], axes=[2])
    wrapped = fn.cat(last, images, first, axis=2)
    start = fn.reshape(most - shift, shape=[1])
    return fn.slice(wrapped, start=start, shape=[width], axes=[2])
