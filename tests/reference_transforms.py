"""What transforms mean: numpy on dense float32 images, one sample at a time. The oracle of the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2eio import transforms as t
from e2eio.transforms.program import transform_key

Image = NDArray[np.float32]
Function = Callable[[Any], Any]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def mix64(value: int) -> int:
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class Draws:
    """The random numbers of one transform, sample and epoch."""

    def __init__(self, seed: int, epoch: int, sample: int, number: int) -> None:
        state = mix64(transform_key(seed))
        for word in (epoch, sample, number):
            state = mix64(state ^ word)
        self.state = state

    def uniform(self, counter: int) -> float:
        return (mix64((self.state + counter * _GOLDEN) & _MASK) >> 11) * 2.0**-53

    def integer(self, counter: int, least: int, most: int) -> int:
        return least + int(self.uniform(counter) * (most - least + 1))

    def normal(self, counter: int) -> float:
        radius = np.sqrt(-2.0 * np.log(1.0 - self.uniform(2 * counter)))
        return float(radius * np.cos(2.0 * np.pi * self.uniform(2 * counter + 1)))


def is_empty(x: Image) -> NDArray[np.bool_]:
    return np.asarray(x.view(np.uint32) == 0)


def f32(value: float) -> np.float32:
    rounded: np.float32 = np.float32(value + 0.0)
    return rounded  # -0.0 is +0.0


def _keep_empty(function: Function) -> Function:
    return lambda x: np.where(is_empty(x), np.float32(0), function(x)).astype(np.float32)


def _suppress(transform: t.ZeroSuppress, threshold: np.float32) -> Function:
    size: Function = np.abs if transform.mode.startswith("abs") else np.asarray
    if "below" in transform.mode:
        return lambda x: np.where(size(x) < threshold, np.float32(0), x)
    value = f32(transform.value)
    return lambda x: np.where(size(x) > threshold, value, x)


def _clip(low: np.float32, high: np.float32) -> Function:
    return lambda x: np.where(x > high, high, np.where(x < low, low, x))


def _by_sample(transform: t.DivideBySample) -> Function:
    def divide(x: Image) -> Image:
        by = x.max() if transform.by == "max" else np.float32(x.astype(np.float64).sum())
        if not 0 < by <= np.finfo(np.float32).max:
            return x
        return np.where(is_empty(x), x, x / by * f32(transform.factor))

    return divide


def value_function(transform: t.Transform, get: Callable[[Any], np.float32]) -> Any:
    """The function of one channel; `get` picks this channel's number."""
    match transform:
        case t.Scale():
            return _keep_empty(lambda x: x * get(transform.factor))
        case t.Divide():
            return _keep_empty(lambda x: x / get(transform.divisor))
        case t.Offset():
            return lambda x: x + get(transform.offset)
        case t.ZeroSuppress():
            return _suppress(transform, get(transform.threshold))
        case t.Clip():
            low = -np.inf if transform.low is None else transform.low
            high = np.inf if transform.high is None else transform.high
            return _clip(get(low), get(high))
        case t.Log1p():
            return np.log1p
        case t.Sqrt():
            return np.sqrt
        case t.Asinh():
            return lambda x: np.arcsinh(x / get(transform.scale))
        case t.MinMax():
            a, b = get(transform.minimum), get(transform.maximum)
            return lambda x: (x - a) / (b - a)
        case t.ZScore():
            return lambda x: (x - get(transform.mean)) / get(transform.std)
        case t.DivideBySample():
            return _by_sample(transform)
    raise AssertionError(transform)


