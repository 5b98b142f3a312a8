"""Parquet files: images as flat lists (HWC) or as nested lists (CHW), float or double.

The published files hold one jet per row group. Rows are read in batches across row groups, and the
lists stay Arrow buffers: an image is a view of the buffer, so a row costs what Arrow needs to decode
it and nothing else. Memory is bounded by one batch, whatever the sizes of the file and of its row
groups, as column chunks are read through a small buffer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.errors import (
    ConfigError,
    E2eioError,
    ImporterError,
    MissingDependencyError,
)
from e2eio.importers.file_source import FileSource
from e2eio.importers.files import open_binary, system_error
from e2eio.importers.source import Chunk, ImportOptions, find_geometry, make_schema
from e2eio.presets import IMAGE_COLUMNS
from e2eio.remote import is_url
from e2eio.schema import DTYPES

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:  # pragma: no cover - exercised without the extra
    raise MissingDependencyError(
        "package pyarrow is missing: it reads Parquet files; run pip install 'e2eio[parquet]'"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ParquetSource"]

_BATCH_BYTES: Final = 32 << 20  # decoded; larger ones are not faster
_SCALAR_ROWS: Final = 1 << 16
_BUFFER_BYTES: Final = 1 << 20  # of compressed pages
_FOOTER_BYTES: Final = 1 << 16
_AGAIN: Final = "fetch the file again"


class ParquetSource(FileSource):
    """A Parquet file, opened; one thread at a time may use it.

    Parameters
    ----------
    path : str
    options : ImportOptions

    Raises
    ------
    ImporterError
        The file is truncated or damaged, has no rows, or no column of images.
    ConfigError
        What the images mean is not clear, or is not what the options say.

    Examples
    --------
    >>> source = ParquetSource("BoostedTop_x1_fixed_0.snappy.parquet", ImportOptions())
    ... # doctest: +SKIP
    >>> images, scalars = next(source.chunks(0, 2))  # doctest: +SKIP
    >>> images.shape, sorted(scalars)  # doctest: +SKIP
    ((2, 8, 125, 125), ['m0', 'pt', 'y'])
    """

    def __init__(self, path: str, options: ImportOptions) -> None:
        self._file, n_bytes, fingerprint = _open(path)
        super().__init__(path, n_bytes, fingerprint)
        try:
            self._read_metadata(options)
        except BaseException:
            self.close()
            raise

    def _read_metadata(self, options: ImportOptions) -> None:
        meta = self._file.metadata
        sizes = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        self._cuts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        arrow = self._file.schema_arrow
        twice = sorted({name for name in arrow.names if arrow.names.count(name) > 1})
        if twice:
            raise self._error(
                "column not unique", f"found {twice[0]!r} twice", "one column of each name"
            )
        self._image = _image_column(self._path, arrow, options)
        self._depth = _list_depth(self._path, arrow.field(self._image))
        self._scalars, self._skipped = _scalar_columns(arrow, self._image)
        where = f"column {self._image!r} of {self._path}"
        self._geometry = find_geometry(where, self._first_dims(), options)
        fields = list(self._scalars.items())
        self._schema = make_schema(where, self._image, self._geometry, fields, options)

    @property
    def n_samples(self) -> int:
        """Rows."""
        return int(self._cuts[-1])

    @property
    def cuts(self) -> NDArray[np.int64]:
        """First rows of the row groups, and the number of rows."""
        return self._cuts

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close(force=True)

    def _read(self, begin: int, end: int) -> Iterator[Chunk]:
        """Yield views of Arrow's buffers."""
        first = int(np.searchsorted(self._cuts, begin, side="right")) - 1
        last = int(np.searchsorted(self._cuts, end, side="left"))
        # A value takes 8 bytes with the levels that Arrow keeps while it decodes a list.
        rows = max(1, _BATCH_BYTES // (8 * self._geometry.n_pixels))
        columns = [self._image, *self._scalars]
        row = int(self._cuts[first])
        for batch in self._batches(row, range(first, last), rows, columns):
            skip = max(0, begin - row)
            keep = min(batch.num_rows, end - row) - skip
            if keep > 0:
                yield self._chunk(batch.slice(skip, keep), row + skip)
            row += batch.num_rows
        if row < end:
            raise self._error("too few rows", f"found {row}", f"{end}, as the footer says")

    def scalar_columns(self) -> dict[str, NDArray[Any]]:
        """Return the scalars of all samples by name, each [n_samples]; reads no page of images."""
        names = list(self._scalars)
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        row = 0
        groups = range(len(self._cuts) - 1)
        for batch in self._batches(row, groups, _SCALAR_ROWS, names) if names else ():
            for name in names:
                parts[name].append(self._scalar(batch.column(name), name, row))
            row += batch.num_rows
        return {
            name: np.concatenate([np.empty(0, self._scalars[name]), *parts[name]]) for name in names
        }

    def _batches(self, row: int, groups: range, rows: int, columns: list[str]) -> Iterator[Any]:
        try:
            for batch in self._file.iter_batches(
                batch_size=rows, row_groups=list(groups), columns=columns, use_threads=False
            ):
                yield batch
                row += batch.num_rows
        except E2eioError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _translated(self._path, error, f" near {self._at(row)}", row) from error

    def _chunk(self, batch: Any, row: int) -> Chunk:
        values = self._flatten(batch.column(self._image), row)
        scalars = {name: self._scalar(batch.column(name), name, row) for name in self._scalars}
        return self._geometry.view(values), scalars

    def _flatten(self, lists: Any, row: int) -> NDArray[Any]:
        """Return the numbers of all images one after the other; check that every level is regular."""
        dims = self._dims()
        per_row = 1
        for size in dims:
            lists = self._inner(lists, size, row, per_row)
            per_row *= size
        if lists.null_count:
            null = int(np.argmax(lists.is_null().to_numpy(zero_copy_only=False)))
            raise self._row_error("null in image", row + null // per_row, "a null", "a number")
        numbers: NDArray[Any] = lists.to_numpy(zero_copy_only=True)
        return numbers

    def _dims(self) -> tuple[int, ...]:
        n_channels, height, width = self._geometry.shape
        if self._depth == 1:
            return (self._geometry.n_pixels,)
        if self._geometry.layout == "CHW":
            return (n_channels, height, width)
        return (height, width, n_channels)

    def _inner(self, lists: Any, size: int, row: int, per_row: int) -> Any:
        """Return the elements of `lists`, all of which have `size`, offsets honoured."""
        if lists.null_count:
            null = int(np.argmax(lists.is_null().to_numpy(zero_copy_only=False)))
            raise self._row_error("null in image", row + null // per_row, "a null", "a list")
        if pa.types.is_fixed_size_list(lists.type):
            found = np.full(len(lists), lists.type.list_size)
            elements = lists.flatten()
        else:
            offsets = lists.offsets.to_numpy(zero_copy_only=True)
            found = np.diff(offsets)
            elements = lists.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
        wrong = np.flatnonzero(found != size)
        if wrong.size:
            at = int(wrong[0])
            raise self._row_error(
                "ragged image", row + at // per_row, f"a list of {int(found[at])}", f"{size}"
            )
        return elements

    def _scalar(self, column: Any, name: str, row: int) -> NDArray[Any]:
        if column.null_count:
            null = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise self._row_error(f"null in column {name!r}", row + null, "a null", "a number")
        numbers: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return numbers.astype(self._scalars[name], copy=False)

    def _first_dims(self) -> tuple[int, ...]:
        """Return the nesting of the first image; the others are compared with it when read."""
        for batch in self._batches(0, range(len(self._cuts) - 1), 1, [self._image]):
            dims = []
            lists = batch.column(self._image)
            for _ in range(self._depth):
                if lists.null_count or not len(lists):
                    raise self._row_error("no image", 0, "a null or empty list", "numbers")
                if pa.types.is_fixed_size_list(lists.type):
                    dims.append(int(lists.type.list_size))
                else:
                    offsets = lists.offsets.to_numpy(zero_copy_only=True)
                    dims.append(int(offsets[1] - offsets[0]))
                lists = lists.flatten()
            if 0 in dims:
                raise self._row_error("no image", 0, "an empty list", "numbers")
            return tuple(dims)
        raise self._error("no samples", "found no rows", "at least one")

    def _at(self, row: int) -> str:
        group = min(int(np.searchsorted(self._cuts, row, side="right")) - 1, len(self._cuts) - 2)
        return f"row group {group}, row {row}"

    def _error(self, what: str, found: str, expected: str) -> ImporterError:
        return ImporterError(
            f"{what}: {self._path}: {found}, expected {expected}; mend or leave out the file",
            self._path,
        )

    def _row_error(self, what: str, row: int, found: str, expected: str) -> ImporterError:
        return ImporterError(
            f"{what}: {self._path}, {self._at(row)}: column {self._image!r}: found {found}, "
            f"expected {expected}; mend or leave out the file",
            self._path,
            sample=row,
        )


def _open(path: str) -> tuple[Any, int, bytes]:
    """Return the opened file, its size, and the digest of its end."""
    try:
        with open_binary(path) as stream:
            n_bytes = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, n_bytes - _FOOTER_BYTES))
            end = stream.read()
    except OSError as error:
        raise system_error(path, error) from error
    if end[-4:] != b"PAR1":
        raise ImporterError(
            f"truncated Parquet file: {path}: found {n_bytes} bytes that end in {end[-4:]!r}, "
            f"expected b'PAR1' at the end; {_AGAIN}",
            path,
        )
    try:
        file = pq.ParquetFile(
            open_binary(path) if is_url(path) else path,
            memory_map=False,
            buffer_size=_BUFFER_BYTES,
            pre_buffer=False,
            page_checksum_verification=True,
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _translated(path, error, "", None) from error
    return file, n_bytes, hashlib.blake2b(end, digest_size=16).digest()


def _translated(path: str, error: Exception, where: str, row: int | None) -> E2eioError:
    """Return this package's error; Arrow reports damage as OSError too, but without an errno."""
    if isinstance(error, OSError) and error.errno is not None:
        return system_error(path, error)
    found = (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")
    return ImporterError(
        f"damaged Parquet file: {path}{where}: found {found!r}, expected readable pages; {_AGAIN}",
        path,
        sample=row,
    )


def _is_list(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _image_column(path: str, arrow: Any, options: ImportOptions) -> str:
    lists = [field.name for field in arrow if _is_list(field.type)]
    if options.image is not None:
        if options.image in lists:
            return options.image
        raise ConfigError(
            f"no such image column: {path}: found columns {arrow.names}, of which lists {lists}, "
            f"expected {options.image!r}; mend image"
        )
    known = [name for name in IMAGE_COLUMNS if name in lists]
    candidates = known or lists
    if len(candidates) == 1:
        return str(candidates[0])
    if candidates:
        raise ConfigError(
            f"several image columns: {path}: found {candidates}, expected one; pass image"
        )
    raise ImporterError(
        f"no image column: {path}: found columns {arrow.names}, expected one of lists of numbers, "
        f"as {', '.join(IMAGE_COLUMNS)}; check that this is a file of images",
        path,
    )


def _list_depth(path: str, field: Any) -> int:
    depth, kind = 0, field.type
    while _is_list(kind):
        depth, kind = depth + 1, kind.value_type
    if depth not in (1, 3) or kind not in (pa.float32(), pa.float64()):
        raise ImporterError(
            f"wrong type of image column: column {field.name!r} of {path}: found {field.type}, "
            "expected a list, or lists of lists of lists, of float or double; convert the column",
            path,
        )
    return depth


def _scalar_columns(arrow: Any, image: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return name and numpy dtype of the columns to keep, and those that are skipped."""
    kept: dict[str, str] = {}
    skipped = []
    for field in arrow:
        if field.name == image:
            continue
        name = str(field.type)
        name = {"float": "float32", "double": "float64", "halffloat": "float32"}.get(name, name)
        if name in DTYPES:
            kept[field.name] = name
        else:
            skipped.append(f"{field.name} ({field.type})")
    return kept, tuple(skipped)
