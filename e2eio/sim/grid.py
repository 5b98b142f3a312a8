"""Positions on the grid of crystals: rows are eta, columns phi, which wraps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from e2eio.detector_grid import CRYSTAL_RAD, ETA_CRYSTALS, PHI_CRYSTALS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["crystal_columns", "crystal_rows", "sum_cells"]


def crystal_rows(eta: Floats) -> Floats:
    """Return rows, in crystals from the lowest edge of row 0; outside of [0, 280) there is no crystal.

    Examples
    --------
    >>> crystal_rows(np.array([0.0]))
    array([140.])
    """
    rows: Floats = eta / CRYSTAL_RAD + ETA_CRYSTALS // 2
    return rows


def crystal_columns(phi: Floats) -> Floats:
    """Return columns in [0, 360), in crystals from phi = 0."""
    columns = (phi / CRYSTAL_RAD) % PHI_CRYSTALS
    return np.where(columns < PHI_CRYSTALS, columns, 0.0)  # of -1e-20 the remainder is 360


def sum_cells(
    rows: Floats, columns: Floats, weights: Floats, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Sum weights into the cells of a grid whose columns wrap and whose rows end.

    Parameters
    ----------
    rows, columns, weights : ndarray
        float64 [n]; positions in cells.
    shape : (int, int)

    Returns
    -------
    ndarray
        float64 `shape`.
    """
    n_rows, n_columns = shape
    row, column = np.floor(rows), np.floor(columns) % n_columns
    inside = (row >= 0) & (row < n_rows)
    cells = (row[inside] * n_columns + column[inside]).astype(np.int64)
    sums = np.bincount(cells, weights[inside], n_rows * n_columns)
    return sums.astype(np.float64, copy=False).reshape(shape)
