"""HDF5, gzip level 4, one chunk per jet."""

from __future__ import annotations

import h5py
import numpy as np
import torch
from torch.utils.data import Dataset

from contenders._torch import TorchContender
from harness.contender import Contender, Inputs

__all__ = ["create"]


class Hdf5Jets(Dataset[tuple[torch.Tensor, np.float32]]):
    """Jets of one file: `X_jets` [n, C, H, W], `y` [n]."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: h5py.File | None = None

    def __getitem__(self, index: int) -> tuple[torch.Tensor, np.float32]:
        if self._file is None:  # opened in the worker: a handle does not survive a fork
            self._file = h5py.File(self._path, "r")
            self._images, self._labels = self._file["X_jets"], self._file["y"][:]
        return torch.from_numpy(self._images[index]), self._labels[index]


def _open(inputs: Inputs) -> Hdf5Jets:
    return Hdf5Jets(inputs.files["hdf5"])


def create() -> Contender:
    return TorchContender(_open)
