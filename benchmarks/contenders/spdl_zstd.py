"""SPDL: dense jets in zstd frames, a batch per task, inflated by threads without the GIL.

As its guide says (https://facebookresearch.github.io/spdl/main/getting_started): functions that
release the GIL, as many at a time as there are threads, a pool as large, and a sink for the results.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray
from spdl.pipeline import PipelineBuilder

from contenders._stream import Stream, shuffled_batches
from harness.contender import Contender, Inputs, Setting

__all__ = ["create"]

SINK = 2


class SpdlContender(Stream):
    """Frames one after the other in a file, and where each ends."""

    n_ahead = SINK + 2

    def write(self, inputs: Inputs, folder: Path) -> None:
        """See WritesFiles."""
        compressor = zstandard.ZstdCompressor(level=3)
        ends = [0]
        with (folder / "frames").open("wb") as file:
            for image in np.load(inputs.files["npy"], mmap_mode="r"):
                ends.append(ends[-1] + file.write(compressor.compress(image.tobytes())))
        np.save(folder / "ends.npy", np.array(ends))

    def settings(self, inputs: Inputs) -> list[Setting]:
        return [{"threads": inputs.threads, "sink": SINK, "zstd": 3}]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Any]:
        folder = Path(inputs.folder)
        frames = (folder / "frames").read_bytes()
        ends = np.load(folder / "ends.npy")
        labels = np.load(inputs.files["y"])

        def inflate(ids: list[int]) -> tuple[NDArray[np.float32], Any]:
            out = np.empty((len(ids), *inputs.shape), np.float32)
            decompressor = zstandard.ZstdDecompressor()
            for image, k in zip(out, ids, strict=True):
                frame = memoryview(frames)[ends[k] : ends[k + 1]]
                decompressor.stream_reader(frame).readinto(image.data.cast("B"))
            return out, labels[ids]

        threads = int(setting["threads"])
        pipeline = (
            PipelineBuilder()
            .add_source(shuffled_batches(inputs.n_samples, inputs.batch_size))
            .pipe(inflate, concurrency=threads)
            .add_sink(SINK)
            .build(num_threads=threads)
        )
        with pipeline.auto_stop():
            yield from pipeline


def create() -> Contender:
    return SpdlContender()
