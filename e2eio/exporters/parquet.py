"""Parquet: the pixels as list columns that any reader of Parquet knows, or the published dense layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from e2eio.errors import MissingDependencyError
from e2eio.exporters.sink import ExportOptions, describe, pixel_lists

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:  # pragma: no cover - exercised without the extra
    raise MissingDependencyError(
        "package pyarrow is missing: it writes Parquet files; run pip install 'e2eio[parquet]'"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.schema import Schema

__all__ = ["ParquetSink"]


class ParquetSink:
    """Sparse: columns ``<channel>_index`` (list of int32, ``y * W + x``) and ``<channel>_value`` (list of float).

    Dense: one column of flat lists of float, as the published files have it. Scalars are columns in both; the
    metadata key ``e2eio`` holds shape, channels and units as JSON. One thread at a time.
    """

    def __init__(self, path: Path, schema: Schema, n: int, options: ExportOptions) -> None:
        del n
        self._names = list(schema.channels)
        self._image = schema.image.name
        self._options = options
        fields = self._image_fields()
        fields += [pa.field(field.name, _arrow_type(field.dtype)) for field in schema.scalars]
        metadata = {"e2eio": json.dumps(describe(schema, options))}
        self._schema = pa.schema(fields, metadata)
        self._writer = pq.ParquetWriter(
            path, self._schema, compression=options.compression or "none"
        )

    def _image_fields(self) -> list[Any]:
        if self._options.form == "dense":
            return [pa.field(self._image, pa.list_(pa.float32()))]
        kinds = (("index", pa.int32()), ("value", pa.float32()))
        return [
            pa.field(f"{name}_{what}", pa.list_(kind))
            for name in self._names
            for what, kind in kinds
        ]

    def write(self, images: NDArray[np.float32], scalars: dict[str, NDArray[Any]]) -> None:
        """See ImageSink."""
        if self._options.form == "dense":
            columns = [_dense_column(images, self._options.layout)]
        else:
            columns = [column for lists in pixel_lists(images) for column in _list_columns(lists)]
        columns += [pa.array(scalars[name]) for name in self._schema.names[len(columns) :]]
        table = pa.Table.from_arrays(columns, schema=self._schema)
        self._writer.write_table(table, row_group_size=self._options.group_samples)

    def close(self) -> None:
        """See ImageSink."""
        self._writer.close()


def _dense_column(images: NDArray[np.float32], layout: str) -> Any:
    ordered = images.transpose(0, 2, 3, 1) if layout == "HWC" else images
    flat = np.ascontiguousarray(ordered).reshape(len(images), -1)
    offsets = np.arange(len(images) + 1, dtype=np.int32) * np.int32(flat.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat.reshape(-1)))


def _list_columns(lists: Any) -> tuple[Any, Any]:
    offsets = pa.array(lists.offsets.astype(np.int32))
    return (
        pa.ListArray.from_arrays(offsets, pa.array(lists.positions)),
        pa.ListArray.from_arrays(offsets, pa.array(lists.values)),
    )


def _arrow_type(dtype: str) -> Any:
    return pa.from_numpy_dtype(np.dtype(dtype))
