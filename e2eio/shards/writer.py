"""Writing of a dataset from samples in memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from e2eio import _core, manifest
from e2eio.errors import ConfigError, ShardExistsError
from e2eio.manifest import ChannelStatistics, Manifest, Provenance, ShardEntry
from e2eio.remote import refuse_remote_target
from e2eio.schema import Precision, ScalarField, Schema
from e2eio.shards.shard import (
    DEFAULT_SHARD_BYTES,
    SHARD_NAME,
    open_writer,
    shard_name,
    shard_paths,
    slice_samples,
    written_statistics,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["DatasetWriter", "write"]


class DatasetWriter:
    """Writes samples from memory as a dataset; use it as a context manager.

    ``dataset.json`` is written last, by `finish`, which the end of the ``with`` block calls. If the
    block raises, everything that the writer has written is removed. One thread at a time may use it.

    Parameters
    ----------
    out : path
        Directory, made if it does not exist.
    schema : Schema
    shard_bytes : int
        A shard is ended when it has about this size.
    shard_samples : int, optional
        A shard is ended when it has this many samples.
    precision : {"float32", "float16"}, optional
        Of the stored pixels; the schema's if not given.
    compression_level : int
        Of zstd.
    overwrite : bool
        Replace a dataset that is there.
    dataset_id : bytes, optional
        Seeds the shards' ids. Random if not given; give one to get the same bytes every time.

    Raises
    ------
    ShardExistsError
        The directory holds shards or a manifest, and `overwrite` is False.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        schema: Schema,
        *,
        shard_bytes: int = DEFAULT_SHARD_BYTES,
        shard_samples: int | None = None,
        precision: Precision | None = None,
        compression_level: int = 3,
        overwrite: bool = False,
        dataset_id: bytes | None = None,
    ) -> None:
        if shard_bytes < 1 or (shard_samples is not None and shard_samples < 1):
            raise ConfigError(
                f"wrong shard size: found shard_bytes={shard_bytes!r}, "
                f"shard_samples={shard_samples!r}, expected at least 1"
            )
        if precision is not None:
            schema = replace(schema, image=replace(schema.image, precision=precision))
        refuse_remote_target(out)
        self._out = Path(out)
        self._schema = schema
        self._shard_bytes = shard_bytes
        self._shard_samples = shard_samples
        self._level = compression_level
        self._overwrite = overwrite
        self._id = os.urandom(16) if dataset_id is None else bytes(dataset_id)
        self._writer: _core.ShardWriter | None = None
        self._shards: list[ShardEntry] = []
        self._statistics: list[tuple[ChannelStatistics, ...]] = []
        self._contents: list[str] = []
        self._n_rounded = 0
        self._closed = False
        self._prepare()

    @property
    def schema(self) -> Schema:
        """Of the dataset being written."""
        return self._schema

    @property
    def n_samples(self) -> int:
        """Samples appended so far."""
        open_samples = 0 if self._writer is None else self._writer.n_samples
        return open_samples + sum(shard.n_samples for shard in self._shards)

    def append(self, images: ArrayLike, scalars: Mapping[str, ArrayLike] | None = None) -> None:
        """Append samples.

        Parameters
        ----------
        images : array, float32 or float64 [n, C, H, W], or [C, H, W] for one sample
            Any strides.
        scalars : mapping of str to array [n], or to a number for one sample
            Exactly the schema's scalar fields.

        Raises
        ------
        ConfigError
            Shapes, dtypes or names are not the schema's.
        ShardIOError
            The system refused to write.
        """
        if self._closed:
            raise ConfigError("append() after finish() or abort(): open another writer")
        batch = self._images(images)
        columns = self._columns({} if scalars is None else scalars, len(batch))
        step = slice_samples(self._schema)
        begin = 0
        while begin < len(batch):
            end = min(begin + min(step, self._room()), len(batch))
            self._shard().append(batch[begin:end], [column[begin:end] for column in columns])
            begin = end
            self._end_full_shard()

    def finish(self) -> Manifest:
        """End the last shard, write ``dataset.json``, and return its content."""
        if self._closed:
            raise ConfigError("finish() after finish() or abort(): open another writer")
        try:
            if self._writer is not None or not self._shards:
                self._shard()
                self._end_shard()
            content = self._manifest()
            manifest.write(self._out, content)
        except BaseException:
            self.abort()
            raise
        self._closed = True
        return content

    def abort(self) -> None:
        """Remove all that was written; may be called again, and after `finish` does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            self._writer.abort()
            self._writer = None
        for shard in self._shards:
            (self._out / shard.file).unlink(missing_ok=True)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.abort()
        elif not self._closed:
            self.finish()

    def _prepare(self) -> None:
        try:
            self._out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise manifest.io_error("cannot make directory", self._out, error) from error
        there = [self._out / manifest.FILE_NAME, *shard_paths(self._out)]
        there = [path for path in there if path.exists()]
        if there and not self._overwrite:
            raise ShardExistsError(
                f"target holds a dataset: {there[0]}: expected an empty directory; "
                "remove it or pass overwrite=True",
                str(there[0]),
            )
        for path in there:
            if path.name == manifest.FILE_NAME or SHARD_NAME.fullmatch(path.name):
                path.unlink()

    def _shard(self) -> _core.ShardWriter:
        if self._writer is None:
            index = len(self._shards)
            text = json.dumps([self._schema.to_json(), index, self._id.hex()])
            shard_id = hashlib.blake2b(text.encode(), digest_size=16).digest()
            self._writer = open_writer(
                self._out / shard_name(index),
                self._schema,
                shard_id=shard_id,
                compression_level=self._level,
                overwrite=self._overwrite,
            )
        return self._writer

    def _room(self) -> int:
        """Return how many samples may come before the shard's size is looked at again."""
        if self._shard_samples is None:
            return 64
        return self._shard_samples - (0 if self._writer is None else self._writer.n_samples)

    def _end_full_shard(self) -> None:
        writer = self._shard()
        full = self._shard_samples is not None and writer.n_samples >= self._shard_samples
        if full or writer.n_bytes >= self._shard_bytes:
            self._end_shard()

    def _end_shard(self) -> None:
        writer = self._shard()
        writer.finish()
        self._writer = None
        name = shard_name(len(self._shards))
        self._shards.append(ShardEntry(name, writer.n_samples, writer.n_bytes, writer.digest))
        self._statistics.append(written_statistics(writer))
        self._contents.append(manifest.content_digest(writer.sample_digests()))
        self._n_rounded += writer.n_rounded

    def _manifest(self) -> Manifest:
        options = {
            "precision": self._schema.image.precision,
            "compression_level": self._level,
            "shard_bytes": self._shard_bytes,
            "shard_samples": self._shard_samples,
        }
        provenance = Provenance(
            (), manifest.converter_name(), options, manifest.creation_time(), self._n_rounded
        )
        statistics = manifest.merge_statistics(self._statistics, len(self._schema.channels))
        return Manifest(
            self._schema, tuple(self._shards), statistics, provenance, tuple(self._contents)
        )

    def _images(self, images: ArrayLike) -> NDArray[Any]:
        batch = np.asarray(images)
        if batch.ndim == 3:
            batch = batch[np.newaxis]
        if (
            batch.dtype not in (np.float32, np.float64)
            or batch.shape[1:] != self._schema.image.shape
        ):
            raise ConfigError(
                f"wrong images: {self._schema.image.name!r}: found {batch.dtype} "
                f"{list(batch.shape)}, expected float32 or float64 "
                f"[n, {', '.join(map(str, self._schema.image.shape))}]"
            )
        return batch

    def _columns(self, scalars: Mapping[str, ArrayLike], n: int) -> list[NDArray[Any]]:
        names = {field.name for field in self._schema.scalars}
        if set(scalars) != names:
            raise ConfigError(
                f"wrong scalars: found {sorted(scalars)}, expected {sorted(names)}, as in the schema"
            )
        return [_column(field, scalars[field.name], n) for field in self._schema.scalars]


