"""LitData: chunks of 64 MB with zstd, shuffled, by its own loader.

https://github.com/Lightning-AI/litdata (README: `optimize` with `compression="zstd"`,
`StreamingDataset(shuffle=True)`, `StreamingDataLoader`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import litdata
import numpy as np

from contenders._stream import Stream, repeat
from harness.contender import Contender, Inputs, Setting

__all__ = ["create"]

CHUNK = "64MB"


class LitDataContender(Stream):
    """Samples are dicts of arrays."""

    n_ahead = 4

    def write(self, inputs: Inputs, folder: Path) -> None:
        """See WritesFiles."""
        litdata.optimize(
            fn=partial(_read_jet, inputs.files["npy"], inputs.files["y"]),
            inputs=list(range(inputs.n_samples)),
            output_dir=str(folder),
            chunk_bytes=CHUNK,
            num_workers=1,
            compression="zstd",
            verbose=False,
        )

    def settings(self, inputs: Inputs) -> list[Setting]:
        return [{"workers": inputs.threads, "chunk": CHUNK, "compression": "zstd"}]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Any]:
        dataset = litdata.StreamingDataset(inputs.folder, shuffle=True, drop_last=False)
        workers = int(setting["workers"])
        loader = litdata.StreamingDataLoader(
            dataset, batch_size=inputs.batch_size, num_workers=workers, persistent_workers=True
        )
        for batch in repeat(loader):
            yield batch["x"], batch["y"]


def _read_jet(images: str, labels: str, index: int) -> dict[str, Any]:
    image = np.array(np.load(images, mmap_mode="r")[index])
    return {"x": image, "y": np.load(labels)[index]}


def create() -> Contender:
    return LitDataContender()
