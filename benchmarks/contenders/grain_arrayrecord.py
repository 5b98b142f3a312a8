"""Grain over ArrayRecord, read by threads.

ArrayRecord with `group_size:1`, as random access needs
(https://github.com/google/array_record/blob/main/docs/performance.md); Grain's Dataset API, shuffled
globally, with as many reading threads as all have (https://google-grain.readthedocs.io).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from contenders._stream import Stream
from harness.contender import Contender, Inputs, Setting

__all__ = ["create"]

BUFFER = 128  # samples that the threads read ahead of the batching at most
OPTIONS = "group_size:1,zstd:3"


class GrainContender(Stream):
    """A record is an image's bytes and its label's."""

    n_ahead = 4

    def write(self, inputs: Inputs, folder: Path) -> None:
        """See WritesFiles."""
        writer = ArrayRecordWriter(str(folder / "jets.array_record"), OPTIONS)
        images = np.load(inputs.files["npy"], mmap_mode="r")
        for image, label in zip(images, np.load(inputs.files["y"]), strict=True):
            writer.write(image.tobytes() + label.tobytes())
        writer.close()

    def settings(self, inputs: Inputs) -> list[Setting]:
        ahead = min(BUFFER, 2 * inputs.batch_size)
        return [{"threads": inputs.threads, "buffer": ahead, "record": OPTIONS}]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Any]:
        n_pixels = math.prod(inputs.shape)

        def parse(record: bytes) -> tuple[Any, Any]:
            floats = np.frombuffer(record, np.float32)
            return floats[:n_pixels].reshape(inputs.shape), floats[n_pixels]

        source = grain.sources.ArrayRecordDataSource(
            [str(Path(inputs.folder) / "jets.array_record")]
        )
        samples = grain.MapDataset.source(source).shuffle(seed=0).repeat().map(parse)
        options = grain.ReadOptions(
            num_threads=int(setting["threads"]), prefetch_buffer_size=int(setting["buffer"])
        )
        batches = samples.to_iter_dataset(options).batch(inputs.batch_size)
        yield from batches


def create() -> Contender:
    return GrainContender()
