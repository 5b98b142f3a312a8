"""Showers in crystals and towers, their noise and thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.detector_grid import (
    CRYSTAL_RAD,
    ENDCAP_ABS_ETA,
    ETA_CRYSTALS,
    ETA_TOWERS,
    PHI_CRYSTALS,
    PHI_TOWERS,
    TOWER_CRYSTALS,
)
from e2eio.sim.grid import crystal_columns, crystal_rows, sum_cells
from e2eio.sim.particles import INVISIBLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.sim.apparatus import Apparatus
    from e2eio.sim.grid import RowsOf
    from e2eio.sim.helix import Places
    from e2eio.sim.particles import SimParticles

    Floats = NDArray[np.float64]

__all__ = ["ecal_deposits", "ecal_spots", "hcal_deposits", "read_ecal", "read_hcal", "share_energy"]

_ELECTROMAGNETIC: Final = (11, 22)
_MUON: Final = 13
_MARGIN: Final = 10  # crystals beyond the grid whose showers reach it
_LEAST_TAIL: Final = np.float32(1e-3)  # no spot is further away than some 30 to 100 cores


def share_energy(
    particles: SimParticles, apparatus: Apparatus, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return the energies (GeV) that particles bring into ECAL and HCAL, float64 [n] each.

    All of electrons and photons; of hadrons little or a part in the ECAL, and the rest in the HCAL, smeared by
    its resolution; a minimum of muons; nothing of neutrinos.
    """
    n = len(particles)
    low, high = apparatus.shower_share
    showers = rng.random(n) >= apparatus.mip_share
    share = rng.uniform(low, high, n)
    smear = rng.standard_normal(n)
    energy = particles.energy
    mip = np.minimum(apparatus.mip_energy, energy)
    electromagnetic = np.isin(particles.kind, _ELECTROMAGNETIC)
    muon = particles.kind == _MUON
    visible = ~np.isin(particles.kind, INVISIBLE)
    ecal = np.where(showers & ~muon, share * energy, mip)
    ecal = np.where(electromagnetic, energy, ecal)
    rest = np.where(muon, np.minimum(apparatus.muon_hcal, energy - ecal), energy - ecal)
    stochastic, _ = apparatus.hcal_resolution
    hcal = rest + stochastic * np.sqrt(rest) * smear
    return np.where(visible, ecal, 0.0), np.where(visible, np.maximum(hcal, 0.0), 0.0)


def ecal_spots(
    energy: Floats, core: Floats, apparatus: Apparatus, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    """Break showers into spots of equal energy.

    Parameters
    ----------
    energy : ndarray
        float64 [n], GeV.
    core : ndarray
        float64 [n], crystals: half of the spots lie within it.

    Returns
    -------
    shower : ndarray
        int64 [m]: which shower a spot is of.
    down, across : ndarray
        float64 [m]: from the shower's axis, in crystals.
    weights : ndarray
        float64 [m], GeV; those of a shower add up to its energy.
    """
    fewest, most = apparatus.spot_counts
    count = np.clip(energy / apparatus.spot_energy, fewest, most).astype(np.int64)
    shower = np.repeat(np.arange(len(energy)), count)
    # Two normal draws over the root of an exponential one: r^2 is core^2 u / (1 - u) with an even u.
    down, across = rng.standard_normal((2, len(shower)), np.float32)
    tail = rng.standard_exponential(len(shower), np.float32)
    scale = core[shower] / np.sqrt(2 * np.maximum(tail, _LEAST_TAIL))
    return shower, down * scale, across * scale, (energy / count)[shower]


def ecal_deposits(
    particles: SimParticles,
    energy: Floats,
    at: Places,
    apparatus: Apparatus,
    rng: np.random.Generator,
    rows_of: RowsOf = crystal_rows,
) -> Floats:
    """Return what showers leave in crystals (GeV), float64 [280, 360], without noise."""
    rows = rows_of(at.eta_from(0.0))
    near = np.abs(rows - ETA_CRYSTALS // 2) < ETA_CRYSTALS // 2 + _MARGIN
    hit = np.flatnonzero(at.reached & (energy > 0) & near)
    electromagnetic = np.isin(particles.kind[hit], _ELECTROMAGNETIC)
    core = np.where(electromagnetic, apparatus.shower_core, apparatus.hadron_core)
    shower, down, across, weights = ecal_spots(energy[hit], core, apparatus, rng)
    columns = crystal_columns(at.phi[hit])[shower] + across
    return sum_cells(rows[hit][shower] + down, columns, weights, (ETA_CRYSTALS, PHI_CRYSTALS))


def hcal_deposits(
    energy: Floats,
    at: Places,
    apparatus: Apparatus,
    rng: np.random.Generator,
    rows_of: RowsOf = crystal_rows,
) -> Floats:
    """Return what showers leave in towers (GeV), float64 [56, 72], without noise."""
    hit = np.flatnonzero(at.reached & (energy > 0))
    n = apparatus.hcal_spots
    down, across = apparatus.hcal_width * rng.standard_normal((2, len(hit), n))
    rows = rows_of(at.eta_from(0.0)[hit])[:, None] / TOWER_CRYSTALS + down
    columns = crystal_columns(at.phi[hit])[:, None] / TOWER_CRYSTALS + across
    weights = np.repeat(energy[hit] / n, n)
    return sum_cells(rows.ravel(), columns.ravel(), weights, (ETA_TOWERS, PHI_TOWERS))


def read_ecal(
    deposits: Floats, apparatus: Apparatus, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return what crystals say of deposits (GeV), float32 [280, 360]: smeared, and cut at their thresholds.

    Crystals without a deposit stay empty: noise alone seldom passes the thresholds.
    """
    stochastic, noise, constant = apparatus.ecal_resolution
    lit = np.flatnonzero(deposits)
    energy = deposits.ravel()[lit]
    width = np.sqrt(stochastic**2 * energy + noise**2 + (constant * energy) ** 2)
    energy = energy + width * rng.standard_normal(len(lit))
    centre = np.abs(lit // PHI_CRYSTALS + 0.5 - ETA_CRYSTALS // 2) * CRYSTAL_RAD
    barrel, endcap = apparatus.ecal_thresholds
    energy[energy <= np.where(centre < ENDCAP_ABS_ETA, barrel, endcap)] = 0
    crystals = np.zeros(deposits.size, np.float32)
    crystals[lit] = energy
    return crystals.reshape(deposits.shape)


def read_hcal(
    deposits: Floats, apparatus: Apparatus, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return what towers say of deposits (GeV), float32 [56, 72]: with noise, and cut at the threshold."""
    _, noise = apparatus.hcal_resolution
    energy = deposits + noise * rng.standard_normal(deposits.shape)
    return np.where(energy > apparatus.hcal_threshold, energy, 0.0).astype(np.float32)
