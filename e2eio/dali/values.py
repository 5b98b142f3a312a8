"""Value transforms of e2eio.transforms on nodes of a graph: scale, suppress, compress, normalise.

They run what the transforms compile to, in float32 and in the order written, as the decoding threads do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from e2eio.dali.binding import fn, math
from e2eio.dali.nodes import Shape, constant, in_runs, select
from e2eio.transforms.target import ChannelTuple

__all__ = ["VALUE_OPS", "apply_values"]

_LARGEST = float(np.finfo(np.float32).max)


class _Terms:
    """The numbers of each channel as constants [C, 1, 1]; channels that are not named get a neutral one."""

    def __init__(self, images: Any, shape: Shape, channels: Sequence[ChannelTuple]) -> None:
        self._images = images
        self._n = shape[0]
        self._by_place = {place: (a, b, c) for place, a, b, c, _ in channels}

    def __call__(self, which: int, neutral: float) -> Any:
        values = [
            self._by_place[c][which] if c in self._by_place else neutral for c in range(self._n)
        ]
        return constant(np.reshape(values, (-1, 1, 1)), self._images)


def _scale(x: Any, term: _Terms) -> Any:
    return x * term(0, 1.0) + 0.0  # an empty pixel stays +0.0 under a negative factor


def _divide(x: Any, term: _Terms) -> Any:
    return x / term(0, 1.0) + 0.0


def _offset(x: Any, term: _Terms) -> Any:
    return x + term(0, 0.0)


def _below(x: Any, term: _Terms) -> Any:
    return select(x < term(0, -np.inf), term(2, 0.0), x)


def _abs_below(x: Any, term: _Terms) -> Any:
    return select(math.fabs(x) < term(0, -np.inf), term(2, 0.0), x)


def _above(x: Any, term: _Terms) -> Any:
    return select(x > term(0, np.inf), term(1, 0.0), x)


def _abs_above(x: Any, term: _Terms) -> Any:
    return select(math.fabs(x) > term(0, np.inf), term(1, 0.0), x)


def _clip(x: Any, term: _Terms) -> Any:
    low, high = term(0, -np.inf), term(1, np.inf)
    x = select(x < low, low, x)
    return select(x > high, high, x)


def _standardise(x: Any, term: _Terms) -> Any:
    return (x - term(0, 0.0)) / term(1, 1.0)


def _asinh(x: Any, term: _Terms) -> Any:
    return math.asinh(x / term(0, 1.0))


def _log1p(x: Any, term: _Terms) -> Any:
    """DALI has no log1p, and log(1 + x) loses what is small: log(1 + x) = asinh(x (1 + 1 / (1 + x)) / 2)."""
    del term
    one_more = x + 1.0
    value = math.asinh(x * (0.5 + 0.5 / one_more))
    return value + 0.0 * math.sqrt(math.min(one_more, 1.0))  # NaN below -1


def _sqrt(x: Any, term: _Terms) -> Any:
    del term
    return math.sqrt(x)


def _over(reduce: Callable[..., Any]) -> Callable[[Any, _Terms], Any]:
    def divide(x: Any, term: _Terms) -> Any:
        by = fn.reshape(reduce(x, axes=[1, 2], keep_dims=True), layout="CHW")
        usable = (by > 0.0) & (by <= _LARGEST)
        one = constant([[[1.0]]], x)
        return x / select(usable, by, one) * select(usable, term(0, 1.0), one)

    return divide


_Op = Callable[[Any, _Terms], Any]

#: What leaves a channel alone with neutral numbers.
_WITH_NUMBERS: dict[str, _Op] = {
    "scale": _scale,
    "divide": _divide,
    "offset": _offset,
    "below": _below,
    "abs_below": _abs_below,
    "above": _above,
    "abs_above": _abs_above,
    "clip": _clip,
    "standardise": _standardise,
}
#: What changes all channels that it sees.
_FUNCTIONS: dict[str, _Op] = {
    "log1p": _log1p,
    "sqrt": _sqrt,
    "asinh": _asinh,
    "over_max": _over(fn.reductions.max),
    "over_sum": _over(fn.reductions.sum),
}

#: Names of what :func:`apply_values` knows, as in cpp/e2eio/transform/transform_spec.hpp.
VALUE_OPS = frozenset({*_WITH_NUMBERS, *_FUNCTIONS})


def apply_values(images: Any, shape: Shape, op: str, channels: Sequence[ChannelTuple]) -> Any:
    """Return the images after one compiled value transform; float32 [C, H, W], on either device."""
    if not channels:
        return images
    if op in _WITH_NUMBERS:
        return _WITH_NUMBERS[op](images, _Terms(images, shape, channels))
    named = {place: (a, b, c) for place, a, b, c, _ in channels}

    def apply(part: Any, _: Any, places: list[int]) -> Any:
        own = [(i, *named[place], 1) for i, place in enumerate(places)]
        return _FUNCTIONS[op](part, _Terms(part, (len(places), *shape[1:]), own))

    return in_runs(images, [True if c in named else None for c in range(shape[0])], apply)
