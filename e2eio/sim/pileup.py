"""Other collisions of the same bunches: drawn from a pool, each time turned and moved anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.sim.particles import SimParticles, join

if TYPE_CHECKING:
    from e2eio.sim.apparatus import Apparatus

__all__ = ["MEAN_PILEUP", "PileUp", "make_pileup"]

#: Collisions beside the one of interest: 21 on average at 8 TeV in 2012 (CMS, public luminosity results; from memory).
MEAN_PILEUP: Final = 21.0

_SOFT: Final = ("SoftQCD:nonDiffractive = on",)  # what the other collisions are
_POOL: Final = 500  # collisions: 21 of them can be chosen, turned and moved in so many ways


class PileUp:
    """A pool of soft collisions; immutable, any thread may use it.

    Parameters
    ----------
    pool : sequence of SimParticles
        One per collision; may be empty if `mean` is 0.
    mean : float
        Of the Poisson distribution of their number.
    """

    def __init__(self, pool: Sequence[SimParticles], mean: float) -> None:
        self._mean = mean
        self._counts = np.array([len(each) for each in pool], np.int64)
        self._first = np.cumsum(self._counts) - self._counts
        everything = join(pool) if pool else None
        self._pool = everything and replace(everything, pileup=np.ones(len(everything), bool))

    def draw(self, apparatus: Apparatus, rng: np.random.Generator) -> SimParticles | None:
        """Return the particles of one bunch crossing, or None where there is no pile-up."""
        n = rng.poisson(self._mean)
        if self._pool is None:
            return None
        chosen = rng.integers(0, len(self._counts), n)
        counts = self._counts[chosen]
        before = np.cumsum(counts) - counts
        index = np.arange(counts.sum()) + np.repeat(self._first[chosen] - before, counts)
        turn = np.repeat(rng.uniform(0, 2 * np.pi, n), counts)
        z = np.repeat(apparatus.beam_spot_z * rng.standard_normal(n), counts)
        return self._pool.take(index).turned(turn).moved(z)


def make_pileup(mean: float, seed: int, reach: float = 2.6) -> PileUp:
    """Return pile-up of a mean number of collisions, from a pool that `seed` decides.

    `reach` is that of `e2eio.sim.generator.collisions`.

    Raises
    ------
    MissingDependencyError
        pythia8mc is missing, and `mean` is not 0.
    """
    if mean == 0:
        return PileUp((), 0.0)
    from e2eio.sim.generator import collisions  # showers without pile-up need no generator

    pool = islice(collisions(_SOFT, seed, reach=reach), _POOL)
    return PileUp([each.particles for each in pool], mean)
