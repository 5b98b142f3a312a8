"""e2eio's bytes as rows of a CSR matrix, made dense by torch: the format's gain, without fused filling.

In the manner of annbatch, whose loader hands out batches of CSR rows that `to_dense()` turns into
the network's input (https://annbatch.readthedocs.io); here a row is an image, flattened.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from contenders.e2eio_dense import E2eioContender
from harness.contender import Batch, Contender

__all__ = ["create"]


class CsrContender(E2eioContender):
    """Lists of pixels from e2eio, a CSR matrix and `to_dense()` from torch."""

    def __init__(self) -> None:
        super().__init__(framework="numpy", form="coo")

    def batches(self, n: int) -> Iterator[Batch]:
        for images, labels in super().batches(n):
            yield _densify(images), torch.from_numpy(np.asarray(labels))


def _densify(coo: Any) -> torch.Tensor:
    n, channels, height, width = coo.shape
    where = coo.coordinates
    columns = (where[:, 1] * height + where[:, 2]) * width + where[:, 3]
    rows = np.searchsorted(where[:, 0], np.arange(n + 1))  # sorted by sample
    matrix = torch.sparse_csr_tensor(
        torch.from_numpy(rows.astype(np.int32)),
        torch.from_numpy(columns),
        torch.from_numpy(np.asarray(coo.values)),
        size=(n, channels * height * width),
        check_invariants=False,
    )
    return matrix.to_dense().reshape(n, channels, height, width)


def create() -> Contender:
    return CsrContender()
