"""The field's reader: one jet per row group of a Parquet file, through Python lists."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset

from contenders._torch import TorchContender
from harness.contender import Contender, Inputs

__all__ = ["create"]


class ParquetJets(Dataset[tuple[torch.Tensor, np.float32]]):
    """Jets of one file in the published layout: `X_jets` flat [H * W * C], `y`."""

    def __init__(self, path: str, shape: tuple[int, int, int]) -> None:
        self._path = path
        self._shape = shape
        self._file: pq.ParquetFile | None = None

    def __getitem__(self, index: int) -> tuple[torch.Tensor, np.float32]:
        if self._file is None:  # opened in the worker: a handle does not survive a fork
            self._file = pq.ParquetFile(self._path)
        jet = self._file.read_row_group(index).to_pydict()
        channels, height, width = self._shape
        image = np.float32(jet["X_jets"][0]).reshape(height, width, channels)
        return torch.from_numpy(image).permute(2, 0, 1), np.float32(jet["y"][0])


def _open(inputs: Inputs) -> ParquetJets:
    return ParquetJets(inputs.files["parquet"], inputs.shape)


def create() -> Contender:
    return TorchContender(_open)
