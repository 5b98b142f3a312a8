"""HDF5, lzf, one chunk per jet: h5py's fast compression (https://docs.h5py.org/en/stable/high/dataset.html)."""

from __future__ import annotations

from contenders._hdf5 import Hdf5Contender
from harness.contender import Contender

__all__ = ["create"]


def create() -> Contender:
    return Hdf5Contender(chunked=True, compression="lzf")
