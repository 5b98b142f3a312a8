"""What the whole detector sees of an event, the image of that, and the images of jets cut out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.detector_grid import CRYSTALS, ETA_CRYSTALS, PHI_CRYSTALS, TOWER_CRYSTALS
from e2eio.importers.jets.images import axis_towers, find_centres
from e2eio.importers.jets.recipe import inside_barrel, window
from e2eio.presets import find_preset
from e2eio.sim.calorimeters import (
    ecal_deposits,
    hcal_deposits,
    read_ecal,
    read_hcal,
    share_energy,
)
from e2eio.sim.grid import RowsOf, crystal_rows
from e2eio.sim.helix import Helices
from e2eio.sim.material import cross_tracker
from e2eio.sim.particles import join
from e2eio.sim.pixels import LayerHits, pixel_hits
from e2eio.sim.tracks import Tracks, measure_tracks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.sim.apparatus import Apparatus
    from e2eio.sim.layers import Layer
    from e2eio.sim.particles import SimParticles

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Image = NDArray[np.float32]

__all__ = ["CHANNELS", "DetectorView", "crop_jet", "draw_event", "jet_centres", "look"]

#: Channels of a jet image: GeV, cm, cm, GeV, GeV, hits, hits, hits.
CHANNELS: Final = tuple(channel.name for channel in find_preset("boosted-top").channels)


@dataclass(frozen=True, slots=True)
class DetectorView:
    """All that was measured of an event.

    Parameters
    ----------
    tracks : Tracks
    ecal : ndarray
        float32 [280, 360], GeV.
    hcal : ndarray
        float32 [56, 72], GeV.
    layers : tuple of LayerHits
        Of the pixel barrel, from the innermost.
    """

    tracks: Tracks
    ecal: Image
    hcal: Image
    layers: tuple[LayerHits, ...]


def look(
    particles: SimParticles,
    vertex_z: float,
    apparatus: Apparatus,
    rng: np.random.Generator,
    *,
    material: tuple[Layer, ...] = (),
    rows_of: RowsOf = crystal_rows,
) -> DetectorView:
    """Return what the detector sees of an event.

    Parameters
    ----------
    particles : SimParticles
        Of all its collisions.
    vertex_z : float
        Of the collision of interest (cm), which impact parameters and pixel hits are seen from.
    apparatus : Apparatus
    rng : numpy.random.Generator
        What is drawn does not depend on the resolution of images.
    material : tuple of Layer
        In front of the ECAL. Tracks and pixel hits are those of particles as they were made, and of conversions.
    rows_of : callable
        From pseudorapidities to rows: `crystal_rows` or `event_rows`.

    Examples
    --------
    >>> from e2eio.sim.apparatus import CMS_RUN_1
    >>> from e2eio.sim.particles import SimParticles
    >>> photon = SimParticles.of(pt=[50.0], eta=[0.01], phi=[1.0])
    >>> view = look(photon, 0.0, CMS_RUN_1, np.random.default_rng(0))
    >>> bool(45 < view.ecal.sum() < 55), len(view.tracks.pt)
    (True, 0)
    """
    arriving = particles
    if material:
        crossed = cross_tracker(particles, rng, material)
        particles, arriving = join([particles, crossed.pairs]), crossed.particles
    at_ecal = Helices(particles).at_calorimeter()
    which = np.flatnonzero(particles.charge)  # half of the work in the tracker
    charged = particles.take(which)
    ways = Helices(charged)
    tracks = measure_tracks(charged, ways, at_ecal.take(which), vertex_z, apparatus, rng, rows_of)
    layers = pixel_hits(charged, ways, vertex_z, apparatus, rng, rows_of)
    at_ecal = Helices(arriving).at_calorimeter() if material else at_ecal
    in_ecal, in_hcal = share_energy(arriving, apparatus, rng)
    ecal = ecal_deposits(arriving, in_ecal, at_ecal, apparatus, rng, rows_of)
    hcal = hcal_deposits(in_hcal, at_ecal, apparatus, rng, rows_of)
    return DetectorView(
        tracks, read_ecal(ecal, apparatus, rng), read_hcal(hcal, apparatus, rng), layers
    )


def jet_centres(view: DetectorView, eta: Floats, phi: Floats) -> tuple[Ints, Ints]:
    """Return the towers at the centres of jets' images: the most energetic of 7 x 7 round each axis.

    Parameters
    ----------
    eta, phi : ndarray
        float64 [n]: the jets' axes.

    Returns
    -------
    rows, columns : ndarray
        int64 [n]; row -1: the image would leave the detector.
    """
    row, column = axis_towers(eta, phi)
    towers = view.hcal.astype(np.float64)[np.newaxis]
    event = np.zeros(len(row), np.int64)
    rows, columns = find_centres(towers, event, row, column)
    return np.where(inside_barrel(rows), rows, -1), columns


def crop_jet(view: DetectorView, row: int, column: int, resolution: int = 1) -> Image:
    """Draw the image round a tower.

    Parameters
    ----------
    view : DetectorView
    row, column : int
        Of the tower, as `jet_centres` gives it.
    resolution : int
        Pixels per crystal edge.

    Returns
    -------
    ndarray
        float32 [8, 125 * resolution, 125 * resolution], channels as in `CHANNELS`. A pixel with several tracks
        has the sum of their pT, and d0 and dz of the hardest. Energies of crystals and towers are shared
        equally by their pixels.
    """
    top, left = (int(x) for x in window(np.int64(row), np.int64(column)))
    return _draw(view, top, left, (CRYSTALS, CRYSTALS), resolution)


def draw_event(view: DetectorView, resolution: int = 1) -> Image:
    """Draw the image of all that was measured.

    Returns
    -------
    ndarray
        float32 [8, 280 * resolution, 360 * resolution], as `crop_jet` draws it.
    """
    return _draw(view, 0, 0, (ETA_CRYSTALS, PHI_CRYSTALS), resolution)


def _draw(view: DetectorView, top: int, left: int, size: tuple[int, int], resolution: int) -> Image:
    """Draw a window of some crystals, which begins at a tower."""
    height, width = (edge * resolution for edge in size)
    image = np.zeros((len(CHANNELS), height, width), np.float32)
    tracks = view.tracks
    pixel, inside = _pixels(tracks.row, tracks.column, top, left, size, resolution)
    flat = image.reshape(len(CHANNELS), -1)
    flat[0] = np.bincount(pixel, tracks.pt[inside], height * width)
    flat[1, pixel], flat[2, pixel] = tracks.d0[inside], tracks.dz[inside]  # the last one stays
    _share(image[3], _part(view.ecal, top, left, size), resolution)
    k = TOWER_CRYSTALS
    towers = _part(view.hcal, top // k, left // k, (size[0] // k, size[1] // k))
    _share(image[4], towers, resolution * k)
    for plane, hits in zip(flat[5:], view.layers, strict=True):
        pixel, _ = _pixels(hits.row, hits.column, top, left, size, resolution)
        plane[:] = np.bincount(pixel, minlength=height * width)
    return image


def _part(cells: Image, top: int, left: int, size: tuple[int, int]) -> Image:
    """Return a window of cells; columns wrap."""
    columns = (left + np.arange(size[1])) % cells.shape[1]
    return cells[top : top + size[0]][:, columns]


def _pixels(
    row: Floats, column: Floats, top: int, left: int, size: tuple[int, int], resolution: int
) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the pixels of the places in a window, in their order, and which places those are."""
    down, across = row - top, (column - left) % PHI_CRYSTALS
    inside = (down >= 0) & (down < size[0]) & (across < size[1])
    y, x = ((along[inside] * resolution).astype(np.int64) for along in (down, across))
    return y * (size[1] * resolution) + x, inside


def _share(image: Image, cells: Image, k: int) -> None:
    """Share the energy of each cell among its k x k pixels."""
    image[:] = np.repeat(np.repeat(cells / np.float32(k * k), k, axis=0), k, axis=1)
