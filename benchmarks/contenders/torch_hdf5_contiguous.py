"""HDF5, contiguous and not compressed."""

from __future__ import annotations

from contenders._hdf5 import Hdf5Contender
from harness.contender import Contender

__all__ = ["create"]


def create() -> Contender:
    return Hdf5Contender(chunked=False)
