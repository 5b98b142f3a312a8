"""Single electrons and photons: their showers in the crystals of the ECAL barrel, with energy and time.

As the published files are made, as far as the producer's code tells (GitHub repository mbandrews/MLAnalyzer, the program that
crops `Single{Photon,Electron}Pt50_*_IMG`): 32 x 32 crystals, the most energetic one at row and column 16; showers whose window
leaves the barrel are left out; energy (GeV) and time (ns) are divided by 50, which is the version RHv1 of the files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.detector_grid import (
    CRYSTAL_RAD,
    ECAL_RADIUS_M,
    ETA_CRYSTALS,
    PHI_CRYSTALS,
)
from e2eio.sim.apparatus import CMS_READOUT
from e2eio.sim.calorimeters import ecal_deposits, read_ecal, share_energy
from e2eio.sim.helix import Helices
from e2eio.sim.material import cross_tracker
from e2eio.sim.particles import SimParticles
from e2eio.sim.processes import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from e2eio.sim.apparatus import Apparatus, Readout
    from e2eio.sim.material import Crossed
    from e2eio.sim.pileup import PileUp
    from e2eio.sim.processes import GunProcess

    Floats = NDArray[np.float64]

__all__ = ["crop_shower", "simulate_showers"]

_EDGE: Final = 32
_BLOCK: Final = (
    64  # particles that go through the material together: numpy's calls are paid once for all
)
_LEAST_GEV, _LOW_GEV, _HIGH_GEV = 0.01, 0.5, 5.0  # nothing is read below the first
_CM_PER_NS: Final = 29.9792458
_FIRST_ROW: Final = (ETA_CRYSTALS - 170) // 2  # of the 170 rows of the barrel
_FACE_CM: Final = 100 * ECAL_RADIUS_M


def simulate_showers(
    process: GunProcess,
    label: int,
    pileup: PileUp,
    apparatus: Apparatus,
    *,
    seeds: np.random.SeedSequence,
    readout: Readout = CMS_READOUT,
) -> Iterator[Sample]:
    """Yield showers of one class without end.

    Parameters
    ----------
    process : GunProcess
    label : {0, 1}
        0: photons, 1: electrons and positrons.
    pileup : PileUp
        Other collisions, if any, in the same crystals.
    apparatus : Apparatus
    seeds : numpy.random.SeedSequence
        All that is drawn comes from it.
    readout : Readout

    Yields
    ------
    Sample
        Image float32 [2, 32, 32]; pT (GeV), and row and column of the crystal at its centre in the view of the
        whole detector.

    Examples
    --------
    >>> from e2eio.sim.apparatus import CMS_RUN_1
    >>> from e2eio.sim.pileup import PileUp
    >>> from e2eio.sim.processes import GunProcess, find_process
    >>> gun = find_process("electron-photon")
    >>> assert isinstance(gun, GunProcess)
    >>> photons = simulate_showers(gun, 0, PileUp((), 0.0), CMS_RUN_1, seeds=np.random.SeedSequence(0))
    >>> next(photons).image.shape
    (2, 32, 32)
    """
    rng = np.random.default_rng(seeds)
    parts = _parts(apparatus, readout)
    while True:
        shot = _shoot(process, label, apparatus, rng)
        crossed = cross_tracker(shot, rng)
        for number in range(_BLOCK):
            deposits = _deposits(crossed, number, parts, rng)
            deposits += _pileup_deposits(pileup, apparatus, rng)
            cropped = crop_shower(deposits, float(shot.z[number]), apparatus, rng, readout)
            if cropped is not None:
                image, row, column = cropped
                yield Sample(image, (process.pt, float(row), float(column)))


def crop_shower(
    deposits: Floats,
    vertex_z: float,
    apparatus: Apparatus,
    rng: np.random.Generator,
    readout: Readout = CMS_READOUT,
) -> tuple[NDArray[np.float32], int, int] | None:
    """Read the crystals round the most energetic one.

    Parameters
    ----------
    deposits : ndarray
        float64 [280, 360]: GeV, without noise.
    vertex_z : float
        Where the particle comes from (cm): light is early or late by what its way differs from that of the middle.
    apparatus : Apparatus
    rng : numpy.random.Generator
    readout : Readout

    Returns
    -------
    tuple or None
        Image float32 [2, 32, 32], energy and time, scaled, 0 where nothing is above the threshold; row and column of
        the hottest crystal, which is at [16, 16]. None where nothing was hit or the window leaves the barrel.
    """
    energies = read_ecal(deposits, apparatus, rng)
    row, column = divmod(int(np.argmax(energies)), PHI_CRYSTALS)
    half = _EDGE // 2
    if not (_FIRST_ROW + half <= row < ETA_CRYSTALS - _FIRST_ROW - half):
        return None
    rows = row - half + np.arange(_EDGE)
    columns = (column - half + np.arange(_EDGE)) % PHI_CRYSTALS
    energy = energies[rows][:, columns].astype(np.float64)
    noise = apparatus.ecal_resolution[1] * rng.standard_normal(energy.shape)
    noisy = (deposits[rows][:, columns] == 0) & (noise > apparatus.ecal_thresholds[0])
    energy = np.where(noisy, noise, energy)
    time: Floats = _delays(rows, vertex_z)[:, np.newaxis] + _time_errors(energy, readout, rng)
    image = np.stack([energy, np.where(energy > 0, time, 0.0)]) / readout.scale
    return image.astype(np.float32), row, column


def _shoot(
    process: GunProcess, label: int, apparatus: Apparatus, rng: np.random.Generator
) -> SimParticles:
    """Return particles of one momentum in all directions of the barrel."""
    signs = rng.choice([-1.0, 1.0], _BLOCK)
    return SimParticles.of(
        pt=np.full(_BLOCK, process.pt),
        eta=rng.uniform(-process.max_eta, process.max_eta, _BLOCK),
        phi=rng.uniform(-np.pi, np.pi, _BLOCK),
        z=apparatus.beam_spot_z * rng.standard_normal(_BLOCK),
        charge=signs if label else np.zeros(_BLOCK),
        kind=np.full(_BLOCK, 11 if label else 22),
    )


def _parts(apparatus: Apparatus, readout: Readout) -> list[tuple[float, Apparatus]]:
    """Return the parts of a shower: their shares of its energy, and the apparatus in which each is one."""
    counts = (apparatus.spot_counts[0], readout.most_spots)
    fine = replace(apparatus, spot_energy=readout.spot_energy, spot_counts=counts)
    return [(share, replace(fine, shower_core=core)) for share, core in readout.profile]


def _deposits(
    crossed: Crossed, number: int, parts: list[tuple[float, Apparatus]], rng: np.random.Generator
) -> Floats:
    """Return what one shot particle's descendants leave in crystals (GeV), float64 [280, 360]."""
    ours = crossed.particles.take(crossed.origin == number)
    at = Helices(ours).at_calorimeter()
    deposits = [ecal_deposits(ours, share * ours.energy, at, part, rng) for share, part in parts]
    total: Floats = np.sum(deposits, axis=0)
    return total


