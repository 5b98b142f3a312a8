"""`export`: from a dataset to files that other programs read."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from e2eio.dataset import Dataset
from e2eio.errors import ConfigError, ShardExistsError
from e2eio.exporters.sink import ExportOptions, Form, ImageSink, complete_file, make_directory
from e2eio.loader import Loader
from e2eio.progress import Progress, make_progress
from e2eio.schema import Schema

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FORMATS", "ExportReport", "export"]

#: Format by the ending of the file's name.
FORMATS: Final = {
    ".parquet": "parquet",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".tfrecord": "tfrecord",
    ".npz": "npz",
}
#: What each format is written with unless asked otherwise, and what it may be asked for.
_COMPRESSIONS: Final[dict[str, tuple[str | None, ...]]] = {
    "parquet": ("zstd", "snappy", "gzip", "lz4", "brotli", None),
    "hdf5": ("gzip", "lzf", None),
    "tfrecord": ("gzip", "zlib", None),
    "npz": ("deflate", None),
}
#: What follows a channel's name in the names of what is stored of its pixels.
_SPARSE_ENDINGS: Final = {
    "parquet": ("_index", "_value"),
    "hdf5": ("",),
    "tfrecord": ("_index", "_value"),
    "npz": ("_offsets", "_positions", "_values"),
}
_BATCH_BYTES: Final = 32 << 20  # dense


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written.

    Parameters
    ----------
    files : tuple of str
        In the order of the samples.
    n_samples, n_bytes : int
        Of all of them.
    """

    files: tuple[str, ...]
    n_samples: int
    n_bytes: int


def export(
    dataset: Dataset | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - what it is called everywhere
    form: Form = "sparse",
    layout: Literal["CHW", "HWC"] = "HWC",
    channels: Sequence[str | int] | None = None,
    select: str | None = None,
    compression: str | None = "auto",
    samples_per_file: int | None = None,
    group_samples: int = 64,
    overwrite: bool = False,
    progress: bool = True,
) -> ExportReport:
    """Write a dataset as files that other programs read, in its order.

    Lossless: pixels keep their bits (NaN and -0.0 too), scalars their values. Each file is there complete or not at all.

    Parameters
    ----------
    dataset : Dataset or path
    out : path
        File to write; its ending tells the format: ``.parquet``, ``.h5`` or ``.hdf5``, ``.tfrecord``, ``.npz``.
    format : {"parquet", "hdf5", "tfrecord", "npz"}, optional
        Where the ending does not tell.
    form : {"sparse", "dense"}
        Lists of the pixels that are not zero (docs/export.md has the names for each format), or whole images as the
        published files have them, which :func:`e2eio.convert` reads back.
    layout : {"CHW", "HWC"}
        Order of the axes of dense images.
    channels : sequence of str or int, optional
        Only these, in this order.
    select : str, optional
        Only samples that fulfil a condition, as ``"pt > 500 & y == 1"``.
    compression : str or None
        "auto": zstd for Parquet, gzip for HDF5 and TFRecord, deflate for npz. None: none.
    samples_per_file : int, optional
        Write several files: a number comes before the ending, from ``-00000`` on.
    group_samples : int
        Samples of a row group (Parquet) or chunk (HDF5, dense), at most: fewer where so many images are more than
        32 MB. 1 for code that reads a jet per row group.
    overwrite : bool
        Replace files that are there.
    progress : bool
        Show the progress on standard error.

    Raises
    ------
    ConfigError
        An option is wrong, or the format unknown.
    ShardExistsError
        A file is there, and `overwrite` is False.
    ShardIOError, CorruptShardError
        The system refused, or the dataset is damaged.
    MissingDependencyError
        The package that writes the format is not installed.

    Examples
    --------
    >>> export("data/top", "top.parquet")  # doctest: +SKIP
    >>> export("data/top", "top.h5", form="dense", layout="CHW", select="y == 1")  # doctest: +SKIP
    """
    target = Path(out)
    kind = _format_of(target, format)
    _check_sizes(group_samples, samples_per_file)
    compression = _compression_of(kind, compression)
    _check_shape(form, layout)
    source = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    most = _batch_samples(source.schema)
    # Whole groups in a batch: else the end of a group is a group of its own, or a chunk packed twice.
    group = min(group_samples, most)
    options = ExportOptions(form, layout, compression, group)
    with (
        _loader(source, channels, select, most - most % group) as loader,
        make_progress(progress, verb="exported") as shown,
    ):
        schema = _delivered_schema(source.schema, loader.options["channels"])
        _refuse_names(kind, form, schema)
        n = _count(loader)
        files = _file_names(target, n, samples_per_file)
        _refuse_existing(files, overwrite)
        shown.start(n)
        _write(kind, files, loader, schema, options, shown)
    paths = [path for path, _ in files]
    return ExportReport(tuple(map(str, paths)), n, sum(path.stat().st_size for path in paths))


def _check_sizes(group_samples: int, samples_per_file: int | None) -> None:
    if min(group_samples, 1 if samples_per_file is None else samples_per_file) < 1:
        raise ConfigError(
            f"wrong number of samples: found group_samples={group_samples!r}, "
            f"samples_per_file={samples_per_file!r}, expected at least 1"
        )


def _check_shape(form: str, layout: str) -> None:
    if form not in ("sparse", "dense") or layout not in ("CHW", "HWC"):
        raise ConfigError(
            f"wrong form or layout: found {form!r} and {layout!r}, expected sparse or dense, and CHW or HWC"
        )


