"""FFCV: raw arrays in a .beton, by its tuning guide for data that fit into memory.

https://docs.ffcv.io/parameter_tuning.html: `os_cache=True` and a random order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ffcv.fields import FloatField, NDArrayField
from ffcv.fields.decoders import FloatDecoder, NDArrayDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import ToTensor
from ffcv.writer import DatasetWriter

from contenders._stream import Stream, repeat
from harness.contender import Contender, Inputs, Setting

__all__ = ["create"]

AHEAD = 3  # batches that FFCV makes ahead, its default


class _Pairs:
    """Images and labels, as FFCV's writer wants them."""

    def __init__(self, inputs: Inputs) -> None:
        self._images = np.load(inputs.files["npy"], mmap_mode="r")
        self._labels = np.load(inputs.files["y"])

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, float]:
        return np.array(self._images[index]), float(self._labels[index])


class FfcvContender(Stream):
    """Epochs in random order, the last batch whole or not."""

    n_ahead = AHEAD + 2

    def write(self, inputs: Inputs, folder: Path) -> None:
        """See WritesFiles. Pages (powers of two) hold several jets: little of them stays empty."""
        fields = {"x": NDArrayField(np.dtype("float32"), inputs.shape), "y": FloatField()}
        page = 2**23 if 4 * math.prod(inputs.shape) < 2**20 else 2**25
        writer = DatasetWriter(str(folder / "jets.beton"), fields, page_size=page, num_workers=1)
        writer.from_indexed_dataset(_Pairs(inputs))

    def settings(self, inputs: Inputs) -> list[Setting]:
        return [{"threads": inputs.threads, "os_cache": "yes", "batches_ahead": AHEAD}]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Any]:
        loader = Loader(
            str(Path(inputs.folder) / "jets.beton"),
            batch_size=inputs.batch_size,
            num_workers=inputs.threads,
            order=OrderOption.RANDOM,
            os_cache=True,
            drop_last=False,
            batches_ahead=AHEAD,
            pipelines={"x": [NDArrayDecoder(), ToTensor()], "y": [FloatDecoder(), ToTensor()]},
        )
        for images, labels in repeat(loader):
            # FFCV stores floats in double precision.
            yield images, labels[:, 0].float()


def create() -> Contender:
    return FfcvContender()