def _cut(x: Image, transform: t.Crop | t.Pad, draws: Draws) -> Image:
    room = [x.shape[1] - transform.height, x.shape[2] - transform.width]
    at = [abs(r) // 2 for r in room]
    if transform.place == "random":
        at = [draws.integer(1 + axis, 0, abs(room[axis])) for axis in (0, 1)]
    y, x0 = at
    if isinstance(transform, t.Crop):
        return x[:, y : y + transform.height, x0 : x0 + transform.width]
    out = np.zeros((len(x), transform.height, transform.width), np.float32)
    out[:, y : y + x.shape[1], x0 : x0 + x.shape[2]] = x
    return out


def _geometry(x: Image, transform: t.Transform, names: Sequence[str], draws: Draws) -> Image:
    if isinstance(transform, t.Crop | t.Pad):
        return _cut(x, transform, draws)
    assert isinstance(transform, t.FlipEta | t.RollPhi | t.Rot90)
    if not draws.uniform(0) < transform.p:
        return x
    if isinstance(transform, t.FlipEta):
        x = x[:, ::-1].copy()
        for name in ("dz",) if transform.negate is None else transform.negate:
            if name in names:
                plane = x[names.index(name)]
                plane[~is_empty(plane)] *= -1
        return x
    if isinstance(transform, t.Rot90):
        turns = draws.integer(1, 0, 3) if transform.turns == "random" else int(transform.turns)
        return np.ascontiguousarray(np.rot90(x, turns, axes=(1, 2)))
    if transform.amount is not None:
        return np.roll(x, transform.amount, axis=2)
    most = x.shape[2] // 2 if transform.max_shift is None else transform.max_shift
    steps = most // transform.step
    return np.roll(x, draws.integer(1, -steps, steps) * transform.step, axis=2)


def _cells(x: Image, cell: int, function: Callable[[int], float]) -> NDArray[np.float64]:
    rows, columns = x.shape[0] // cell, x.shape[1] // cell
    values = np.array([function(i) for i in range(rows * columns)]).reshape(rows, columns)
    return np.kron(values, np.ones((cell, cell)))


def _smear(x: Image, terms: Sequence[float], cell: int, clip: bool, base: int, d: Draws) -> Image:
    a, b, c = terms
    normal = _cells(x, cell, lambda i: d.normal(base + i))
    fit = (x > 0) & np.isfinite(x)
    energy = np.where(fit, x, 0).astype(np.float64) * cell**2
    sigma = np.sqrt((a * np.sqrt(energy)) ** 2 + (b * energy) ** 2 + c**2)
    smeared = (energy + sigma * normal) / cell**2
    if clip:
        smeared = np.where(smeared <= 0, 0.0, smeared)
    return np.where(fit, smeared.astype(np.float32), x)


def apply(
    x: Image,
    chain: Sequence[t.Transform],
    names: Sequence[str],
    *,
    sample: int = 0,
    epoch: int = 0,
    seed: int = 0,
    cells: Mapping[str, int] | None = None,
    schema_channels: Sequence[str] | None = None,
) -> Image:
    """Apply a chain to one image [C, H, W] whose channels are `names`; `cells`: edges of readout cells."""
    x = x.copy()
    numbers = list(schema_channels or names)
    for number, transform in enumerate(chain):
        draws = Draws(seed, epoch, sample, number)
        if isinstance(transform, t.FlipEta | t.RollPhi | t.Rot90 | t.Crop | t.Pad):
            x = _geometry(x, transform, names, draws)
            continue
        for i, name in enumerate(names):
            x[i] = _channel(x[i], transform, name, numbers.index(name), draws, (cells or {}))
    return x


def _channel(
    x: Image,
    transform: t.Transform,
    name: str,
    channel: int,
    draws: Draws,
    cells: Mapping[str, int],
) -> Image:
    named = [v for key, v in vars(transform).items() if key != "cell" and isinstance(v, Mapping)]
    chosen = getattr(transform, "channels", None)
    if any(name not in mapping for mapping in named) or (chosen is not None and name not in chosen):
        return x

    def get(value: Any) -> np.float32:
        return f32(value[name] if isinstance(value, Mapping) else value)

    cell = cells.get(name, 1)
    base = channel << 36
    if isinstance(transform, t.ChannelDropout):
        return np.zeros_like(x) if draws.uniform(channel) < transform.p else x
    if isinstance(transform, t.DeadCells):
        if transform.p is not None:
            p = transform.p
            dead = _cells(x, cell, lambda i: draws.uniform(base + i) < p) != 0
        else:
            columns = x.shape[1] // cell
            assert transform.cells is not None
            listed = {row * columns + column for row, column in transform.cells[name]}
            dead = _cells(x, cell, lambda i: float(i in listed)) != 0
        return np.where(dead, np.float32(0), x)
    if isinstance(transform, t.EnergySmear):
        terms = [
            float(value[name] if isinstance(value, Mapping) else value)
            for value in (transform.stochastic, transform.constant, transform.noise)
        ]
        return _smear(x, terms, cell, transform.clip_at_zero, base, draws)
    result: Image = value_function(transform, get)(x)
    return result


def refine(x: Image, role: str) -> Image:
    """A channel [H, W] at three times the granularity."""
    if role == "energy":
        return np.kron(x / np.float32(9), np.ones((3, 3), np.float32))
    out = np.zeros((3 * x.shape[0], 3 * x.shape[1]), np.float32)
    out[1::3, 1::3] = x
    return out


def coarsen(x: Image, role: str) -> Image:
    """A channel [H, W] at a third of the granularity."""
    out = np.zeros((x.shape[0] // 3, x.shape[1] // 3), np.float32)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            pixels = x[3 * row : 3 * row + 3, 3 * column : 3 * column + 3].ravel()
            stored = pixels[~is_empty(pixels)]
            if len(stored) == 0:
                continue
            equal = len(set(stored.view(np.uint32).tolist())) == 1
            total = stored[0]
            for pixel in stored[1:]:
                total = total + pixel
            if role == "mean":
                out[row, column] = stored[0] if equal else total / np.float32(len(stored))
            else:
                out[row, column] = (
                    stored[0] * np.float32(9) if equal and len(stored) == 9 else total
                )
    return out
