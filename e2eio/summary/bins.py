"""Histograms with fixed bins, which can be filled piece by piece without a look at all data before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LOG", "Counts", "LogBins", "quantile"]

# At most as many bins for numbers of pixels: 1 MB per class and channel.
_MOST_COUNTS: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class LogBins:
    """Bins of equal width in the logarithm of the absolute value, for each sign.

    A histogram is int64 [2, n + 2]: positive values, then negative ones; the first bin of each holds what is
    below `low` (zero is positive), the last what is not below `high`.

    Parameters
    ----------
    low_decade, high_decade : int
        Powers of ten where the bins begin and end.
    per_decade : int
        Bins.
    """

    low_decade: int
    high_decade: int
    per_decade: int

    @property
    def n(self) -> int:
        """Bins between the two ends."""
        return (self.high_decade - self.low_decade) * self.per_decade

    @property
    def size(self) -> int:
        """Numbers of a histogram, both signs together."""
        return 2 * (self.n + 2)

    @property
    def edges(self) -> NDArray[np.float64]:
        """[n + 1], ascending."""
        powers: NDArray[np.float64] = np.arange(self.n + 1) / self.per_decade + self.low_decade
        return np.power(10.0, powers)

    def index(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return where in a flat histogram each finite value counts, [n]."""
        with np.errstate(divide="ignore"):
            place = np.log10(np.abs(values))
        place -= self.low_decade
        place *= self.per_decade
        np.clip(place, -1, self.n, out=place)
        bins: NDArray[np.int64] = np.floor(place).astype(np.int64)
        bins += 1 + (values < 0) * (self.n + 2)
        return bins


#: Of values and of sums: 1e-9 to 1e12 of any unit, 16 bins a decade (15 % wide).
LOG: Final = LogBins(-9, 12, 16)


@dataclass(frozen=True, slots=True)
class Counts:
    """Bins for the number of filled pixels of a channel, 0 to `n_pixels`: one per number, of large images wider."""

    n_pixels: int

    @property
    def width(self) -> int:
        """Numbers that share a bin."""
        return -(-(self.n_pixels + 1) // _MOST_COUNTS)

    @property
    def size(self) -> int:
        """Number of bins."""
        return self.n_pixels // self.width + 1

    def index(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the bin of each number."""
        return counts // self.width


def quantile(histogram: NDArray[np.int64], values: NDArray[np.float64], q: float) -> float | None:
    """Return the value of the bin in which the share `q` of the entries is reached; None: no entries.

    Examples
    --------
    >>> quantile(np.array([1, 0, 3]), np.array([1.0, 2.0, 3.0]), 0.5)
    3.0
    """
    total = int(histogram.sum())
    if total == 0:
        return None
    place = int(np.searchsorted(np.cumsum(histogram), q * total, side="left"))
    return float(values[min(place, len(values) - 1)])
