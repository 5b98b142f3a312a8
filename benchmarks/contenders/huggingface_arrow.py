"""Hugging Face datasets: Arrow files mapped into memory, whole batches as torch tensors.

https://huggingface.co/docs/datasets/use_with_pytorch: arrays of fixed shape, format "torch", and
batches asked for by one list of indices.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset

from contenders._torch import TorchContender
from harness.contender import Contender, Inputs

__all__ = ["create"]

Batch = tuple[torch.Tensor, torch.Tensor]


class ArrowJets(Dataset[Batch]):
    """Batches of a saved dataset."""

    def __init__(self, folder: str) -> None:
        self._jets = datasets.load_from_disk(folder).with_format("torch")

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        found = self._jets[indices]
        return found["x"], found["y"]


class HuggingFaceContender(TorchContender):
    """Without workers and with."""

    def __init__(self) -> None:
        super().__init__(_open, in_process=True, collate=_keep)

    def write(self, inputs: Inputs, folder: Path) -> None:
        """See WritesFiles."""
        features = datasets.Features(
            {"x": datasets.Array3D(inputs.shape, "float32"), "y": datasets.Value("float32")}
        )

        def jets() -> Iterator[dict[str, Any]]:
            images = np.load(inputs.files["npy"], mmap_mode="r")
            for image, label in zip(images, np.load(inputs.files["y"]), strict=True):
                yield {"x": np.array(image), "y": label}

        made = datasets.Dataset.from_generator(
            jets, features=features, cache_dir=str(folder.with_name("arrow-cache"))
        )
        made.save_to_disk(str(folder))


def _open(inputs: Inputs) -> ArrowJets:
    return ArrowJets(inputs.folder)


def _keep(batch: Batch) -> Batch:
    return batch


def create() -> Contender:
    return HuggingFaceContender()
