"""Transforms that bring pixels to a common range: by numbers, by the dataset's statistics, by the sample.

All arithmetic is float32 in the order written, bit-equal to numpy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from e2eio.errors import ConfigError
from e2eio.manifest import ChannelStatistics
from e2eio.transforms.arguments import (
    PerChannel,
    check_order,
    checked_channels,
    checked_choice,
    checked_number,
    checked_per_channel,
    checked_same_channels,
)
from e2eio.transforms.target import (
    ImageTarget,
    SpecTuple,
    Transform,
    channel_tuples,
    set_fields,
)

__all__ = ["DivideBySample", "MinMax", "ZScore"]

Statistics = Literal["nonzero", "all"]


@dataclass(frozen=True)
class MinMax(Transform):
    """``(x - minimum) / (maximum - minimum)``, the difference of the bounds taken in float32.

    Parameters
    ----------
    minimum, maximum : float or {channel: float}, or None
        In the unit that the pixels have at this point.
    statistics : {"nonzero", "all"} or None
        In place of both: the bounds of the dataset over its non-zero pixels, or over all pixels, as stored
        (before any transform). A channel with one value only is divided by 1.
    """

    minimum: PerChannel | None = None
    maximum: PerChannel | None = None
    statistics: Statistics | None = None

    def __post_init__(self) -> None:
        pair = _numbers_or_statistics(
            self, ("minimum", "maximum"), self.minimum, self.maximum, None
        )
        if pair is not None:
            check_order("minimum", "maximum", *pair, strict=True)
            set_fields(self, minimum=pair[0], maximum=pair[1])

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        low, high = self.minimum, self.maximum
        if low is None or high is None:
            bounds = _of_dataset(target, self, _bounds)
            low = {name: pair[0] for name, pair in bounds.items()}
            high = {name: pair[1] for name, pair in bounds.items()}
        channels = channel_tuples(target, low, high)
        spans = [
            (place, a, float(np.float32(b) - np.float32(a)) or 1.0, c, cell)
            for place, a, b, c, cell in channels
        ]
        return [("standardise", number, 1.0, spans, [])]


@dataclass(frozen=True)
class ZScore(Transform):
    """``(x - mean) / std``.

    Parameters
    ----------
    mean, std : float or {channel: float}, or None
        In the unit that the pixels have at this point; `std` above 0.
    statistics : {"nonzero", "all"} or None
        In place of both: mean and (population) standard deviation of the dataset over its finite non-zero
        pixels, or over all pixels, as stored (before any transform), from ``dataset.json``. A channel without
        spread is divided by 1.

    Examples
    --------
    >>> ZScore(statistics="nonzero")
    ZScore(mean=None, std=None, statistics='nonzero')
    """

    mean: PerChannel | None = None
    std: PerChannel | None = None
    statistics: Statistics | None = None

    def __post_init__(self) -> None:
        pair = _numbers_or_statistics(self, ("mean", "std"), self.mean, self.std, 0)
        if pair is not None:
            checked_same_channels("mean and std", *pair)
            set_fields(self, mean=pair[0], std=pair[1])

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        mean, std = self.mean, self.std
        if mean is None or std is None:
            moments = _of_dataset(target, self, _moments)
            mean = {name: pair[0] for name, pair in moments.items()}
            std = {name: pair[1] for name, pair in moments.items()}
        return [("standardise", number, 1.0, channel_tuples(target, mean, std), [])]


@dataclass(frozen=True)
class DivideBySample(Transform):
    """``x / s * factor``, with s the largest pixel or the sum of the same channel of the same sample.

    The sum is taken in float64 and rounded to float32 (so within 1 ulp). A channel whose s is not above 0
    and finite stays what it is.

    Parameters
    ----------
    by : {"max", "sum"}
    factor : float
    channels : sequence of str or None
        None: all.
    """

    by: Literal["max", "sum"]
    factor: float = 1.0
    channels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        checked_choice("by", self.by, ("max", "sum"))
        set_fields(
            self,
            factor=checked_number("factor", self.factor),
            channels=checked_channels("channels", self.channels),
        )

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        channels = channel_tuples(target, self.factor, channels=self.channels)
        return [(f"over_{self.by}", number, 1.0, channels, [])]


def _numbers_or_statistics(
    transform: MinMax | ZScore,
    names: tuple[str, str],
    first: PerChannel | None,
    second: PerChannel | None,
    above: float | None,
) -> tuple[PerChannel, PerChannel] | None:
    if transform.statistics is not None:
        checked_choice("statistics", transform.statistics, ("nonzero", "all"))
        if first is not None or second is not None:
            raise ConfigError(
                f"statistics is {transform.statistics!r} and {names[0]} or {names[1]} is given; "
                "expected one or the other"
            )
        return None
    if first is None or second is None:
        raise ConfigError(
            f"{names[0]} is {first!r} and {names[1]} {second!r}; expected both, "
            "or statistics='nonzero' or 'all'"
        )
    return checked_per_channel(names[0], first), checked_per_channel(names[1], second, above=above)


_Rule = Callable[[ChannelStatistics, int, bool], tuple[float, float]]


def _of_dataset(
    target: ImageTarget, transform: MinMax | ZScore, rule: _Rule
) -> dict[str, tuple[float, float]]:
    """Return (a, b) of each delivered channel, from the dataset's statistics."""
    what = type(transform).__name__
    if target.statistics is None:
        raise ConfigError(
            f"{what}(statistics={transform.statistics!r}) needs the statistics of dataset.json, and the "
            "dataset was opened by single shards; open its directory, or give the numbers"
        )
    if target.granularity != target.stored_granularity:
        raise ConfigError(
            f"{what}(statistics={transform.statistics!r}) with a change of resolution: the dataset's "
            "statistics are those of the images as stored; give the numbers"
        )
    everything = transform.statistics == "all"
    pixels = target.n_samples * target.schema.image.height * target.schema.image.width
    return {
        target.schema.channels[channel]: rule(target.statistics[channel], pixels, everything)
        for channel in target.delivered
    }


def _moments(of: ChannelStatistics, pixels: int, everything: bool) -> tuple[float, float]:
    n = (pixels if everything else of.nonzero) - of.nonfinite
    if n <= 0:
        return 0.0, 1.0
    mean = of.sum / n
    std = math.sqrt(max(of.sum_squares / n - mean * mean, 0.0))
    return mean, std if np.float32(std) > 0 else 1.0


def _bounds(of: ChannelStatistics, pixels: int, everything: bool) -> tuple[float, float]:
    low, high = of.min or 0.0, of.max or 0.0
    if everything and pixels > of.nonzero:
        return min(low, 0.0), max(high, 0.0)
    return low, high
