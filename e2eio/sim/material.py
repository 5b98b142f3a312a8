"""What the tracker's material does to photons and electrons: conversions and bremsstrahlung.

Both as for complete screening (Particle Data Group, "Passage of Particles Through Matter", sections "Energy loss by
electrons" and "Energy loss by photons"; Y.-S. Tsai, Rev. Mod. Phys. 46 (1974) 815):

* a photon that crosses t radiation lengths converts with chance 1 - exp(-7/9 t); its electron takes the share x of its
  energy with a density of 1 - 4/3 x (1 - x);
* an electron that crosses t radiates, on average, t (4/3 - 4/3 y + y^2) / y photons of the share y of its energy, per unit of y.
  Its mean energy falls as exp(-t).

Everything stays on the line of flight: the angles are of the order of the electron's mass over its energy. Left out:
scattering, ionisation, Compton scattering (photons of some 10 MeV), annihilation, the fall of the cross sections at low energies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.sim.helix import Helices
from e2eio.sim.layers import CMS_TRACKER
from e2eio.sim.particles import SimParticles, join

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from e2eio.sim.layers import Layer

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["Crossed", "cross_tracker", "pair_shares", "radiate"]

_PHOTON: Final = 22
_ELECTRON: Final = 11
_CONVERSIONS: Final = 7 / 9
_SOFTEST_GEV: Final = (
    0.02  # a quarter of what a crystal must have to be read: what is softer is not followed
)


@dataclass(frozen=True, slots=True)
class Crossed:
    """What comes out of the tracker.

    Parameters
    ----------
    particles : SimParticles
        As they are behind the last layer that changed them: place and direction are those there.
    origin : ndarray
        int64 [n]: the number of the particle that went in and of which each comes.
    pairs : SimParticles
        Electrons and positrons of conversions as they were made: tracks that have a vertex in the material.
    pair_origin : ndarray
        int64 [m].
    """

    particles: SimParticles
    origin: Ints
    pairs: SimParticles
    pair_origin: Ints


def cross_tracker(
    particles: SimParticles,
    rng: np.random.Generator,
    layers: tuple[Layer, ...] = CMS_TRACKER,
) -> Crossed:
    """Take particles through the material in front of the ECAL.

    Parameters
    ----------
    particles : SimParticles
        Whatever is neither photon nor electron, or softer than 20 MeV, goes through unchanged.
    rng : numpy.random.Generator
    layers : tuple of Layer
        In the order in which they are met.

    Examples
    --------
    >>> photon = SimParticles.of(pt=[50.0], eta=[1.0], phi=[0.0])
    >>> crossed = cross_tracker(photon, np.random.default_rng(1))
    >>> float(crossed.particles.energy.sum().round(3)) <= round(50 * np.cosh(1.0), 3)
    True
    """
    touched = np.isin(particles.kind, (_PHOTON, _ELECTRON)) & (particles.energy > _SOFTEST_GEV)
    flying = _Flight(particles.take(touched), np.flatnonzero(touched))
    pairs = [flying.take(np.zeros(0, np.int64))]
    for layer in layers:
        helices = Helices(flying.particles)
        way, reached = layer.way_to(helices)
        moved, at = helices.carried(np.where(reached, way, 0.0), reached)
        there = _Flight(moved, flying.origin)
        thickness = layer.crossed(at, moved.eta, moved.phi)
        kind, hit = flying.particles.kind, thickness > 0
        converts = (kind == _PHOTON) & (
            rng.random(len(kind)) < -np.expm1(-_CONVERSIONS * thickness)
        )
        radiates = (kind == _ELECTRON) & hit
        pairs.append(_convert(there.take(converts), rng))
        electrons = there.take(radiates)
        slowed, photons, which = radiate(electrons.particles, thickness[radiates], rng)
        flying = _join(
            [
                flying.take(~converts & ~radiates),
                pairs[-1],
                _Flight(slowed, electrons.origin),
                _Flight(photons, electrons.origin[which]),
            ]
        )
        flying = flying.take(flying.particles.energy > _SOFTEST_GEV)
    made = _join(pairs)
    out = _join([_Flight(particles.take(~touched), np.flatnonzero(~touched)), flying])
    return Crossed(out.particles, out.origin, made.particles, made.origin)


def radiate(
    electrons: SimParticles, thickness: Floats, rng: np.random.Generator
) -> tuple[SimParticles, SimParticles, Ints]:
    """Let electrons radiate on their way through some radiation lengths.

    Parameters
    ----------
    electrons : SimParticles
    thickness : ndarray
        float64 [n], radiation lengths.

    Returns
    -------
    electrons : SimParticles
        With what is left of their energy.
    photons : SimParticles
        Those of more than 20 MeV over the energy that an electron begins with, as a share of what it still has;
        what softer ones would carry stays with the electrons.
    which : ndarray
        int64 [m]: the electron that each photon comes of.
    """
    energy = electrons.energy.copy()
    softest = np.minimum(_SOFTEST_GEV / np.maximum(energy, _SOFTEST_GEV), 1.0)
    # Candidates of a density 4/3 / y, of which 1 - y + 3/4 y^2 stay: what stays is Poisson with the density above.
    candidates = rng.poisson(thickness * (4 / 3) * -np.log(softest))
    which, carried = [np.zeros(0, np.int64)], [np.zeros(0)]
    for number in range(int(candidates.max(initial=0))):
        one = np.flatnonzero(candidates > number)
        share = softest[one] ** rng.random(len(one))
        stays = rng.random(len(one)) < 1 - share + 0.75 * share**2
        one, share = one[stays], share[stays]
        which.append(one)
        carried.append(share * energy[one])
        energy[one] *= 1 - share
    of = np.concatenate(which)
    photons = _with_energy(electrons.take(of), np.concatenate(carried))
    n = len(of)
    photons = replace(photons, kind=np.full(n, _PHOTON), charge=np.zeros(n))
    return _with_energy(electrons, energy), photons, of


def pair_shares(n: int, rng: np.random.Generator) -> Floats:
    """Return the shares of `n` photons' energies that their electrons take, float64 [n]."""
    shares: Floats = np.interp(rng.random(n), _SHARE_CHANCES, _SHARES)
    return shares