def _pileup_deposits(
    pileup: PileUp, apparatus: Apparatus, rng: np.random.Generator
) -> Floats | float:
    others = pileup.draw(apparatus, rng)
    if others is None:
        return 0.0
    others = cross_tracker(others, rng).particles
    energy, _ = share_energy(others, apparatus, rng)
    return ecal_deposits(others, energy, Helices(others).at_calorimeter(), apparatus, rng)


def _delays(rows: NDArray[np.int64], vertex_z: float) -> Floats:
    """Return when light from a vertex meets rows of crystals, after that from the middle would (ns)."""
    z = _FACE_CM * np.sinh((rows + 0.5 - ETA_CRYSTALS // 2) * CRYSTAL_RAD)
    delays: Floats = (np.hypot(_FACE_CM, z - vertex_z) - np.hypot(_FACE_CM, z)) / _CM_PER_NS
    return delays


def _time_errors(energy: Floats, readout: Readout, rng: np.random.Generator) -> Floats:
    hit = np.maximum(energy, _LEAST_GEV)
    linear, square = readout.time_low
    noise, constant = readout.time_high
    high = np.hypot(noise / np.minimum(hit, _HIGH_GEV), constant)
    width = np.where(hit < _LOW_GEV, linear / hit + square / hit**2, high)
    errors: Floats = width * rng.standard_normal(energy.shape)
    return errors
