"""ROC curves: the area as an exact rank statistic, its uncertainty over jets and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FALSE_POSITIVE_RATES",
    "NoCurveError",
    "area",
    "mean_and_error",
    "replicas",
    "true_positive_rates",
]

Floats = NDArray[np.float64]

# Where curves are kept: evenly, and as densely for small rates, where top taggers work.
FALSE_POSITIVE_RATES = np.unique(
    np.round(np.concatenate([np.linspace(0, 1, 41), np.geomspace(1e-3, 1, 31)]), 6)
)
N_REPLICAS = 200
_SEED = 20_26  # of the resampling: the same jets are drawn for every classifier


class NoCurveError(ValueError):
    """Scores have no order, or jets one class alone."""


def area(scores: NDArray[np.floating], labels: NDArray[np.floating]) -> float:
    """Return the chance that a jet of class 1 scores above one of class 0, where a tie counts half.

    The Mann-Whitney statistic over all pairs: Bamber, J. Math. Psych. 12 (1975) 387; no binning, no trapezoids.

    Parameters
    ----------
    scores : ndarray, [n]
        Finite, of any scale.
    labels : ndarray, [n]
        0 or 1, of both at least one.

    Raises
    ------
    NoCurveError
        A score is not finite, or a class is missing.

    Examples
    --------
    >>> area(np.array([0.1, 0.4, 0.4, 0.9]), np.array([0, 0, 1, 1]))
    0.875
    """
    _, signal, background = _counted(scores, labels)
    return _area(signal, background)


def replicas(
    scores: NDArray[np.floating], labels: NDArray[np.floating], n: int = N_REPLICAS
) -> list[float]:
    """Return areas of n samples of jets drawn with replacement (Efron, Ann. Statist. 7 (1979) 1).

    The draws depend on n and the number of jets alone: replica k of two classifiers is of the same test jets, so
    that the spread of differences is that of the difference.
    """
    inverse, _, _ = _counted(scores, labels)
    rng = np.random.default_rng(_SEED)
    is_signal = np.asarray(labels) > 0.5
    found = []
    for _ in range(n):
        weights = np.bincount(rng.integers(0, len(scores), len(scores)), minlength=len(scores))
        parts = (_summed(inverse, weights * which) for which in (is_signal, ~is_signal))
        found.append(_area(*parts))
    return found


def true_positive_rates(
    scores: NDArray[np.floating], labels: NDArray[np.floating], at: Floats = FALSE_POSITIVE_RATES
) -> list[float]:
    """Return the share of class 1 that is kept where the share of class 0 is `at`, linear between jets' scores."""
    _, signal, background = _counted(scores, labels)
    kept, passed = (
        np.concatenate([[0.0], np.cumsum(counts[::-1]) / counts.sum()])
        for counts in (signal, background)
    )
    # Where the rate of class 0 stands still, that of class 1 counts where it ends.
    last = np.append(np.diff(passed) > 0, True)
    last[0] = last[0] or passed[1] > 0
    return [float(rate) for rate in np.interp(at, passed[last], kept[last])]


def _counted(
    scores: NDArray[np.floating], labels: NDArray[np.floating]
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Number of its score for each jet, in rising order; jets of class 1 and 0 for each score."""
    scores, is_signal = np.asarray(scores), np.asarray(labels) > 0.5
    if not np.isfinite(scores).all():
        raise NoCurveError("scores that are not finite have no order: the training has diverged")
    if not is_signal.any() or is_signal.all():
        raise NoCurveError("one class alone has no ROC curve; expected jets of both")
    _, inverse = np.unique(scores, return_inverse=True)
    inverse = inverse.reshape(-1).astype(np.int64)
    return inverse, _summed(inverse, is_signal), _summed(inverse, ~is_signal)


def _summed(inverse: NDArray[np.int64], weights: NDArray[Any]) -> Floats:
    """Weights of the jets of each score."""
    return np.bincount(inverse, weights.astype(float)).astype(np.float64)


def _area(signal: Floats, background: Floats) -> float:
    # Whole numbers up to 2^53 in doubles: the sum over pairs, twice, is exact.
    below = np.cumsum(background) - background
    return float((signal * (2 * below + background)).sum() / (2 * signal.sum() * background.sum()))


def mean_and_error(
    areas: Sequence[float], resampled: Sequence[Sequence[float]]
) -> tuple[float, float, float, float]:
    """Return the mean over seeds, its error, and the error's two parts: of the test jets, and of the seeds.

    Parameters
    ----------
    areas
        Of each seed.
    resampled
        For each seed, replicas of its area; equally many.

    Notes
    -----
    Of the jets: the standard deviation of replicas of the mean. Of the seeds: the standard deviation over seeds,
    over the root of their number; 0 for one seed, whose spread is not known. Both are added in quadrature.
    """
    of_jets = float(np.std(np.mean(np.asarray(resampled), axis=0), ddof=1))
    n = len(areas)
    of_seeds = float(np.std(areas, ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return float(np.mean(areas)), float(np.hypot(of_jets, of_seeds)), of_jets, of_seeds
