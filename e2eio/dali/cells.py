"""The calorimeters' readout, on nodes of a graph: its resolution, its dead cells.

They take and give float32 images [C, H, W] on either device, and draw once per readout cell: an HCAL tower is one number
although it is spread over 5 x 5 pixels (15 x 15 at x3). The grid of cells begins at the first pixel, so they go before
what moves pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from e2eio.dali.binding import fn, math
from e2eio.dali.nodes import Shape, by_cells, coins, constant, in_runs, keep, seeded, select

__all__ = ["Resolution", "dead_cells", "energy_smear", "listed_dead_cells"]

# Squares of larger energies leave float32; no detector has them.
_LARGEST_ENERGY = 1e18


class Resolution(NamedTuple):
    """A calorimeter's: ``sigma^2 = (stochastic * sqrt(E))^2 + (constant * E)^2 + noise^2``."""

    #: In sqrt(GeV).
    stochastic: float = 0.0
    #: A fraction.
    constant: float = 0.0
    #: In GeV.
    noise: float = 0.0
    #: Edge of a readout cell in pixels.
    cell: int = 1


def energy_smear(
    images: Any,
    shape: Shape,
    *,
    resolution: Mapping[int, Resolution],
    clip_at_zero: bool = True,
    seed: int | None = None,
) -> Any:
    """Smear energies with a calorimeter's resolution, one normal draw per readout cell and sample.

    ``E -> E + sigma(E) * normal``, for finite E > 0; E is the energy of the whole cell, cell^2 times the pixel (R. Wigmans,
    Calorimetry, 2nd ed., 2017, chapter 4). Computed in float32; empty pixels stay empty.

    Parameters
    ----------
    images : DataNode
        float32 [C, H, W], in GeV.
    shape : tuple of int
        (C, H, W).
    resolution : {channel number: Resolution}
        Of the calorimeters; other channels stay what they are.
    clip_at_zero : bool
        What falls below zero becomes zero.
    seed : int or None
        Of this operation; None: from the pipeline's.
    """
    options = [seeded(seed, f"energy_smear {channel}") for channel in range(shape[0])]
    keys = [resolution[c].cell if c in resolution else None for c in range(shape[0])]

    def smear(part: Any, cell: int, channels: list[int]) -> Any:
        terms = [resolution[channel] for channel in channels]

        def smear_cells(pixels: Any, one_per_cell: tuple[int, ...]) -> Any:
            normal = fn.random.normal(
                shape=list(one_per_cell), device=pixels.device, **options[channels[0]]
            )
            return _smeared(pixels, terms, cell * cell, normal, clip_at_zero)

        return by_cells(part, (len(channels), *shape[1:]), cell, smear_cells)

    return in_runs(images, keys, smear)


def dead_cells(
    images: Any, shape: Shape, *, p: float, cell: Mapping[int, int], seed: int | None = None
) -> Any:
    """Set readout cells to zero, each with a probability.

    Parameters
    ----------
    images : DataNode
        float32 [C, H, W].
    shape : tuple of int
        (C, H, W).
    p : float
        Probability per cell and sample.
    cell : {channel number: int}
        Edge of a cell in pixels, of each channel that has dead ones.
    seed : int or None
        Of this operation; None: from the pipeline's.
    """
    keys = [cell.get(channel) for channel in range(shape[0])]

    def kill(part: Any, edge: int, channels: list[int]) -> Any:
        def kill_cells(pixels: Any, one_per_cell: tuple[int, ...]) -> Any:
            what = f"dead_cells {channels[0]}"
            dead = coins(p, seed, what, device=pixels.device, shape=one_per_cell)
            return keep(pixels, dead ^ 1)

        return by_cells(part, (len(channels), *shape[1:]), edge, kill_cells)

    return in_runs(images, keys, kill)


def listed_dead_cells(
    images: Any,
    shape: Shape,
    *,
    cells: Mapping[int, Sequence[tuple[int, int]]],
    cell: Mapping[int, int],
) -> Any:
    """Set the listed readout cells to zero, in every sample.

    Parameters
    ----------
    images : DataNode
        float32 [C, H, W].
    shape : tuple of int
        (C, H, W).
    cells : {channel number: sequence of (row, column)}
        Counted in cells.
    cell : {channel number: int}
        Edge of a cell in pixels, of the same channels.
    """
    keys = [(c, cell[c]) if c in cells else None for c in range(shape[0])]

    def kill(part: Any, key: tuple[int, int], channels: list[int]) -> Any:
        def kill_cells(pixels: Any, one_per_cell: tuple[int, ...]) -> Any:
            alive = np.ones(one_per_cell, np.int32)
            for row, column in cells[key[0]]:
                alive[:, row, :, column] = 0
            return keep(pixels, constant(alive, pixels, dtype=np.int32))

        return by_cells(part, (len(channels), *shape[1:]), key[1], kill_cells)

    return in_runs(images, keys, kill)


def _smeared(
    pixels: Any, terms: Sequence[Resolution], area: int, normal: Any, clip_at_zero: bool
) -> Any:
    """Return pixels [C, rows, edge, columns, edge] after smearing; everything in terms of pixels, not cells."""

    def squares(values: Sequence[float]) -> Any:
        return constant(np.square(np.reshape(values, (-1, 1, 1, 1, 1))), pixels)

    size = math.clamp(pixels, 0.0, _LARGEST_ENERGY / area)
    # sigma(area * v) / area, with the area drawn into the squares of the terms.
    stochastic = squares([term.stochastic / area**0.5 for term in terms])
    relative = squares([term.constant for term in terms])
    noise = squares([term.noise / area for term in terms])
    sigma = math.sqrt(size * stochastic + size * size * relative + noise)
    moved = pixels + sigma * normal
    if clip_at_zero:
        moved = math.max(moved, 0.0)
    # An infinity plus something finite is what it was; of what is not above zero nothing is computed.
    return select(pixels > 0.0, moved, pixels)
