"""Inflation as module zlib does it: by ISA-L where package isal is there, which takes a quarter of the time."""

from __future__ import annotations

import re
from typing import Any, Protocol

engine: Any
try:
    from isal import isal_zlib as engine
except ImportError:
    import zlib as engine

__all__ = ["Inflater", "InflationError", "inflater", "name", "reason"]

#: The bytes are no deflated ones, or do not match their checksum.
InflationError: type[Exception] = engine.error

#: Of the module that inflates.
name: str = engine.__name__.rpartition(".")[2]  # "isal_zlib" or "zlib"


def reason(error: Exception) -> str:
    """Return what an `InflationError` says is wrong, without its number and what was being done."""
    return re.sub(r"^Error -?\d+\s*|while decompressing data: ", "", str(error))


class Inflater(Protocol):
    """What `zlib.decompressobj` returns; one thread at a time. Works without Python's lock."""

    @property
    def eof(self) -> bool:
        """The end of the deflated bytes was met."""

    @property
    def unconsumed_tail(self) -> bytes:
        """What `max_length` left over of the data."""

    @property
    def unused_data(self) -> bytes:
        """What follows the end."""

    def decompress(self, data: Any, max_length: int = 0, /) -> bytes:
        """Return at most as many bytes, if that is not 0."""


def inflater(window_bits: int = 15) -> Inflater:
    """Return a new one.

    Parameters
    ----------
    window_bits : int
        As of `zlib.decompressobj`: 15 reads zlib's header and checksum, 31 those of gzip.
    """
    made: Inflater = engine.decompressobj(window_bits)
    return made
