"""Positions on the grid of crystals: rows are eta, columns phi, which wraps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from e2eio.detector_grid import (
    CRYSTAL_RAD,
    ENDCAP_ABS_ETA,
    ETA_CRYSTALS,
    PHI_CRYSTALS,
    TOWER_CRYSTALS,
)

if TYPE_CHECKING:
    Floats = NDArray[np.float64]

#: From pseudorapidities to rows, float64 [n].
RowsOf: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]

__all__ = ["RowsOf", "crystal_columns", "crystal_rows", "event_rows", "sum_cells"]


def crystal_rows(eta: Floats) -> Floats:
    """Return rows, in crystals from the lowest edge of row 0; outside of [0, 280) there is no crystal.

    Examples
    --------
    >>> crystal_rows(np.array([0.0]))
    array([140.])
    """
    rows: Floats = eta / CRYSTAL_RAD + ETA_CRYSTALS // 2
    return rows


#: Edges of the HCAL's towers from the end of the barrel on, each of which has five rows: `eta_bins_HBHE` and `eta_bins_EEp` in
#: `RecHitAnalyzer/interface/RecHitAnalyzer.h`, GitHub repository ddyachkova/CMSSW_5_3_32-MLAnalyzer.
_ENDCAP_EDGES: Final = (1.566, 1.653, 1.740, 1.830, 1.930, 2.043, 2.172, 2.322, 2.500, 2.650, 3.000)
_ETA_EDGES: Final = np.array([0.0, ENDCAP_ABS_ETA, *_ENDCAP_EDGES])
_BARREL_ROWS: Final = ETA_CRYSTALS // 2 - TOWER_CRYSTALS * len(_ENDCAP_EDGES)
_ROW_EDGES: Final = np.array(
    [0.0, *(_BARREL_ROWS + TOWER_CRYSTALS * k for k in range(len(_ENDCAP_EDGES) + 1))]
)

_LAST_WIDTH: Final = (_ENDCAP_EDGES[-1] - _ENDCAP_EDGES[-2]) / TOWER_CRYSTALS


def event_rows(eta: Floats) -> Floats:
    """Return rows of images of whole events: as `crystal_rows` in the barrel, fifths of HCAL towers beyond.

    Examples
    --------
    >>> event_rows(np.array([0.0, 1.479, -2.5, 2.993, 3.07])).round(2).tolist()
    [140.0, 225.0, 10.0, 279.9, 281.0]
    """
    away = np.abs(eta)
    outside = (away - _ETA_EDGES[-1]) / _LAST_WIDTH  # beyond the last edge as before it
    rows = np.interp(away, _ETA_EDGES, _ROW_EDGES) + np.maximum(outside, 0.0)
    placed: Floats = ETA_CRYSTALS // 2 + np.sign(eta) * rows
    return placed


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