def _column(field: ScalarField, values: ArrayLike, n: int) -> NDArray[Any]:
    found = np.asarray(values)
    if found.ndim == 0 and n == 1:
        found = found[np.newaxis]
    if found.shape != (n,):
        raise ConfigError(
            f"wrong scalar {field.name!r}: found shape {list(found.shape)}, expected [{n}]"
        )
    dtype = np.dtype(field.dtype)
    if found.dtype.kind not in "fiub":
        raise ConfigError(
            f"wrong scalar {field.name!r}: found dtype {found.dtype}, expected {field.dtype}"
        )
    with np.errstate(invalid="ignore"):
        column = found.astype(dtype, copy=False)
    # Floats may be rounded (Python's are float64); whole numbers and flags may not change.
    if dtype.kind != "f" and not np.array_equal(column, found):
        raise ConfigError(
            f"wrong scalar {field.name!r}: found {found.dtype} values that are no {field.dtype}, "
            f"expected {field.dtype}"
        )
    return np.ascontiguousarray(column)


def write(
    out: str | os.PathLike[str],
    schema: Schema,
    *,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    shard_samples: int | None = None,
    precision: Precision | None = None,
    compression_level: int = 3,
    overwrite: bool = False,
    dataset_id: bytes | None = None,
) -> DatasetWriter:
    """Begin a dataset of one's own samples; the parameters are those of `DatasetWriter`.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from e2eio.schema import Channel, ImageField, ScalarField, Schema
    >>> image = ImageField("X", (Channel("ecal", "GeV"),), 4, 4)
    >>> with tempfile.TemporaryDirectory() as out:
    ...     with write(out, Schema(image, (ScalarField("y", "int64"),))) as writer:
    ...         writer.append(np.eye(4, dtype=np.float32)[None], {"y": 1})
    ...     manifest.read(out).n_samples
    1
    """
    return DatasetWriter(
        out,
        schema,
        shard_bytes=shard_bytes,
        shard_samples=shard_samples,
        precision=precision,
        compression_level=compression_level,
        overwrite=overwrite,
        dataset_id=dataset_id,
    )
