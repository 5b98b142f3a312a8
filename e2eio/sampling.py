"""How often samples are drawn: class balance, flat spectra, and mixtures, for ``Loader(weights=...)``.

Weights are computed from scalar fields of the selected samples, before any image is read.

>>> from e2eio import sampling
>>> sampling.flat("pt", bins=50, limits=(400, 1000)) * sampling.balanced("y")
Weights(flat('pt', bins=50, limits=(400.0, 1000.0)) * balanced('y'))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2eio.errors import ConfigError
from e2eio.integers import as_integer

__all__ = ["Mix", "Weights", "balanced", "flat", "mix"]

Columns = Callable[[str], NDArray[Any]]
"""The values of a scalar field for the selected samples, [n]."""

_MOST_CLASSES = 1000
_MOST_BINS = 1_000_000


@dataclass(frozen=True, slots=True)
class Weights:
    """A product of weights; multiply to get others. Made by :func:`balanced` and :func:`flat`."""

    factors: tuple[_Balanced | _Flat, ...]

    def __mul__(self, other: Weights) -> Weights:
        if not isinstance(other, Weights):
            return NotImplemented
        return Weights((*self.factors, *other.factors))

    def __repr__(self) -> str:
        return f"Weights({' * '.join(map(repr, self.factors))})"

    def values(self, columns: Columns) -> NDArray[np.float64]:
        """Return the weight of each sample, float64 [n]; only ratios matter."""
        result = self.factors[0].values(columns)
        for factor in self.factors[1:]:
            result = result * factor.values(columns)
        return result


def balanced(field: str) -> Weights:
    """Draw every value of a field (a class) equally often: weights 1 / N(class).

    Parameters
    ----------
    field : str
        A scalar field with few values, as ``"y"``.

    Examples
    --------
    >>> loader = e2eio.Loader("data/top", batch_size=64, shuffle=True,
    ...                       weights=e2eio.sampling.balanced("y"))  # doctest: +SKIP
    """
    return Weights((_Balanced(_name(field)),))


def flat(
    field: str | Sequence[str],
    *,
    bins: int | Sequence[float] | Sequence[Sequence[float]] = 50,
    limits: tuple[float, float] | None = None,
    by: str | None = None,
) -> Weights:
    """Draw samples so that a field is flat over a histogram's bins: weights 1 / N(bin).

    What physicists call flat in pT or mass: the network cannot learn the spectrum. Samples outside the bins
    are never drawn. A bin of few samples repeats these often; choose bins that are filled.

    Parameters
    ----------
    field : str or sequence of str
        A scalar field, as ``"pt"``, or several, for a histogram in all of them together.
    bins : int or sequence
        Number of bins of equal width, or their edges, rising, in the field's unit; of several fields: a number
        for each of them, or one list of edges per field. The last bin holds its upper edge (as in numpy.histogram).
    limits : (float, float) or None
        Of bins of equal width, in the field's unit, for a single field; None: from the smallest to the largest value.
    by : str or None
        A field with few values (classes): flat within each of them, and all of them equally often. (weaver's
        reweighting does this, too: https://github.com/hqucms/weaver-core.)

    Raises
    ------
    ConfigError
        The arguments do not fit each other.
    """
    names = (_name(field),) if isinstance(field, str) else tuple(map(_name, field))
    if not names or (limits is not None and len(names) > 1):
        raise ConfigError(
            f"flat: found {names!r} with limits={limits}; expected one field, or edges instead of limits"
        )
    whole = as_integer(bins) is not None
    if not whole and len(names) > 1 and len(tuple(bins)) != len(names):  # type: ignore[arg-type]
        raise ConfigError(
            f"flat: bins={bins!r} of {len(names)} fields; expected one entry per field"
        )
    each: tuple[Any, ...] = (bins,) if len(names) == 1 else (bins,) * len(names)
    if not whole and len(names) > 1:
        each = tuple(bins)  # type: ignore[arg-type]
    if limits is not None:
        limits = (float(limits[0]), float(limits[1]))
        if not whole or not limits[0] < limits[1]:
            raise ConfigError(
                f"flat: limits={limits} with bins={bins!r}; expected rising limits and a number of bins"
            )
    parts = tuple(_checked_bins(part) for part in each)
    return Weights((_Flat(names, parts, limits, None if by is None else _name(by)),))


@dataclass(frozen=True, slots=True)
class Mix:
    """Parts of a dataset and their shares; made by :func:`mix`. `conditions` None: the dataset's sources."""

    conditions: tuple[str, ...] | None
    shares: tuple[int, ...]


def mix(shares: Sequence[float] | Mapping[str, float]) -> Mix:
    """Mix parts of a dataset in fixed proportions, without repeats inside a part until it is used up.

    Each block of the order has exactly these proportions, spread evenly; so has each batch, up to a sample of each
    part. A part that is used up begins again in another order; that goes on across epochs.

    Parameters
    ----------
    shares : sequence of float, or mapping of str to float
        One share for each source of the Dataset, in its order, or for each condition on scalar fields (which may
        not hold for the same samples). Only ratios matter. They are taken as multiples of 1 / n with the smallest
        n up to 1,000 that fits, else rounded to multiples of 1 / 1,000.

    Raises
    ------
    ConfigError
        A share is not above 0, or rounds to 0.

    Examples
    --------
    >>> ds = e2eio.Dataset(["data/top", "data/qcd"])  # doctest: +SKIP
    >>> loader = e2eio.Loader(ds, batch_size=64, shuffle=True,
    ...                       weights=e2eio.sampling.mix([0.7, 0.3]))  # doctest: +SKIP
    >>> e2eio.sampling.mix({"y == 0": 2, "y == 1": 1}).shares
    (2, 1)
    """
    if isinstance(shares, Mapping):
        return Mix(tuple(map(str, shares)), _integers(list(shares.values())))
    return Mix(None, _integers(list(shares)))


def _integers(shares: Sequence[float]) -> tuple[int, ...]:
    values = np.asarray(shares, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.all(np.isfinite(values) & (values > 0)):
        raise ConfigError(f"mix: shares are {list(shares)!r}; expected numbers above 0")
    fractions = values / values.sum()
    for n in range(1, 1001):
        rounded = np.rint(fractions * n)
        if np.abs(fractions * n - rounded).max() < 1e-9 * n and rounded.min() > 0:
            return tuple(int(share) for share in rounded)
    rounded = np.rint(fractions * 1000)
    if rounded.min() == 0:
        raise ConfigError(f"mix: shares are {list(shares)!r}; expected each at least 1/1000 of all")
    return tuple(int(share) for share in rounded)


@dataclass(frozen=True, slots=True)
class _Balanced:
    field: str

    def __repr__(self) -> str:
        return f"balanced({self.field!r})"

    def values(self, columns: Columns) -> NDArray[np.float64]:
        classes, counts = _classes(self.field, columns)
        weights: NDArray[np.float64] = 1.0 / counts[classes]
        return weights


@dataclass(frozen=True, slots=True)
class _Flat:
    fields: tuple[str, ...]
    bins: tuple[int | tuple[float, ...], ...]
    limits: tuple[float, float] | None
    by: str | None

    def __repr__(self) -> str:
        field = self.fields[0] if len(self.fields) == 1 else self.fields
        bins = self.bins[0] if len(self.bins) == 1 else self.bins
        limits = "" if self.limits is None else f", limits={self.limits}"
        by = "" if self.by is None else f", by={self.by!r}"
        return f"flat({field!r}, bins={bins!r}{limits}{by})"

    def values(self, columns: Columns) -> NDArray[np.float64]:
        n_bins, number = 1, np.zeros((), dtype=np.int64)
        inside = np.ones((), dtype=np.bool_)
        for name, bins in zip(self.fields, self.bins, strict=True):
            column = columns(name).astype(np.float64)
            edges = self._edges(name, column, bins)
            found = np.searchsorted(edges, column, side="right") - 1
            found[column == edges[-1]] -= 1
            inside = inside & (found >= 0) & (found < len(edges) - 1)
            number = number * (len(edges) - 1) + found
            n_bins *= len(edges) - 1
        if n_bins > _MOST_BINS:
            raise ConfigError(f"{self!r}: {n_bins} bins, expected at most {_MOST_BINS}")
        n_classes = 1
        if self.by is not None:
            classes, counts = _classes(self.by, columns)
            number, n_classes = classes * n_bins + number, len(counts)
        filled = np.bincount(number[inside], minlength=n_classes * n_bins)
        n_filled = np.count_nonzero(filled.reshape(n_classes, n_bins), axis=1)
        weights = np.zeros(len(inside))
        weights[inside] = 1.0 / (filled[number[inside]] * n_filled[number[inside] // n_bins])
        return weights

    def _edges(
        self, name: str, column: NDArray[np.float64], bins: int | tuple[float, ...]
    ) -> NDArray[np.float64]:
        if not isinstance(bins, int):
            return np.asarray(bins, dtype=np.float64)
        finite = column[np.isfinite(column)]
        if self.limits is None and len(finite) == 0:
            raise ConfigError(f"{self!r}: {name} has no finite value; give limits")
        low, high = self.limits or (float(finite.min()), float(finite.max()))
        if low == high:
            raise ConfigError(f"{self!r}: {name} is {low} for all samples; leave it out")
        # Each operation rounds on its own: numpy's linspace may fuse two on some platforms.
        steps = np.arange(bins + 1, dtype=np.float64) * ((high - low) / bins)
        edges: NDArray[np.float64] = low + steps
        edges[-1] = high
        return edges


def _classes(name: str, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    values, classes, counts = np.unique(columns(name), return_inverse=True, return_counts=True)
    if len(values) > _MOST_CLASSES:
        raise ConfigError(
            f"{name} has {len(values)} values, expected classes, at most {_MOST_CLASSES}; "
            "use sampling.flat for what is continuous"
        )
    return classes.reshape(-1), counts


def _checked_bins(bins: object) -> int | tuple[float, ...]:
    number = as_integer(bins)
    if number is not None:
        if not 1 <= number <= _MOST_BINS:
            raise ConfigError(f"flat: bins={bins}; expected 1 to {_MOST_BINS}")
        return number
    try:
        edges = tuple(float(edge) for edge in bins)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        edges = ()
    if len(edges) < 2 or not all(a < b for a, b in pairwise(edges)):
        raise ConfigError(f"flat: bins={bins!r}; expected a number of bins, or rising edges")
    return edges


def _name(field: object) -> str:
    if not isinstance(field, str):
        raise ConfigError(f"found {field!r}; expected the name of a scalar field")
    return field
