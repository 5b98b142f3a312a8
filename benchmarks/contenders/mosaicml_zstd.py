"""MosaicML Streaming: shards with zstd, inflated beside them when they are first read.

https://docs.mosaicml.com/projects/streaming: `MDSWriter` with `compression="zstd"`, `StreamingDataset`
with its default shuffle (py1e), given the batch size, in torch's DataLoader with workers.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from contenders import _torchvision  # noqa: F401 - before Streaming, which imports torchvision
from contenders._stream import Stream, repeat
from harness.contender import Contender, Inputs, Setting

import streaming  # isort: skip

__all__ = ["create"]


class MosaicContender(Stream):
    """Reads a copy of its own: what Streaming inflates must not be counted as stored."""

    n_ahead = 4

    def write(self, inputs: Inputs, folder: Path) -> None:
        """See WritesFiles."""
        shape = ",".join(map(str, inputs.shape))
        columns = {"x": f"ndarray:float32:{shape}", "y": "float32"}
        images = np.load(inputs.files["npy"], mmap_mode="r")
        labels = np.load(inputs.files["y"])
        with streaming.MDSWriter(
            out=str(folder), columns=columns, compression="zstd", progress_bar=False
        ) as out:
            for image, label in zip(images, labels, strict=True):
                out.write({"x": np.array(image), "y": label})

    def settings(self, inputs: Inputs) -> list[Setting]:
        return [{"workers": inputs.threads, "compression": "zstd", "shuffle": "py1e"}]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Any]:
        local = Path(f"{inputs.folder}-inflated")
        shutil.rmtree(local, ignore_errors=True)
        streaming.base.util.clean_stale_shared_memory()
        dataset = streaming.StreamingDataset(
            remote=inputs.folder, local=str(local), shuffle=True, batch_size=inputs.batch_size
        )
        workers = int(setting["workers"])
        loader = DataLoader(
            dataset, batch_size=inputs.batch_size, num_workers=workers, persistent_workers=True
        )
        for batch in repeat(loader):
            yield batch["x"], batch["y"]


def create() -> Contender:
    return MosaicContender()
