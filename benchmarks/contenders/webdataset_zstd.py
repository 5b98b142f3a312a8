"""WebDataset: tar shards of zstd frames, batched in the workers, as its documentation advises.

https://webdataset.github.io/webdataset/: shards shuffled, a buffer of samples shuffled, batches made
by the dataset and handed over by `WebLoader(batch_size=None)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
import zstandard

from contenders._stream import Stream, repeat
from harness.contender import Contender, Inputs, Setting

__all__ = ["create"]

N_SHARDS = 8
BUFFER = 256  # samples that are shuffled, as they are stored


class WebDatasetContender(Stream):
    """Members `<number>.x.zst` and `<number>.y`."""

    n_ahead = 4

    def write(self, inputs: Inputs, folder: Path) -> None:
        """See WritesFiles."""
        compressor = zstandard.ZstdCompressor(level=3)
        images = np.load(inputs.files["npy"], mmap_mode="r")
        labels = np.load(inputs.files["y"])
        for part in range(N_SHARDS):
            with webdataset.TarWriter(str(folder / f"jets-{part}.tar")) as tar:
                for k in range(part, len(images), N_SHARDS):
                    frame = compressor.compress(images[k].tobytes())
                    tar.write({"__key__": f"{k:08d}", "x.zst": frame, "y": labels[k].tobytes()})

    def settings(self, inputs: Inputs) -> list[Setting]:
        return [{"workers": inputs.threads, "shuffle_buffer": BUFFER, "zstd": 3}]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Any]:
        shards = sorted(str(path) for path in Path(inputs.folder).iterdir())

        def inflate(sample: dict[str, Any]) -> tuple[Any, Any]:
            raw = zstandard.ZstdDecompressor().decompress(sample["x.zst"])
            image = np.frombuffer(raw, np.float32).reshape(inputs.shape)
            return image, np.frombuffer(sample["y"], np.float32)[0]

        dataset = (
            webdataset.WebDataset(
                shards, shardshuffle=N_SHARDS, handler=webdataset.reraise_exception
            )
            .shuffle(BUFFER)
            .map(inflate)
            .batched(inputs.batch_size, collation_fn=_collate)
        )
        workers = int(setting["workers"])
        loader = webdataset.WebLoader(
            dataset, batch_size=None, num_workers=workers, persistent_workers=True
        )
        return repeat(loader)


def _collate(samples: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    images, labels = zip(*samples, strict=True)
    return np.stack(images), np.array(labels)


def create() -> Contender:
    return WebDatasetContender()
