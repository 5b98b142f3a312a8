"""What a few layers of cells see of a list of particles: the images of the toy jets.

Where a constant comes from ("recipe", "measured") is said in `e2eio.sim.toy`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.detector_grid import CRYSTALS, ECAL_RADIUS_M, TOWER_CRYSTALS, TOWERS, TRACK_MIN_GEV

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "CHARGED",
    "CRYSTALS",
    "CRYSTAL_RAD",
    "MARGIN",
    "NEUTRAL",
    "PHOTON",
    "TOWER_CRYSTALS",
    "TRACK_MIN_GEV",
    "Particles",
    "fill_image",
]

CHARGED, PHOTON, NEUTRAL = range(3)

# Geometry (recipe). Positions are in crystals from the image's corner: a pixel is a crystal at x1.
CRYSTAL_RAD: Final = 0.0174
ECAL_MIN_GEV: Final = 0.08
# The recipe says 0.7 GeV; the smallest tower measured is 1.2 GeV.
HCAL_MIN_GEV: Final = 1.2
# On its way to radius r a track turns by 0.2998 * 3.8 T * r / (2 pT) (recipe); here in crystals.
BEND_PER_M: Final = 0.2998 * 3.8 / 2 / CRYSTAL_RAD
PIXEL_RADII_M: Final = (0.044, 0.073, 0.102)
PIXEL_EFFICIENCY: Final = 0.985
MARGIN: Final = 5.0  # crystals round the image on which there is pile-up
HCAL_STOCHASTIC: Final = 1.0  # recipe
BEAM_SPOT_CM: Final = 5.0  # recipe
DISPLACED: Final = 0.08  # of the tracks (measured)
DISPLACED_LOG10_CM: Final = (-0.9, 0.7)


@dataclass(frozen=True, slots=True)
class Particles:
    """Arrays of one length: direction (crystals), pT (GeV), kind, charge, and whether pile-up."""

    eta: Floats
    phi: Floats
    pt: Floats
    kind: NDArray[np.int64]
    charge: Floats
    pileup: NDArray[np.bool_]

    def joined(self, other: Particles) -> Particles:
        """Append other particles."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Particles(*(np.concatenate(pair) for pair in pairs))

    def at_radius(self, radius_m: float) -> tuple[Floats, Floats]:
        """Positions (eta, phi) after the turn in the field; pile-up wraps, to stay even."""
        phi = self.phi + self.charge * (BEND_PER_M * radius_m) / self.pt
        wrapped = (phi + MARGIN) % (CRYSTALS + 2 * MARGIN) - MARGIN
        return self.eta, np.where(self.pileup, wrapped, phi)


def fill_image(
    rng: np.random.Generator, image: NDArray[np.float32], particles: Particles, resolution: int
) -> None:
    """Fill a zeroed image.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the draws; what is drawn does not depend on the resolution.
    image : ndarray
        float32 [8, 125 * resolution, 125 * resolution], zeros: track_pt (GeV), d0, dz (cm), ecal,
        hcal (GeV), bpix1, bpix2, bpix3 (hits).
    particles : Particles
        What passes through it.
    resolution : int
        Pixels per crystal edge.
    """
    in_ecal = _draw_ecal_energy(rng, particles)
    _fill_tracks(rng, image[:3], particles, resolution)
    _fill_ecal(rng, image[3], particles, in_ecal, resolution)
    _fill_hcal(rng, image[4], particles, particles.pt - in_ecal, resolution)
    _fill_pixels(rng, image[5:], particles, resolution)


def _draw_ecal_energy(rng: np.random.Generator, particles: Particles) -> Floats:
    """Energy (GeV) in the ECAL: all of a photon; of a hadron 0.3 GeV or 5 to 70 % (recipe)."""
    n = len(particles.pt)
    hadron = np.where(
        rng.random(n) < 0.45,
        np.minimum(0.3, particles.pt),
        rng.uniform(0.05, 0.7, n) * particles.pt,
    )
    return np.where(particles.kind == PHOTON, particles.pt, hadron)


def _fill_tracks(
    rng: np.random.Generator, image: NDArray[np.float32], particles: Particles, resolution: int
) -> None:
    """Fill track pT, d0, dz [3, H, W]: pT is summed, a pixel's hardest track gives d0 and dz."""
    vertex_cm = BEAM_SPOT_CM * rng.standard_normal()
    n = len(particles.pt)
    normal = rng.standard_normal((5, n))
    p = particles.pt
    d0 = 1e-4 * np.hypot(10, 90 / p) * normal[0]
    dz = 1e-4 * np.hypot(30, 130 / p) * normal[1]
    centre, width = DISPLACED_LOG10_CM
    away = (rng.random(n) < DISPLACED) * 10 ** (centre + width * normal[2])
    d0 += away * np.sign(normal[3])
    dz += away * 2 * normal[4]
    dz += particles.pileup * (BEAM_SPOT_CM * normal[3] - vertex_cm)

    eta, phi = particles.at_radius(ECAL_RADIUS_M)
    inside, row, column = _find_pixels(eta, phi, CRYSTALS, resolution)
    keep = np.flatnonzero(inside & (particles.charge != 0) & (p > TRACK_MIN_GEV))
    keep = keep[
        np.argsort(p[keep], kind="stable")
    ]  # numpy keeps the last of several writes to one pixel
    row, column = row[keep], column[keep]
    np.add.at(image[0], (row, column), p[keep].astype(np.float32))
    image[1, row, column] = d0[keep]
    image[2, row, column] = dz[keep]


