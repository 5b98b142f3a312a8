"""Transforms of pixel values: scale, suppress, compress.

All arithmetic is float32 in the order written, bit-equal to numpy's; ``log1p`` and ``arcsinh`` within 2 ulp.
NaN stays NaN; comparisons with it are false.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from e2eio.errors import ConfigError
from e2eio.transforms.arguments import (
    PerChannel,
    check_order,
    checked_channels,
    checked_choice,
    checked_number,
    checked_per_channel,
)
from e2eio.transforms.target import (
    ImageTarget,
    SpecTuple,
    Transform,
    channel_tuples,
    set_fields,
)

__all__ = [
    "Asinh",
    "Clip",
    "Divide",
    "Log1p",
    "Offset",
    "Scale",
    "Sqrt",
    "ZeroSuppress",
]

Mode = Literal["below", "abs_below", "above_to_zero", "abs_above_to_zero", "above_to_value"]

_MODES = ("below", "abs_below", "above_to_zero", "abs_above_to_zero", "above_to_value")


@dataclass(frozen=True)
class Scale(Transform):
    """``x * factor``. Zero stays zero, for negative factors too.

    Parameters
    ----------
    factor : float or {channel: float}
        A mapping leaves the channels that it does not name alone.

    Examples
    --------
    >>> Scale({"track_pt": 0.01, "ecal": 0.1})
    Scale(factor={'track_pt': 0.01, 'ecal': 0.1})
    """

    factor: PerChannel

    def __post_init__(self) -> None:
        set_fields(self, factor=checked_per_channel("factor", self.factor))

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        return [("scale", number, 1.0, channel_tuples(target, self.factor), [])]


@dataclass(frozen=True)
class Divide(Transform):
    """``x / divisor``, which rounds differently from a multiplication by ``1 / divisor``.

    Parameters
    ----------
    divisor : float or {channel: float}
        Not zero.
    """

    divisor: PerChannel

    def __post_init__(self) -> None:
        divisor = checked_per_channel("divisor", self.divisor)
        values = divisor.values() if isinstance(divisor, Mapping) else (divisor,)
        if any(np.float32(value) == 0 for value in values):
            raise ConfigError(f"divisor is {self.divisor!r}; expected numbers that are not zero")
        set_fields(self, divisor=divisor)

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        return [("divide", number, 1.0, channel_tuples(target, self.divisor), [])]


@dataclass(frozen=True)
class Offset(Transform):
    """``x + offset``, for empty pixels too: the channel is then delivered through a dense pass.

    Parameters
    ----------
    offset : float or {channel: float}
        In the unit that the pixels have at this point.
    """

    offset: PerChannel

    def __post_init__(self) -> None:
        set_fields(self, offset=checked_per_channel("offset", self.offset))

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        return [("offset", number, 1.0, channel_tuples(target, self.offset), [])]


@dataclass(frozen=True)
class ZeroSuppress(Transform):
    """Replace what is too small, or too large. NaN is kept, as it is neither.

    Parameters
    ----------
    threshold : float or {channel: float}
        ``t``, in the unit that the pixels have at this point.
    mode : str
        ``"below"``: x < t -> 0. ``"abs_below"``: abs(x) < t -> 0. ``"above_to_zero"``: x > t -> 0.
        ``"abs_above_to_zero"``: abs(x) > t -> 0. ``"above_to_value"``: x > t -> `value`.
    value : float
        For ``"above_to_value"``.

    Warnings
    --------
    d0 and dz are signed: ``"below"`` with any positive threshold erases every negative one, and with it half
    of the tracks. Published code does this; use ``"abs_below"`` unless you reproduce it.

    Examples
    --------
    >>> ZeroSuppress({"d0": 1e-3, "dz": 1e-3}, "abs_below")
    ZeroSuppress(threshold={'d0': 0.001, 'dz': 0.001}, mode='abs_below', value=0.0)
    """

    threshold: PerChannel
    mode: Mode = "below"
    value: float = 0.0

    def __post_init__(self) -> None:
        checked_choice("mode", self.mode, _MODES)
        value = checked_number("value", self.value)
        if value != 0 and self.mode != "above_to_value":
            raise ConfigError(f"value is {value!r} with mode {self.mode!r}; expected 0")
        set_fields(self, threshold=checked_per_channel("threshold", self.threshold), value=value)

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        op = {"above_to_zero": "above", "above_to_value": "above", "abs_above_to_zero": "abs_above"}
        channels = channel_tuples(target, self.threshold, self.value)
        return [(op.get(self.mode, self.mode), number, 1.0, channels, [])]


@dataclass(frozen=True)
class Clip(Transform):
    """``x < low -> low``, ``x > high -> high``; NaN is kept. Zero stays zero if it is within.

    Parameters
    ----------
    low, high : float or {channel: float}, or None
        None: no bound on this side, infinities are kept.
    """

    low: PerChannel | None = None
    high: PerChannel | None = None

    def __post_init__(self) -> None:
        low = None if self.low is None else checked_per_channel("low", self.low)
        high = None if self.high is None else checked_per_channel("high", self.high)
        if low is None and high is None:
            raise ConfigError("low and high are None; expected at least one bound")
        pairs = (-math.inf if low is None else low, math.inf if high is None else high)
        check_order("low", "high", *pairs)
        set_fields(self, low=low, high=high)

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return [("clip", number, 1.0, channel_tuples(target, low, high), [])]


@dataclass(frozen=True)
class Log1p(Transform):
    """``log(1 + x)``, within 2 ulp. NaN below -1: clip first, or use Asinh for signed channels.

    Parameters
    ----------
    channels : sequence of str or None
        None: all.
    """

    channels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        set_fields(self, channels=checked_channels("channels", self.channels))

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        return [("log1p", number, 1.0, channel_tuples(target, channels=self.channels), [])]


@dataclass(frozen=True)
class Sqrt(Transform):
    """The square root, exact. NaN below 0.

    Parameters
    ----------
    channels : sequence of str or None
        None: all.
    """

    channels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        set_fields(self, channels=checked_channels("channels", self.channels))

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        return [("sqrt", number, 1.0, channel_tuples(target, channels=self.channels), [])]


@dataclass(frozen=True)
class Asinh(Transform):
    """``arcsinh(x / scale)``, within 2 ulp: linear below the scale, logarithmic above, odd in x.

    Parameters
    ----------
    scale : float or {channel: float}
        Above 0, in the unit that the pixels have at this point.
    """

    scale: PerChannel = 1.0

    def __post_init__(self) -> None:
        set_fields(self, scale=checked_per_channel("scale", self.scale, above=0))

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        return [("asinh", number, 1.0, channel_tuples(target, self.scale), [])]
