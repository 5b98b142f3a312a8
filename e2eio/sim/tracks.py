"""Tracks as they are measured: which are found, their momenta, impact parameters, and where they meet the ECAL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from e2eio.detector_grid import TRACK_MIN_GEV
from e2eio.sim.grid import crystal_columns, crystal_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.sim.apparatus import Apparatus
    from e2eio.sim.grid import RowsOf
    from e2eio.sim.helix import Helices, Places
    from e2eio.sim.particles import SimParticles

    Floats = NDArray[np.float64]

__all__ = ["Tracks", "measure_tracks"]


@dataclass(frozen=True, slots=True)
class Tracks:
    """Tracks by ascending pT.

    Parameters
    ----------
    pt, d0, dz : ndarray
        float64 [n]: GeV, cm, cm.
    row, column : ndarray
        float64 [n]: where they meet the ECAL, in crystals; the column in [0, 360).
    """

    pt: Floats
    d0: Floats
    dz: Floats
    row: Floats
    column: Floats


def measure_tracks(
    particles: SimParticles,
    helices: Helices,
    at_ecal: Places,
    vertex_z: float,
    apparatus: Apparatus,
    rng: np.random.Generator,
    rows_of: RowsOf = crystal_rows,
) -> Tracks:
    """Return the tracks of an event.

    Parameters
    ----------
    particles : SimParticles
    helices, at_ecal
        Their ways, and where those meet the ECAL.
    vertex_z : float
        Of the collision that dz is measured from (cm).
    apparatus : Apparatus
    rng : numpy.random.Generator
        Source of the draws: four per particle, whatever becomes of it.
    rows_of : callable
        From pseudorapidities to rows.

    Returns
    -------
    Tracks
        Those of charged particles within the tracker that were found, measured above 0.5 GeV, and reach the ECAL.
    """
    draws = rng.random(len(particles))
    noise = rng.standard_normal((3, len(particles)))
    central, forward = apparatus.track_efficiency
    made_at = np.hypot(particles.x, particles.y)
    chance = np.where(np.abs(particles.eta) < 0.9, central, forward)
    chance = chance * np.maximum(0.0, 1 - made_at / apparatus.track_vertex_radius)
    constant, linear = apparatus.track_pt_resolution
    pt = particles.pt * (1 + np.hypot(constant, linear * particles.pt) * noise[0])
    found = (particles.charge != 0) & (np.abs(particles.eta) < apparatus.track_max_eta)
    found &= at_ecal.reached & (draws < chance) & (pt > TRACK_MIN_GEV)
    d0, dz = helices.impact(vertex_z)
    with np.errstate(divide="ignore"):
        d0 += _resolution(apparatus.d0_resolution, particles.pt) * noise[1]
        tilt = 1 + 0.5 * particles.eta**2
        dz += _resolution(apparatus.dz_resolution, particles.pt) * tilt * noise[2]
    order = np.flatnonzero(found)
    order = order[np.argsort(pt[order], kind="stable")]
    rows, columns = rows_of(at_ecal.eta_from(0.0)), crystal_columns(at_ecal.phi)
    return Tracks(pt[order], d0[order], dz[order], rows[order], columns[order])


def _resolution(terms: tuple[float, float], pt: Floats) -> Floats:
    constant, scattering = terms
    width: Floats = np.hypot(constant, scattering / np.maximum(pt, TRACK_MIN_GEV))
    return width