def _fill_ecal(
    rng: np.random.Generator,
    image: NDArray[np.float32],
    particles: Particles,
    energy: Floats,
    resolution: int,
) -> None:
    """Fill ECAL energies (GeV) [H, W]; at x3 the nine pixels of a crystal share its energy."""
    eta, phi = particles.at_radius(ECAL_RADIUS_M)
    core = np.where(
        particles.kind == PHOTON, 0.33, 0.8
    )  # crystals; 0.33 puts 90 % within a Moliere radius (recipe)
    n_spots = np.clip(energy / 0.05, 4, 300).astype(np.int64)
    owner = np.repeat(np.arange(len(energy)), n_spots)
    u = rng.random(len(owner))
    radius = core[owner] * np.sqrt(u / (1 - u))
    angle = rng.uniform(0, 2 * np.pi, len(owner))
    crystals = _sum_spots(
        eta[owner] + radius * np.sin(angle),
        phi[owner] + radius * np.cos(angle),
        (energy / n_spots)[owner],
        CRYSTALS,
    )
    lit = np.flatnonzero(crystals)
    e = crystals[lit]
    e = e + rng.standard_normal(len(lit)) * np.sqrt(
        0.028**2 * e + 0.04**2 + (0.003 * e) ** 2
    )  # recipe
    lit, e = lit[e > ECAL_MIN_GEV], e[e > ECAL_MIN_GEV]
    crystals[:] = 0
    crystals[lit] = e
    _spread(image, crystals.reshape(CRYSTALS, CRYSTALS), resolution)


def _fill_hcal(
    rng: np.random.Generator,
    image: NDArray[np.float32],
    particles: Particles,
    energy: Floats,
    resolution: int,
) -> None:
    """Fill HCAL energies (GeV) [H, W]: the 25 or 225 pixels of a tower share its energy."""
    eta, phi = particles.at_radius(ECAL_RADIUS_M)
    owner = np.repeat(np.flatnonzero(energy), 12)
    shift = 0.35 * rng.standard_normal((2, len(owner)))  # towers (recipe)
    towers = _sum_spots(
        eta[owner] / TOWER_CRYSTALS + shift[0],
        phi[owner] / TOWER_CRYSTALS + shift[1],
        energy[owner] / 12,
        TOWERS,
    )
    towers += (
        rng.standard_normal(len(towers))
        * np.sqrt(HCAL_STOCHASTIC**2 * towers + 0.2**2)
        * (towers > 0)
    )
    towers[towers < HCAL_MIN_GEV] = 0
    _spread(image, towers.reshape(TOWERS, TOWERS), resolution * TOWER_CRYSTALS)


def _fill_pixels(
    rng: np.random.Generator, image: NDArray[np.float32], particles: Particles, resolution: int
) -> None:
    """Count the hits of charged particles in the three pixel layers [3, H, W]."""
    seen = (rng.random((3, len(particles.pt))) < PIXEL_EFFICIENCY) & (particles.charge != 0)
    for layer, radius in enumerate(PIXEL_RADII_M):
        inside, row, column = _find_pixels(*particles.at_radius(radius), CRYSTALS, resolution)
        keep = inside & seen[layer]
        np.add.at(image[layer], (row[keep], column[keep]), np.float32(1))


def _find_pixels(
    y: Floats, x: Floats, edge: int, cells: int = 1
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Which positions lie in [0, edge), and their rows and columns with `cells` per unit."""
    inside = (y >= 0) & (y < edge) & (x >= 0) & (x < edge)
    row = np.where(inside, y * cells, 0).astype(np.int64)
    return inside, row, np.where(inside, x * cells, 0).astype(np.int64)


def _sum_spots(y: Floats, x: Floats, energy: Floats, edge: int) -> Floats:
    """Sum energies into the cells of a grid; flat [edge * edge]."""
    inside, row, column = _find_pixels(y, x, edge)
    cells = (row * edge + column)[inside]
    return np.bincount(cells, energy[inside], edge * edge).astype(np.float64, copy=False)


def _spread(image: NDArray[np.float32], cells: Floats, k: int) -> None:
    """Share the energy of each cell among its k x k pixels."""
    n = len(cells)
    image.reshape(n, k, n, k)[:] = (cells / k**2).astype(np.float32)[:, None, :, None]
