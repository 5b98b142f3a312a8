"""Which class each sample has: the values of a label, or ranges of a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.dataset import Dataset

__all__ = ["LABELS", "MOST_CLASSES", "Classes", "make_classes"]

#: Names under which published sets and their users keep the class, in the order in which they are looked for.
LABELS: Final = ("y", "label", "labels", "target", "class")

#: Classes shown at most: what colours that everybody can tell apart are there for.
MOST_CLASSES: Final = 6

_RANGES: Final = 4


@dataclass(frozen=True, slots=True)
class Classes:
    """How samples are told apart.

    Parameters
    ----------
    field : str
        Scalar field; empty: all samples are of one class.
    names : tuple of str
        What each class is called, for people.
    starts : ndarray or None
        Ascending values, [K]: class k is of values from ``starts[k]`` to below the next (`exact`: equal to it).
        Values that fit nowhere, NaN among them, have no class. None: one class of everything.
    exact : bool
    """

    field: str
    names: tuple[str, ...]
    starts: NDArray[Any] | None = None
    exact: bool = False

    def of(self, column: NDArray[Any] | None, n: int) -> NDArray[np.int64]:
        """Return the class of each of the `n` samples with these values of the field, -1: none."""
        if self.starts is None or column is None:
            return np.zeros(n, dtype=np.int64)
        values = column.astype(self.starts.dtype, copy=False)
        places = np.searchsorted(self.starts, values, side="right").astype(np.int64) - 1
        known = places >= 0
        if self.exact:
            known &= self.starts[np.maximum(places, 0)] == values
        elif values.dtype.kind == "f":
            known &= np.isfinite(values)
        return np.where(known, places, -1)


def make_classes(dataset: Dataset, by: str | None = None, most: int = MOST_CLASSES) -> Classes:
    """Return the classes of a dataset.

    Parameters
    ----------
    dataset : Dataset
    by : str or None
        A scalar field: each of its values is a class, or four ranges with as many samples each, if it has
        more than `most` values. None: the first of `LABELS` that there is; "none": one class.
    most : int
        Classes at most.

    Raises
    ------
    ConfigError
        There is no such field.
    """
    names = [field.name for field in dataset.schema.scalars]
    field = _find_label(names) if by is None else by
    if field is None or (by == "none" and by not in names):
        return Classes("", ("all samples",))
    if field not in names:
        known = ", ".join(names) or "no scalar fields at all"
        raise ConfigError(f"unknown label: found {field!r}, expected 'none' or one of: {known}")
    column = dataset.scalars(field)
    if column.dtype.kind == "b":
        column = column.astype(np.uint8)
    unit = next(each.unit for each in dataset.schema.scalars if each.name == field)
    return _divide(field, unit, np.unique(column[np.isfinite(column)]), column, most)


def _find_label(names: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[label] for label in LABELS if label in lower), None)


def _divide(
    field: str, unit: str, values: NDArray[Any], column: NDArray[Any], most: int
) -> Classes:
    if not values.size:
        return Classes(field, ("all samples",))
    if values.size <= most:
        return Classes(field, tuple(f"{field} = {value:.6g}" for value in values), values, True)
    finite = column[np.isfinite(column)].astype(np.float64)
    n = min(_RANGES, most)
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, n + 1)))
    tail = f" {unit}" if unit else ""
    names = tuple(f"{low:.4g} <= {field} < {high:.4g}{tail}" for low, high in pairwise(edges[:-1]))
    last = f"{edges[-2]:.4g} <= {field} <= {edges[-1]:.4g}{tail}"
    return Classes(field, (*names, last), edges[:-1])
