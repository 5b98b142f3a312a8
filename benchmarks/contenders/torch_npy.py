"""Raw, uncompressed npy through a memory map, one jet at a time, as one writes it first."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from contenders._torch import TorchContender
from harness.contender import Contender, Inputs

__all__ = ["create"]


class NpyJets(Dataset[tuple[torch.Tensor, np.float32]]):
    """Jets of a file [n, C, H, W] and their labels [n]."""

    def __init__(self, path: str, labels: str) -> None:
        self._path = path
        self._images: NDArray[np.float32] | None = None
        self._labels = np.load(labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, np.float32]:
        if self._images is None:  # opened in the worker: pickled, a memory map becomes a copy
            self._images = np.load(self._path, mmap_mode="r")
        return torch.from_numpy(np.array(self._images[index])), self._labels[index]


def _open(inputs: Inputs) -> NpyJets:
    return NpyJets(inputs.files["npy"], inputs.files["y"])


def create() -> Contender:
    return TorchContender(_open, in_process=True)
