"""Hits in the pixel layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from e2eio.sim.grid import crystal_columns, crystal_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.sim.apparatus import Apparatus
    from e2eio.sim.grid import RowsOf
    from e2eio.sim.helix import Helices
    from e2eio.sim.particles import SimParticles

    Floats = NDArray[np.float64]

__all__ = ["LayerHits", "pixel_hits"]


@dataclass(frozen=True, slots=True)
class LayerHits:
    """Hits of one layer: rows and columns in crystals, float64 [n], as seen from the vertex."""

    row: Floats
    column: Floats


def pixel_hits(
    particles: SimParticles,
    helices: Helices,
    vertex_z: float,
    apparatus: Apparatus,
    rng: np.random.Generator,
    rows_of: RowsOf = crystal_rows,
) -> tuple[LayerHits, ...]:
    """Return the hits of each layer of the pixel barrel.

    A charged particle leaves at most one where it first leaves the layer's radius; the directions are those
    from the vertex at `vertex_z` (cm), as the published images have them.
    """
    layers = []
    for radius in apparatus.pixel_radii:
        at = helices.at_radius(radius)
        found = rng.random(len(particles)) < apparatus.pixel_efficiency
        hit = found & at.reached & (particles.charge != 0)
        hit &= np.abs(at.z) < apparatus.pixel_half_length
        rows, columns = rows_of(at.eta_from(vertex_z)), crystal_columns(at.phi)
        layers.append(LayerHits(rows[hit], columns[hit]))
    return tuple(layers)
