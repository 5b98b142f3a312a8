"""NumPy's npz: arrays that numpy.load reads without anything else."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from e2eio.exporters.sink import ExportOptions, describe, pixel_lists

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.schema import Schema

__all__ = ["NpzSink"]

_COPY_BYTES = 1 << 20


class NpzSink:
    """Dense: an array ``[n, C, H, W]`` (or ``[n, H, W, C]``) named as the image field.

    Sparse: ``<channel>_offsets`` int64 [n + 1], ``<channel>_positions`` int32 and ``<channel>_values`` float32. Scalars are
    arrays [n]; ``e2eio`` is a text with shape, channels and units as JSON. Numbers go through temporary files, as an
    archive has its members one after the other: memory is bounded. One thread at a time.
    """

    def __init__(self, path: Path, schema: Schema, n: int, options: ExportOptions) -> None:
        del n
        self._path = path
        self._schema = schema
        self._options = options
        self._parts: dict[str, tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]] = {}
        self._counts: dict[str, int] = {}
        self._next = dict.fromkeys(schema.channels, 0)

    def write(self, images: NDArray[np.float32], scalars: dict[str, NDArray[Any]]) -> None:
        """See ImageSink."""
        for name, column in scalars.items():
            self._append(name, column)
        if self._options.form == "dense":
            chw = self._options.layout == "CHW"
            self._append(self._schema.image.name, images if chw else images.transpose(0, 2, 3, 1))
            return
        for name, lists in zip(self._schema.channels, pixel_lists(images), strict=True):
            first = self._next[name]
            begin = 0 if f"{name}_offsets" not in self._parts else 1
            self._append(f"{name}_offsets", first + lists.offsets[begin:])
            self._append(f"{name}_positions", lists.positions)
            self._append(f"{name}_values", lists.values)
            self._next[name] = first + len(lists.positions)

    def _append(self, name: str, values: NDArray[Any]) -> None:
        if name not in self._parts:
            stream = TemporaryFile(dir=self._path.parent)  # noqa: SIM115 - closed with the sink
            self._parts[name] = (stream, values.shape[1:], values.dtype)
            self._counts[name] = 0
        np.ascontiguousarray(values).tofile(self._parts[name][0])
        self._counts[name] += len(values)

    def close(self) -> None:
        """See ImageSink."""
        if not self._parts:  # no samples: arrays of none
            none = {field.name: np.empty(0, field.dtype) for field in self._schema.scalars}
            self.write(np.empty((0, *self._schema.image.shape), np.float32), none)
        kind = zipfile.ZIP_STORED if self._options.compression is None else zipfile.ZIP_DEFLATED
        try:
            with zipfile.ZipFile(self._path, "w", kind, allowZip64=True) as archive:
                for name, (stream, shape, dtype) in self._parts.items():
                    self._write_member(archive, name, stream, (self._counts[name], *shape), dtype)
                text = np.array(json.dumps(describe(self._schema, self._options)))
                with archive.open("e2eio.npy", "w") as member:
                    np.lib.format.write_array(member, text, allow_pickle=False)
        finally:
            for stream, _, _ in self._parts.values():
                stream.close()

    @staticmethod
    def _write_member(
        archive: zipfile.ZipFile,
        name: str,
        stream: IO[bytes],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": shape,
        }
        stream.seek(0)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_2_0(member, header)
            while block := stream.read(_COPY_BYTES):
                member.write(block)
