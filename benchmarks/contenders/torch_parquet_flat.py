"""Parquet in the published layout at its best: whole batches by Arrow, lists flattened without a copy.

Row groups of a batch are read by one call and their values taken as one array
(https://arrow.apache.org/docs/python/generated/pyarrow.parquet.ParquetFile.html, read_row_groups;
.../pyarrow.ListArray.html, flatten). Arrow's threads stay off in workers, which are the threads.
"""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset, get_worker_info

from contenders._torch import TorchContender
from harness.contender import Contender, Inputs

__all__ = ["create"]

Batch = tuple[torch.Tensor, torch.Tensor]


class FlatJets(Dataset[Batch]):
    """Batches of a file with one jet per row group: `X_jets` flat [H * W * C], `y`."""

    def __init__(self, path: str, shape: tuple[int, int, int]) -> None:
        self._path = path
        self._shape = shape
        self._file: pq.ParquetFile | None = None

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        if self._file is None:  # opened in the worker: a handle does not survive a fork
            self._file = pq.ParquetFile(self._path, memory_map=True)
        table = self._file.read_row_groups(
            indices, columns=["X_jets", "y"], use_threads=get_worker_info() is None
        )
        channels, height, width = self._shape
        pixels = np.empty((len(indices), channels, height, width), np.float32)
        done = 0
        for chunk in table.column("X_jets").chunks:
            found = chunk.flatten().to_numpy(zero_copy_only=True)
            images = found.reshape(-1, height, width, channels)
            pixels[done : done + len(images)] = images.transpose(0, 3, 1, 2)
            done += len(images)
        labels = table.column("y").to_numpy()
        return torch.from_numpy(pixels), torch.from_numpy(labels.copy())


def _open(inputs: Inputs) -> FlatJets:
    return FlatJets(inputs.files["parquet"], inputs.shape)


def _keep(batch: Batch) -> Batch:
    return batch


def create() -> Contender:
    return TorchContender(_open, in_process=True, collate=_keep)
