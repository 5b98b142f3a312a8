"""How the area grows with the number of training jets: a power law, fitted with its error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LearningCurve", "fit_curve"]

Floats = NDArray[np.float64]
_EXPONENTS = np.linspace(0.05, 2.0, 196)
_N_TRIALS = 200
_MIN_POINTS = 4  # one more than there are parameters


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """1 - AUC = floor + scale * n^-exponent; parameters of the fit, and of fits of points moved by their errors.

    The form: e.g. Hestness et al., arXiv:1712.00409, section 3.

    Attributes
    ----------
    floor, scale, exponent : float
    chi2 : float
        Of the fit; `n_points` - 3 degrees of freedom.
    trials : ndarray, [m, 3]
        Parameters of the fits to moved points.
    """

    floor: float
    scale: float
    exponent: float
    chi2: float
    n_points: int
    trials: Floats

    def area(self, n_jets: float) -> tuple[float, float, float]:
        """Return the area for n jets, and the least and most of 68 % of the trials.

        What the form does not know (another schedule, another network) is not in these.
        """
        best = 1 - (self.floor + self.scale * n_jets**-self.exponent)
        spread = 1 - (self.trials[:, 0] + self.trials[:, 1] * n_jets ** -self.trials[:, 2])
        low, high = np.quantile(spread, [0.16, 0.84])
        return float(best), float(low), float(high)


def fit_curve(
    jets: Sequence[int], areas: Sequence[float], errors: Sequence[float]
) -> LearningCurve | None:
    """Fit the power law by least squares, with a floor of 0 or more.

    For each exponent of a grid the other two follow from a linear fit; the best of all counts. Uncertainties come of
    the same fit to points moved by their errors, as normal as these are.

    Parameters
    ----------
    jets, areas, errors
        Points of the curve, with errors above 0.

    Returns
    -------
    LearningCurve, or None for fewer than four points.
    """
    if len(jets) < _MIN_POINTS:
        return None
    n, missed, sigma = (np.asarray(each, float) for each in (jets, 1 - np.asarray(areas), errors))
    rng = np.random.default_rng(0)
    (best,), (chi2,) = _fit(n, missed[None], sigma)
    moved = missed + sigma * rng.standard_normal((_N_TRIALS, len(n)))
    trials, _ = _fit(n, moved, sigma)
    floor, scale, exponent = (float(each) for each in best)
    return LearningCurve(floor, scale, exponent, float(chi2), len(n), trials)


def _fit(n: Floats, missed: Floats, sigma: Floats) -> tuple[Floats, Floats]:
    """Return floor, scale and exponent [m, 3], and chi squared [m], of the best fits to `missed` [m, points]."""
    shapes = (n / n[0]) ** -_EXPONENTS[:, None]  # near 1, whatever the exponent
    weights = 1 / sigma**2
    a, b, c = weights.sum(), shapes @ weights, shapes**2 @ weights
    p, q = (missed @ weights)[:, None], (missed * weights) @ shapes.T
    floor = np.maximum((p * c - q * b) / (a * c - b * b), 0.0)
    scale = (q - floor * b) / c
    chi2 = (missed**2 @ weights)[:, None] + floor**2 * a + scale**2 * c
    chi2 += 2 * (floor * scale * b - floor * p - scale * q)
    rows, best = np.arange(len(missed)), chi2.argmin(1)
    exponents = _EXPONENTS[best]
    found = [floor[rows, best], scale[rows, best] * n[0] ** exponents, exponents]
    return np.stack(found, 1), chi2[rows, best]
