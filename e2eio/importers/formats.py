"""Which format a file has: told by its bytes, never by its name."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Final

from e2eio.errors import ImporterError
from e2eio.importers.files import first_bytes, open_binary
from e2eio.importers.streams import inflated_head
from e2eio.tfrecord import begins_like_a_record

__all__ = ["FORMATS", "recognise_format"]

#: Name of a format, and what its files begin with.
FORMATS: Final = {
    "parquet": "b'PAR1'",
    "hdf5": "b'\\x89HDF', after a user block if there is one",
    "root": "b'root'",
    "tfrecord": "a length and its masked crc32c, also in gzip or zlib",
    "webdataset": "a tar header, also in gzip or zlib",
    "npy": "b'\\x93NUMPY'",
    "npz": "b'PK'",
    "zarr": "a directory or zip file with zarr.json, .zgroup or .zarray",
}

_BEGINS: Final = {"root": b"root", "npy": b"\x93NUMPY", "npz": b"PK\x03\x04"}
_HEAD_BYTES: Final = 1 << 16  # of a compressed file: the names in a gzip header may be long
_TAR_MAGIC: Final = slice(257, 262)
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_ZARR: Final = ("zarr.json", ".zgroup", ".zarray")


def recognise_format(path: str) -> str:
    """Return the name of the format, one of `FORMATS`.

    Raises
    ------
    ShardNotFoundError, ShardIOError
        The file is missing, or cannot be read.
    ImporterError
        It is empty, encrypted, or of no known format.
    """
    if any((Path(path) / name).is_file() for name in _ZARR):
        return "zarr"
    head = first_bytes(path, _HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PARE"):
        raise ImporterError(
            f"encrypted Parquet file: {path}: expected one in clear; decrypt it first", path
        )
    if head.startswith(b"PK\x03\x04") and _is_zarr(path):
        return "zarr"
    for name, begin in _BEGINS.items():
        if head.startswith(begin):
            return name
    if _is_hdf5(path):
        return "hdf5"
    inflated = inflated_head(head, 512)
    if inflated[_TAR_MAGIC] == b"ustar":
        return "webdataset"
    if begins_like_a_record(inflated):
        return "tfrecord"
    found = f"first bytes {head[:4]!r}" if head else "an empty file"
    known = ", ".join(f"{name} ({begin})" for name, begin in FORMATS.items())
    raise ImporterError(
        f"unknown format: {path}: found {found}, expected one of: {known}; "
        "check the path, or fetch the file again",
        path,
    )


def _is_zarr(path: str) -> bool:
    """Tell whether a zip file is a Zarr store."""
    try:
        with open_binary(path) as stream, zipfile.ZipFile(stream) as archive:
            return not {*archive.namelist()}.isdisjoint(_ZARR)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def _is_hdf5(path: str) -> bool:
    """Tell whether HDF5's signature is at 0, 512, 1024, 2048 ...: a user block may come first."""
    with open_binary(path) as stream:
        n_bytes = stream.seek(0, os.SEEK_END)
        at = 0
        while at < n_bytes:
            stream.seek(at)
            if stream.read(len(_HDF5)) == _HDF5:
                return True
            at = 2 * at or 512
    return False
