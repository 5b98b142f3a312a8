"""Samples that were decoded together."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SampleArrays", "Samples"]

#: The image as float32 [C, H, W] and each scalar, by the names of the fields.
SampleArrays = dict[str, Any]


class Samples(list[Any]):
    """Samples that were decoded together, and the arrays that they are views of.

    A list like any other; :func:`e2eio.default_collate` makes a batch of `columns` without copying it.

    Parameters
    ----------
    columns : dict of ndarray
        Each field, [n, ...].
    as_dict : bool
        Samples are dicts, else tuples.
    """

    def __init__(self, columns: dict[str, NDArray[Any]], *, as_dict: bool = True) -> None:
        parts = list(zip(*columns.values(), strict=True))
        super().__init__(
            [dict(zip(columns, part, strict=True)) for part in parts] if as_dict else parts
        )
        self.columns = columns
        self._parts = parts

    def intact(self) -> bool:
        """Say whether the samples are still those of `columns`: nobody put other values in their place."""
        return 0 < len(self) == len(self._parts) and all(
            isinstance(sample, dict)
            and tuple(sample) == tuple(self.columns)
            and all(map(operator.is_, sample.values(), part))
            for sample, part in zip(self, self._parts, strict=True)
        )
