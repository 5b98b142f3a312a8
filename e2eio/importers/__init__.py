"""Readers of the formats in which images are published: they yield arrays and know nothing of shards."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Final

from e2eio.importers.formats import FORMATS, recognise_format
from e2eio.importers.jets.recipe import JetRecipe
from e2eio.importers.mapped import mapped
from e2eio.importers.source import (
    Chunk,
    Geometry,
    ImageSource,
    ImportOptions,
    Layout,
    find_geometry,
    make_schema,
    read_scalars,
)

__all__ = [
    "FORMATS",
    "Chunk",
    "Geometry",
    "ImageSource",
    "ImportOptions",
    "JetRecipe",
    "Layout",
    "find_geometry",
    "make_schema",
    "open_source",
    "read_scalars",
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
    source = _opened(recognise_format(name), name, given)
    try:
        return mapped(source, given)
    except BaseException:
        source.close()
        raise


#: Format -> module, and what opens a file. The package that reads it is imported with the module, and not before.
_READERS: Final = {
    "parquet": ("parquet", "ParquetSource"),
    "hdf5": ("arrays.hdf5", "Hdf5Source"),
    "root": ("root", "open_root"),
    "tfrecord": ("records.tfrecord", "TFRecordSource"),
    "webdataset": ("records.webdataset", "WebDatasetSource"),
    "npy": ("arrays.npy", "NpySource"),
    "npz": ("arrays.npz", "NpzSource"),
    "zarr": ("arrays.zarr", "ZarrSource"),
}


def _opened(kind: str, name: str, options: ImportOptions) -> ImageSource:
    module, reader = _READERS[kind]
    source: ImageSource = getattr(import_module(f"e2eio.importers.{module}"), reader)(name, options)
    return source
