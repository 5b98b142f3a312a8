"""Images in a branch of a TTree or in a field of an RNTuple."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.errors import ConfigError
from e2eio.importers.root.table_source import CHUNK_BYTES, TableSource, merged, scalar_dtype
from e2eio.importers.source import Chunk, ImportOptions, find_geometry, make_schema
from e2eio.presets import IMAGE_COLUMNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.importers.root.file import Lists, RootFile, Table

__all__ = ["RootSource", "image_columns"]

_FLOATS: Final = ("float32", "float64")
_LISTED: Final = 24  # columns that an error names


def image_columns(table: Table, options: ImportOptions) -> list[str]:
    """Return the columns that are named as images are, of whatever type."""
    if options.image is not None:
        return [options.image] if options.image in table else []
    return [name for name in IMAGE_COLUMNS if name in table]


class RootSource(TableSource):
    """A table with a column of images; one thread at a time may use it."""

    def __init__(self, file: RootFile, table: Table, options: ImportOptions) -> None:
        super().__init__(file, table, options)
        self._image = self._choose_image()
        if table.n_entries == 0:
            raise self._error("no samples", "an empty tree", "at least one entry")
        self._scalars = self._choose_scalars()
        self._cuts = table.cuts(self._image)
        self._dims = self._first_dims()
        where = f"column {self._image!r} of {file.path}"
        self._geometry = find_geometry(where, self._dims, options)
        fields = list(self._scalars.items())
        self._schema = make_schema(where, self._image, self._geometry, fields, options)

    def _choose_image(self) -> str:
        table, options = self._table, self._options
        names = table.names
        found = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
        if options.image is not None and options.image not in table:
            raise ConfigError(
                f"no such image column: {self.path}: tree {table.name!r}: found columns {found}, "
                f"expected {options.image!r}; mend image or tree"
            )
        candidates = image_columns(table, options)
        if not candidates:
            kinds = {name: table.column(name) for name in names[:1000]}
            candidates = [n for n, c in kinds.items() if c.dtype in _FLOATS and len(c.dims) == 3]
        if len(candidates) > 1:
            raise ConfigError(
                f"several image columns: {self.path}: found {candidates}, expected one; pass image"
            )
        if not candidates:
            raise self._error(
                "no image column",
                f"columns {found}",
                f"one of images, as {', '.join(IMAGE_COLUMNS)}; or the hits of a detector "
                "(ECAL_energy, ...); or particles (PFCands_pt, ...) and jets (FatJet_pt, ...)",
            )
        column = table.column(candidates[0])
        if column.dtype not in _FLOATS or len(column.dims) not in (1, 3):
            raise self._error(
                f"wrong type of image column {column.name!r}",
                column.text,
                "a list, or lists of lists of lists, of float or double",
            )
        return column.name

    def _choose_scalars(self) -> dict[str, str]:
        kept = {}
        counters = self._table.counters()
        for name in self._table.names:
            if name == self._image or name in counters:
                continue
            column = self._table.column(name)
            dtype = scalar_dtype(column)
            if dtype is None:
                self._skipped.append(f"{name} ({column.text})")
            else:
                kept[name] = dtype
        return kept

    def _first_dims(self) -> tuple[int, ...]:
        """Return the nesting of the first image; the others are compared with it when read."""
        lists = self._table.read(self._image, 0, 1)
        dims = []
        for count in lists.counts:
            sizes = np.unique(count)
            if len(sizes) != 1 or sizes[0] == 0:
                raise self._error("no image", f"lists of {sizes.tolist()}", "equal lists", 0)
            dims.append(int(sizes[0]))
        return tuple(dims)

    def _read(self, begin: int, end: int) -> Iterator[Chunk]:
        table = self._table
        cuts, weights = table.segments(self._image)
        rows = max(1, CHUNK_BYTES // (4 * self._geometry.n_pixels))
        for first, last in merged(cuts, weights, begin, end, CHUNK_BYTES):
            images = self._geometry.view(self._checked(table.read(self._image, first, last), first))
            scalars = {name: self._scalar(name, first, last) for name in self._scalars}
            for low in range(0, last - first, rows):
                part = slice(low, low + rows)
                yield images[part], {name: values[part] for name, values in scalars.items()}

    def _checked(self, lists: Lists, row: int) -> NDArray[Any]:
        """Return the numbers of all images; check that every level is as in the first image."""
        per_row = 1
        for count, size in zip(lists.counts, self._dims, strict=True):
            wrong = np.flatnonzero(np.asarray(count) != size)
            if wrong.size:
                at = row + int(wrong[0]) // per_row
                found = f"a list of {np.ravel(count)[wrong[0]]}"
                raise self._error(f"ragged image in column {self._image!r}", found, f"{size}", at)
            per_row *= size
        lists.values.flags.writeable = False
        return lists.values

    def _scalar(self, name: str, first: int, last: int) -> NDArray[Any]:
        return self._read_scalar(name, first, last).astype(self._scalars[name], copy=False)
