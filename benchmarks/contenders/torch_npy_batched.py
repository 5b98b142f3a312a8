"""Raw npy through a memory map, gathered by whole batches: the best that plain files give."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from contenders._torch import TorchContender
from harness.contender import Contender, Inputs

__all__ = ["create"]

Batch = tuple[torch.Tensor, torch.Tensor]


class NpyBatches(Dataset[Batch]):
    """Batches of a file [n, C, H, W] and its labels [n]."""

    def __init__(self, path: str, labels: str) -> None:
        self._path = path
        self._images: NDArray[np.float32] | None = None
        self._labels = np.load(labels)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        if self._images is None:  # opened in the worker: pickled, a memory map becomes a copy
            self._images = np.load(self._path, mmap_mode="r")
        return torch.from_numpy(self._images[indices]), torch.from_numpy(self._labels[indices])


def _open(inputs: Inputs) -> NpyBatches:
    return NpyBatches(inputs.files["npy"], inputs.files["y"])


def _keep(batch: Batch) -> Batch:
    return batch


def create() -> Contender:
    return TorchContender(_open, in_process=True, in_workers=False, collate=_keep)
