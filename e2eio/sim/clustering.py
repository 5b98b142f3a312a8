"""The one door to FastJet: particles to jets.

Anti-kT: M. Cacciari, G. Salam, G. Soyez, JHEP 04 (2008) 063, arXiv:0802.1189; FastJet: Eur. Phys. J. C 72 (2012) 1896,
arXiv:1111.6097.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from e2eio.errors import MissingDependencyError

try:
    import fastjet
except ImportError as error:
    raise MissingDependencyError(
        "package fastjet is missing: it finds jets; run pip install 'e2eio[sim]'"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.sim.particles import SimParticles

    Floats = NDArray[np.float64]

__all__ = ["Jets", "find_jets"]


@dataclass(frozen=True, slots=True)
class Jets:
    """Jets by descending pT: float64 [n]; GeV, radians."""

    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats

    def __len__(self) -> int:
        return len(self.pt)


def find_jets(particles: SimParticles, radius: float, min_pt: float) -> Jets:
    """Cluster particles with the anti-kT algorithm.

    Parameters
    ----------
    particles : SimParticles
    radius : float
        R of the algorithm.
    min_pt : float
        Jets below it are left out (GeV).

    Examples
    --------
    >>> from e2eio.sim.particles import SimParticles
    >>> find_jets(SimParticles.of(pt=[30.0, 20.0], eta=[0.0, 0.1], phi=[1.0, 1.1]), 0.8, 10.0).pt.round()
    array([50.])
    """
    _silence_banner()
    pt, phi, eta = particles.pt, particles.phi, particles.eta
    columns = (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), particles.energy)
    inputs = [fastjet.PseudoJet(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    sequence = fastjet.ClusterSequence(inputs, definition)
    found = fastjet.sorted_by_pt(sequence.inclusive_jets(min_pt))
    rows = [(jet.pt(), jet.eta(), jet.phi_std(), jet.m()) for jet in found]
    return Jets(*np.array(rows, np.float64).reshape(-1, 4).T)


@lru_cache(maxsize=1)
def _silence_banner() -> None:
    """Have FastJet say who it is once, to nobody: it would do so on standard output, where results are."""
    with _stdout_closed():
        definition = fastjet.JetDefinition(fastjet.antikt_algorithm, 0.8)
        fastjet.ClusterSequence([fastjet.PseudoJet(1.0, 0.0, 0.0, 1.0)], definition)


@contextmanager
def _stdout_closed() -> Iterator[None]:
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
