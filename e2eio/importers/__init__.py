"""Readers of the formats in which images are published: they yield arrays and know nothing of shards."""

from __future__ import annotations

import os

from e2eio.importers.formats import FORMATS, recognise_format
from e2eio.importers.source import (
    Chunk,
    Geometry,
    ImageSource,
    ImportOptions,
    Layout,
    find_geometry,
    make_schema,
)

__all__ = [
    "FORMATS",
    "Chunk",
    "Geometry",
    "ImageSource",
    "ImportOptions",
    "Layout",
    "find_geometry",
    "make_schema",
    "open_source",
    "recognise_format",
]


def open_source(path: str | os.PathLike[str], options: ImportOptions | None = None) -> ImageSource:
    """Open a file of images, whatever its name; its first bytes tell the format.

    Parameters
    ----------
    path : path
        A file of one of `FORMATS`.
    options : ImportOptions, optional

    Returns
    -------
    ImageSource

    Raises
    ------
    ShardNotFoundError, ShardIOError
        The file is missing or cannot be read.
    ImporterError
        It is empty, damaged, or of no known format.
    ConfigError
        What its images mean is not clear, or is not what the options say.
    MissingDependencyError
        The package that reads the format is not installed.
    """
    name = os.fspath(path)
    given = ImportOptions() if options is None else options
    return _opened(recognise_format(name), name, given)


def _opened(kind: str, name: str, options: ImportOptions) -> ImageSource:
    """Open a file of the format `kind`; the package that reads it is imported here, and not before."""
    if kind == "parquet":
        from e2eio.importers.parquet import ParquetSource

        return ParquetSource(name, options)
    if kind == "tfrecord":
        from e2eio.importers.tfrecord import TFRecordSource

        return TFRecordSource(name, options)
    if kind == "webdataset":
        from e2eio.importers.webdataset import WebDatasetSource

        return WebDatasetSource(name, options)
    if kind == "npy":
        from e2eio.importers.npy import NpySource

        return NpySource(name, options)
    if kind == "npz":
        from e2eio.importers.npz import NpzSource

        return NpzSource(name, options)
    raise AssertionError(kind)
