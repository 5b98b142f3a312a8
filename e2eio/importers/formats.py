"""Which format a file has: told by its bytes, never by its name."""

from __future__ import annotations

from typing import Final

from e2eio.errors import ImporterError
from e2eio.importers.files import first_bytes

__all__ = ["FORMATS", "recognise_format"]

#: Name of a format, and what its files begin with.
FORMATS: Final = {"parquet": "b'PAR1'"}

_HEAD_BYTES: Final = 512


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
    found = f"first bytes {head[:4]!r}" if head else "an empty file"
    known = ", ".join(f"{name} ({begin})" for name, begin in FORMATS.items())
    raise ImporterError(
        f"unknown format: {path}: found {found}, expected one of: {known}; "
        "check the path, or fetch the file again",
        path,
    )
