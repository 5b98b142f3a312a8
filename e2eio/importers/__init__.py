"""Readers of the formats in which images are published: they yield arrays and know nothing of shards."""

from __future__ import annotations

import os

from e2eio.errors import ImporterError, ShardIOError, ShardNotFoundError
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
    "Chunk",
    "Geometry",
    "ImageSource",
    "ImportOptions",
    "Layout",
    "find_geometry",
    "make_schema",
    "open_source",
]


def open_source(path: str | os.PathLike[str], options: ImportOptions | None = None) -> ImageSource:
    """Open a file of images, whatever its name; its first bytes tell the format.

    Parameters
    ----------
    path : path
        A Parquet file.
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
    magic = _first_bytes(name)
    if magic == b"PAR1":
        from e2eio.importers.parquet import ParquetSource

        return ParquetSource(name, ImportOptions() if options is None else options)
    if magic == b"PARE":
        raise ImporterError(
            f"encrypted Parquet file: {name}: expected one in clear; decrypt it first", name
        )
    found = f"first bytes {magic!r}" if magic else "an empty file"
    raise ImporterError(
        f"unknown format: {name}: found {found}, expected a Parquet file (first bytes b'PAR1'); "
        "check the path, or fetch the file again",
        name,
    )


def _first_bytes(name: str) -> bytes:
    try:
        with open(name, "rb") as stream:  # noqa: PTH123 - the name is reported as given
            return stream.read(4)
    except IsADirectoryError:
        raise ImporterError(
            f"no file: {name}: found a directory, expected a Parquet file; name the files in it",
            name,
        ) from None
    except FileNotFoundError as error:
        raise ShardNotFoundError(
            f"no such file: {name}: expected a Parquet file; check the path",
            name,
            errno=error.errno,
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ShardIOError(f"cannot read: {name}: {reason}", name, errno=error.errno) from error