_SHARES: Final = np.linspace(0.0, 1.0, 1025)
_SHARE_CHANCES: Final = (_SHARES - 2 / 3 * _SHARES**2 + 4 / 9 * _SHARES**3) * 9 / 7


@dataclass(frozen=True, slots=True)
class _Flight:
    """Particles on their way, and the numbers of those that they come of."""

    particles: SimParticles
    origin: Ints

    def take(self, which: Ints | NDArray[np.bool_]) -> _Flight:
        return _Flight(self.particles.take(which), self.origin[which])


def _join(flights: Sequence[_Flight]) -> _Flight:
    return _Flight(
        join([flight.particles for flight in flights]),
        np.concatenate([flight.origin for flight in flights]),
    )


def _convert(photons: _Flight, rng: np.random.Generator) -> _Flight:
    """Return electrons and positrons in the place of photons."""
    n = len(photons.origin)
    shares = pair_shares(n, rng)
    parts = []
    for charge, share in ((-1.0, shares), (1.0, 1 - shares)):
        one = _with_energy(photons.particles, share * photons.particles.energy)
        one = replace(one, kind=np.full(n, _ELECTRON), charge=np.full(n, charge))
        parts.append(_Flight(one, photons.origin))
    return _join(parts)


def _with_energy(particles: SimParticles, energy: Floats) -> SimParticles:
    """Return them with other energies (GeV) in the same directions."""
    scale = energy / np.maximum(particles.energy, _LEAST_GEV)
    return replace(particles, energy=energy, pt=particles.pt * scale)


_LEAST_GEV: Final = 1e-9
