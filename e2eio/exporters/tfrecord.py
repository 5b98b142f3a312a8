"""TFRecord: Examples as the published files hold them, written without TensorFlow."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from e2eio.errors import ConfigError
from e2eio.exporters.sink import ExportOptions, pixel_lists
from e2eio.tfrecord import RecordWriter, write_example

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.schema import Schema

__all__ = ["TfRecordSink"]


class TfRecordSink:
    """Dense: a feature named as the image field, a list of C * H * W floats in the order of `layout`.

    Sparse: features ``<channel>_index`` (int64, ``y * W + x``) and ``<channel>_value`` (float), for
    ``tf.io.VarLenFeature``. Scalars are features of one number: floats as float, integers and flags as int64. One
    thread at a time.
    """

    def __init__(self, path: Path, schema: Schema, n: int, options: ExportOptions) -> None:
        del n
        self._schema = schema
        self._options = options
        self._stack = ExitStack()
        stream = self._stack.enter_context(path.open("wb"))
        compression: Any = (options.compression or "").upper()
        self._writer = self._stack.enter_context(RecordWriter(stream, compression))

    def write(self, images: NDArray[np.float32], scalars: dict[str, NDArray[Any]]) -> None:
        """See ImageSink."""
        columns = {name: _feature_column(name, column) for name, column in scalars.items()}
        if self._options.form == "dense":
            ordered = images if self._options.layout == "CHW" else images.transpose(0, 2, 3, 1)
            flat = np.ascontiguousarray(ordered).reshape(len(images), -1)
            columns[self._schema.image.name] = flat
            for k in range(len(images)):
                self._writer.write(
                    write_example(
                        {name: column[k : k + 1].reshape(-1) for name, column in columns.items()}
                    )
                )
            return
        lists = dict(zip(self._schema.channels, pixel_lists(images), strict=True))
        for k in range(len(images)):
            features = {name: column[k : k + 1] for name, column in columns.items()}
            for name, pixels in lists.items():
                here = slice(int(pixels.offsets[k]), int(pixels.offsets[k + 1]))
                features[f"{name}_index"] = pixels.positions[here].astype(np.int64)
                features[f"{name}_value"] = pixels.values[here]
            self._writer.write(write_example(features))

    def close(self) -> None:
        """See ImageSink."""
        self._stack.close()


def _feature_column(name: str, column: NDArray[Any]) -> NDArray[Any]:
    if column.dtype.kind != "f":
        return column
    with np.errstate(over="ignore"):  # compared below
        narrow = column.astype(np.float32)
    if not np.array_equal(narrow, column, equal_nan=True):
        raise ConfigError(
            f"no such numbers in TFRecord: field {name!r}: found {column.dtype} values that are no float32; "
            "export to Parquet, HDF5 or npz"
        )
    return narrow
