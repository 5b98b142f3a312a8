"""Which format a file has: told by its bytes, never by its name."""

from __future__ import annotations

from typing import Final

from e2eio.errors import ImporterError
from e2eio.importers.files import first_bytes
from e2eio.importers.streams import inflated_head
from e2eio.tfrecord import begins_like_a_record

__all__ = ["FORMATS", "recognise_format"]

#: Name of a format, and what its files begin with.
FORMATS: Final = {
    "parquet": "b'PAR1'",
    "tfrecord": "a length and its masked crc32c, also in gzip or zlib",
    "webdataset": "a tar header, also in gzip or zlib",
    "npy": "b'\\x93NUMPY'",
    "npz": "b'PK'",
}

_BEGINS: Final = {"npy": b"\x93NUMPY", "npz": b"PK\x03\x04"}
_HEAD_BYTES: Final = 1 << 16  # of a compressed file: the names in a gzip header may be long
_TAR_MAGIC: Final = slice(257, 262)


def recognise_format(path: str) -> str:
    """Return the name of the format, one of `FORMATS`.

    Raises
    ------
    ShardNotFoundError, ShardIOError
        The file is missing, or cannot be read.
    ImporterError
        It is empty, encrypted, or of no known format.
    """
    head = first_bytes(path, _HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PARE"):
        raise ImporterError(
            f"encrypted Parquet file: {path}: expected one in clear; decrypt it first", path
        )
    for name, begin in _BEGINS.items():
        if head.startswith(begin):
            return name
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
