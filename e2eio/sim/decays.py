"""Decays of particles without spin: H to a a to four photons, for any mass of a."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.sim.particles import SimParticles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["HIGGS", "FourPhotons", "decay_evenly", "higgs_to_photons"]

#: PDG number of the Higgs boson.
HIGGS: Final = 25


@dataclass(frozen=True, slots=True)
class FourPhotons:
    """What becomes of a Higgs boson.

    Parameters
    ----------
    photons : SimParticles
        Four; the first two are of the first a.
    pt, eta : ndarray
        float64 [2]: of the two a (GeV).
    """

    photons: SimParticles
    pt: Floats
    eta: Floats


def decay_evenly(
    parents: Floats, child_mass: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Let particles decay to two of one mass, evenly in all directions as seen from themselves.

    Parameters
    ----------
    parents : ndarray
        float64 [n, 4]: energy and momentum (GeV).
    child_mass : float
        GeV; at most half of the parents' masses.

    Returns
    -------
    tuple of ndarray
        float64 [n, 4] each; they add up to their parents.

    Examples
    --------
    >>> parent = np.array([[125.0, 0.0, 0.0, 0.0]])
    >>> one, other = decay_evenly(parent, 0.0, np.random.default_rng(0))
    >>> bool(np.allclose(one + other, parent)), float(one[0, 0])
    (True, 62.5)
    """
    energy, momentum = parents[:, 0], parents[:, 1:]
    mass = np.sqrt(np.maximum(energy**2 - (momentum**2).sum(1), 0.0))
    direction = rng.standard_normal((len(parents), 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    size = np.sqrt(np.maximum(mass**2 / 4 - child_mass**2, 0.0))
    own = size[:, None] * direction
    # A boost from the parent's rest frame: p' = p + ((p . P) / (E + M) + e) P / M.
    along = (own * momentum).sum(1)
    factor = (along / (energy + mass) + mass / 2) / mass
    first = own + factor[:, None] * momentum
    first_energy = energy / 2 + along / mass
    one = np.column_stack([first_energy, first])
    return one, parents - one


def higgs_to_photons(higgs: SimParticles, mass: float, rng: np.random.Generator) -> FourPhotons:
    """Let a Higgs boson decay to two a, and each of them to two photons.

    Parameters
    ----------
    higgs : SimParticles
        One.
    mass : float
        Of a (GeV).
    rng : numpy.random.Generator
    """
    pt, phi = higgs.pt[0], higgs.phi[0]
    momentum = [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(higgs.eta[0])]
    pair = np.concatenate(decay_evenly(np.array([[higgs.energy[0], *momentum]]), mass, rng))
    first, second = decay_evenly(pair, 0.0, rng)
    photons = np.stack([first, second], axis=1).reshape(4, 4)
    photon_pt, eta, phi_of = _directions(photons)
    place = {name: np.full(4, getattr(higgs, name)[0]) for name in ("x", "y", "z")}
    made = SimParticles.of(pt=photon_pt, eta=eta, phi=phi_of, **place)
    pair_pt, pair_eta, _ = _directions(pair)
    return FourPhotons(made, pair_pt, pair_eta)


def _directions(momenta: Floats) -> tuple[Floats, Floats, Floats]:
    """Return pT, eta, phi of rows (energy, momentum)."""
    pt = np.maximum(np.hypot(momenta[:, 1], momenta[:, 2]), 1e-9)
    return pt, np.arcsinh(momenta[:, 3] / pt), np.arctan2(momenta[:, 2], momenta[:, 1])
