"""Particles to jet images of five channels; all jets of a chunk at once.

The recipe, with its sources, is in docs/importers/particles.md; its numbers are in `detector_grid`, its
choices in `JetRecipe`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.detector_grid import (
    CRYSTAL_RAD,
    CRYSTALS,
    ECAL_FACE_M,
    ECAL_RADIUS_M,
    ENDCAP_ABS_ETA,
    ETA_CRYSTALS,
    ETA_TOWERS,
    FIELD_GEV_PER_M,
    PHI_CRYSTALS,
    PHI_TOWERS,
    SEED_WINDOW,
    TOWER_CRYSTALS,
    TOWERS,
    TRACK_MIN_GEV,
)
from e2eio.importers.jets.recipe import JetRecipe, inside_barrel, window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

__all__ = ["CHANNELS", "Particles", "axis_towers", "draw", "find_centres", "hcal_towers"]

#: Channels of the images: GeV, cm, cm, GeV, GeV.
CHANNELS: Final = ("track_pt", "d0", "dz", "ecal", "hcal")

_IN_ECAL: Final = (11, 22)  # PDG numbers: electrons and photons
_IN_HCAL: Final = (130, 211)  # what particle flow calls neutral and charged hadrons


@dataclass(frozen=True, slots=True)
class Particles:
    """Particles of several events, those of an event together.

    Parameters
    ----------
    counts : ndarray
        int64 [n_events].
    pt, eta, phi, mass : ndarray
        float64 [n]; GeV, radians.
    charge, kind : ndarray
        int64 [n]; `kind` is the absolute value of the PDG number.
    d0, dz : ndarray
        float64 [n]; cm.
    """

    counts: Ints
    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats
    charge: Ints
    kind: Ints
    d0: Floats
    dz: Floats

    @property
    def energy(self) -> Floats:
        """GeV."""
        with np.errstate(over="ignore"):  # far outside of the detector
            energy: Floats = np.hypot(self.pt * np.cosh(self.eta), self.mass)
        return energy

    @property
    def reaches(self) -> Mask:
        """False for charged particles that turn back in the field before they meet the barrel."""
        loops = 2 * self.pt < FIELD_GEV_PER_M * ECAL_RADIUS_M
        reaches: Mask = ~((self.charge != 0) & loops & (np.abs(self.eta) < ENDCAP_ABS_ETA))
        return reaches

    @property
    def in_hcal(self) -> Mask:
        """Hadrons whose energy counts."""
        return np.isin(self.kind, _IN_HCAL) & self.reaches

    @property
    def is_track(self) -> Mask:
        """Charged particles that are drawn."""
        drawn: Mask = (self.charge != 0) & (self.pt > TRACK_MIN_GEV) & self.reaches
        return drawn

    def positions(self) -> tuple[Floats, Floats]:
        """Return eta and phi at the calorimeter's face, in crystals from row 0 and from phi = 0.

        In the field a particle's direction turns by an angle 2 a, and its phi by a.
        """
        curvature = np.divide(
            FIELD_GEV_PER_M, self.pt, out=np.zeros_like(self.pt), where=self.pt > 0
        )
        chord = np.minimum(1.0, curvature * ECAL_RADIUS_M / 2)
        endcap = np.abs(self.eta) >= ENDCAP_ABS_ETA
        turned = np.arcsin(chord)
        with np.errstate(over="ignore"):
            turned[endcap] = ECAL_FACE_M * curvature[endcap] / 2 / np.sinh(np.abs(self.eta[endcap]))
        phi = (self.phi - self.charge * turned) / CRYSTAL_RAD
        return self.eta / CRYSTAL_RAD + ETA_CRYSTALS // 2, phi % PHI_CRYSTALS


def axis_towers(eta: Floats, phi: Floats) -> tuple[Ints, Ints]:
    """Return the rows and columns of the towers that jets point to; row -1: to none, or NaN."""
    row = np.floor(eta / CRYSTAL_RAD) + ETA_CRYSTALS // 2
    good = (row >= 0) & (row < ETA_CRYSTALS) & np.isfinite(phi)
    column = np.floor((np.where(good, phi, 0.0) / CRYSTAL_RAD) % PHI_CRYSTALS)
    rows = np.where(good, row, -1).astype(np.int64) // TOWER_CRYSTALS
    return rows, column.astype(np.int64) % PHI_CRYSTALS // TOWER_CRYSTALS


def hcal_towers(particles: Particles) -> Floats:
    """Return HCAL energies (GeV), float64 [n_events, 56, 72]."""
    eta, phi = particles.positions()
    event = np.repeat(np.arange(len(particles.counts)), particles.counts)
    keep = particles.in_hcal & (eta >= 0) & (eta < ETA_CRYSTALS)
    row = eta[keep].astype(np.int64) // TOWER_CRYSTALS
    column = phi[keep].astype(np.int64) % PHI_CRYSTALS // TOWER_CRYSTALS
    cell = (event[keep] * ETA_TOWERS + row) * PHI_TOWERS + column
    shape = (len(particles.counts), ETA_TOWERS, PHI_TOWERS)
    sums = np.bincount(cell, particles.energy[keep], int(np.prod(shape)))
    return sums.astype(float, copy=False).reshape(shape)


def find_centres(towers: Floats, event: Ints, row: Ints, column: Ints) -> tuple[Ints, Ints]:
    """Return the most energetic tower of the 7 x 7 round each axis; the axis' own if all are empty.

    Parameters
    ----------
    towers : ndarray
        float64 [n_events, 56, 72], GeV.
    event, row, column : ndarray
        int64 [n]: of each jet, and the tower its axis hits.

    Returns
    -------
    rows, columns : ndarray
        int64 [n]. Rows whose image would leave the detector are not considered.
    """
    half = SEED_WINDOW // 2
    offsets = np.arange(-half, half + 1)
    rows = row[:, None, None] + offsets[None, :, None]
    columns = (column[:, None, None] + offsets[None, None, :]) % PHI_TOWERS
    energy = towers[event[:, None, None], np.clip(rows, 0, ETA_TOWERS - 1), columns]
    energy = np.where(inside_barrel(rows), energy, -1.0).reshape(len(row), -1)
    best = np.argmax(energy, axis=1)
    lit = energy[np.arange(len(row)), best] > 0
    best = np.where(lit, best, SEED_WINDOW**2 // 2)
    down, across = best // SEED_WINDOW - half, best % SEED_WINDOW - half
    return row + down, (column + across) % PHI_TOWERS


def draw(
    particles: Particles, event: Ints, row: Ints, column: Ints, recipe: JetRecipe
) -> NDArray[np.float32]:
    """Draw the images of jets.

    Parameters
    ----------
    particles : Particles
    event, row, column : ndarray
        int64 [n]: event of each jet, and the tower at the centre of its image.
    recipe : JetRecipe

    Returns
    -------
    ndarray
        float32 [n, 5, H, W]: track_pt (GeV), d0, dz (cm), ecal, hcal (GeV).
    """
    n, g, edge = len(event), recipe.resolution, recipe.edge
    images = np.zeros((n, len(CHANNELS), edge, edge), np.float32)
    jet, index, down, across = _inside(particles, event, row, column)
    keep = particles.is_track[index]
    pixel = _cell(jet, down, across, g, edge)[keep]
    _fill_tracks(images[:, :3], pixel, index[keep], particles, recipe)
    energy = particles.energy[index]
    calorimeters = {
        3: (CRYSTALS, np.isin(particles.kind, _IN_ECAL)),
        4: (TOWERS, particles.in_hcal),
    }
    for channel, (cells, deposits) in calorimeters.items():
        keep = deposits[index]
        where = _cell(jet, down, across, cells / CRYSTALS, cells)[keep]
        sums = np.bincount(where, energy[keep], n * cells * cells).astype(float, copy=False)
        _spread(images[:, channel], sums.reshape(n, cells, cells), edge // cells)
    return images


def _inside(
    particles: Particles, event: Ints, row: Ints, column: Ints
) -> tuple[Ints, Ints, Floats, Floats]:
    """Return each pair of a jet and a particle in its window, and the place there in crystals."""
    counts = particles.counts[event]
    first = (np.cumsum(particles.counts) - particles.counts)[event]
    jet = np.repeat(np.arange(len(event)), counts)
    index = np.arange(len(jet)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    eta, phi = particles.positions()
    top, left = window(row, column)
    down = eta[index] - top[jet]
    across = (phi[index] - left[jet]) % PHI_CRYSTALS
    keep = (down >= 0) & (down < CRYSTALS) & (across < CRYSTALS)
    return jet[keep], index[keep], down[keep], across[keep]


def _cell(jet: Ints, down: Floats, across: Floats, scale: float, edge: int) -> Ints:
    """Return the cell of each place, counted over all jets; `scale` cells are as wide as a crystal."""
    row = np.minimum((down * scale).astype(np.int64), edge - 1)
    column = np.minimum((across * scale).astype(np.int64), edge - 1)
    return (jet * edge + row) * edge + column


def _fill_tracks(
    images: NDArray[np.float32], pixel: Ints, index: Ints, particles: Particles, recipe: JetRecipe
) -> None:
    """Fill track pT, d0, dz [n, 3, H, W]."""
    n, _, height, width = images.shape
    ascending = np.argsort(particles.pt[index], kind="stable")
    pixel, index = pixel[ascending], index[ascending]
    size = n * height * width
    images[:, 0] = np.bincount(pixel, particles.pt[index], size).reshape(n, height, width)
    tracks = np.bincount(pixel, minlength=size) if recipe.impact == "mean" else None
    for channel, values in ((1, particles.d0), (2, particles.dz)):
        if tracks is None:
            plane = np.zeros(size)
            plane[pixel] = values[index]  # the last of several, the hardest track's, stays
        else:
            plane = np.bincount(pixel, values[index], size) / np.maximum(tracks, 1)
        images[:, channel] = plane.reshape(n, height, width)


def _spread(images: NDArray[np.float32], cells: Floats, k: int) -> None:
    """Share the energy of each cell [n, H, W] among its k x k pixels."""
    n, height, width = cells.shape
    shared = (cells / k**2).astype(np.float32)
    images[:] = np.repeat(np.repeat(shared, k, axis=1), k, axis=2).reshape(n, height * k, width * k)
