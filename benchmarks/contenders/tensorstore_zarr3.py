"""TensorStore: zarr3, a chunk per jet in shards of 256, Blosc with zstd, several reads under way.

https://google.github.io/tensorstore/driver/zarr3: sharding keeps small chunks cheap to find; the
context bounds the threads that decode and read, and holds no cache of decoded chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from contenders._stream import Stream, shuffled_batches
from harness.contender import Contender, Inputs, Setting

__all__ = ["create"]

SHARD = 256  # jets
UNDER_WAY = 2  # batches
BLOSC = {"cname": "zstd", "clevel": 3, "shuffle": "shuffle"}


class TensorStoreContender(Stream):
    """Gathers batches by an index array."""

    n_ahead = UNDER_WAY

    def write(self, inputs: Inputs, folder: Path) -> None:
        """See WritesFiles."""
        images = np.load(inputs.files["npy"], mmap_mode="r")
        chunk = [1, *inputs.shape]
        sharded = {
            "chunk_shape": chunk,
            "codecs": [{"name": "bytes"}, {"name": "blosc", "configuration": BLOSC}],
        }
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(folder)},
            "metadata": {
                "shape": list(images.shape),
                "data_type": "float32",
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [SHARD, *inputs.shape]},
                },
                "codecs": [{"name": "sharding_indexed", "configuration": sharded}],
            },
        }
        store = tensorstore.open(spec, create=True).result()
        for begin in range(0, len(images), SHARD):
            end = min(begin + SHARD, len(images))
            store[begin:end].write(images[begin:end]).result()

    def settings(self, inputs: Inputs) -> list[Setting]:
        return [{"threads": inputs.threads, "batches_under_way": UNDER_WAY, "shard": SHARD}]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Any]:
        labels = np.load(inputs.files["y"])
        limit = {"limit": int(setting["threads"])}
        context = {
            "cache_pool": {"total_bytes_limit": 0},
            "data_copy_concurrency": limit,
            "file_io_concurrency": limit,
        }
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": inputs.folder}}
        store = tensorstore.open(spec, context=tensorstore.Context(context), read=True).result()
        reads: deque[Any] = deque()
        for ids in shuffled_batches(inputs.n_samples, inputs.batch_size):
            reads.append((store[ids].read(), labels[ids]))
            if len(reads) > UNDER_WAY:
                images, found = reads.popleft()
                yield images.result(), found


def create() -> Contender:
    return TensorStoreContender()