def _batch_samples(schema: Schema) -> int:
    """Return how many samples are decoded at a time, at most."""
    return max(1, min(256, _BATCH_BYTES // (4 * math.prod(schema.image.shape))))


def _format_of(target: Path, given: str | None) -> str:
    known = sorted(set(FORMATS.values()))
    kind = given or FORMATS.get(target.suffix.lower())
    if kind not in known:
        raise ConfigError(
            f"unknown format: {target}: found {given or target.suffix!r}, expected an ending of "
            f"{', '.join(FORMATS)}, or format as one of {', '.join(known)}"
        )
    return str(kind)


def _compression_of(kind: str, given: str | None) -> str | None:
    known = _COMPRESSIONS[kind]
    if given == "auto":
        return known[0]
    if given not in known:
        names = ", ".join(str(name) for name in known)
        raise ConfigError(
            f"unknown compression of {kind}: found {given!r}, expected one of {names}"
        )
    return given


def _loader(
    dataset: Dataset, channels: Sequence[str | int] | None, select: str | None, batch_size: int
) -> Loader:
    fields = [dataset.schema.image.name, *(field.name for field in dataset.schema.scalars)]
    return Loader(
        dataset,
        batch_size=batch_size,
        fields=fields,
        channels=channels,
        select=select,
        framework="numpy",
        rank=0,
        world_size=1,
    )


def _delivered_schema(schema: Schema, channels: Sequence[int]) -> Schema:
    chosen = tuple(schema.image.channels[index] for index in channels)
    return replace(schema, image=replace(schema.image, channels=chosen))


def _count(loader: Loader) -> int:
    full = loader.options["batch_size"]
    return (len(loader) - 1) * full + loader.last_batch_shape[0] if len(loader) else 0


def _refuse_names(kind: str, form: Form, schema: Schema) -> None:
    """Raise ConfigError if two things in the file would have one name, or one a name that it cannot have."""
    names = [name + end for name in schema.channels for end in _SPARSE_ENDINGS[kind]]
    if form == "dense":
        names = [schema.image.name]
    names += [field.name for field in schema.scalars]
    if kind == "npz":
        names.append("e2eio")  # the description
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(
            f"two of one name: {twice[0]!r}: found it twice among what a {form} {kind} file would hold, expected "
            "names that differ; choose another format or form, or convert again with rename"
        )
    paths = [name for name in names if "/" in name or name == "."]
    if kind == "hdf5" and paths:
        raise ConfigError(
            f"no name in HDF5: {paths[0]!r}: found a path, expected no slash; choose another format, or convert "
            "again with rename"
        )


def _file_names(target: Path, n: int, per_file: int | None) -> list[tuple[Path, int]]:
    """Return the files to write, each with its number of samples; at least one, even of none."""
    if per_file is None:
        return [(target, n)]
    starts = range(0, max(n, 1), per_file)
    suffix = "".join(target.suffixes[-1:])
    stem = target.name.removesuffix(suffix)
    return [
        (target.with_name(f"{stem}-{k:05d}{suffix}"), min(per_file, n - start))
        for k, start in enumerate(starts)
    ]


def _refuse_existing(files: Sequence[tuple[Path, int]], overwrite: bool) -> None:
    for path, _ in files:
        if path.is_dir() or (path.exists() and not overwrite):
            raise ShardExistsError(
                f"target exists: {path}: expected a free name; choose another, or pass overwrite to replace it",
                str(path),
            )


def _write(
    kind: str,
    files: Sequence[tuple[Path, int]],
    loader: Loader,
    schema: Schema,
    options: ExportOptions,
    progress: Progress,
) -> None:
    parts = _parts(loader, [n for _, n in files])
    done = 0
    for path, n in files:
        make_directory(path.parent)
        with complete_file(path) as temporary, ExitStack() as stack:
            sink = _sink(kind, temporary, schema, n, options)
            stack.callback(sink.close)
            for images, scalars in next(parts):
                sink.write(images, scalars)
                done += len(images)
                progress.update(done)


_Part = tuple["NDArray[np.float32]", "dict[str, NDArray[Any]]"]


def _parts(loader: Loader, sizes: Sequence[int]) -> Iterator[Iterator[_Part]]:
    """Cut the loader's batches so that each file gets its number of samples."""
    batches = iter(loader)
    left: list[tuple[Any, ...]] = []

    def part(size: int) -> Iterator[_Part]:
        while size:
            batch = left.pop() if left else next(batches)
            here, rest = len(batch[0]), None
            if here > size:
                rest = tuple(column[size:] for column in batch)
                batch = tuple(column[:size] for column in batch)
                left.append(rest)
            size -= len(batch[0])
            images, *scalars = batch
            yield images, dict(zip(loader.fields[1:], scalars, strict=True))

    for size in sizes:
        yield part(size)


def _sink(kind: str, path: Path, schema: Schema, n: int, options: ExportOptions) -> ImageSink:
    """Open a file of the format; the package that writes it is imported here, and not before."""
    if kind == "parquet":
        from e2eio.exporters.parquet import ParquetSink

        return ParquetSink(path, schema, n, options)
    if kind == "hdf5":
        from e2eio.exporters.hdf5 import Hdf5Sink

        return Hdf5Sink(path, schema, n, options)
    if kind == "tfrecord":
        from e2eio.exporters.tfrecord import TfRecordSink

        return TfRecordSink(path, schema, n, options)
    from e2eio.exporters.npz import NpzSink

    return NpzSink(path, schema, n, options)
