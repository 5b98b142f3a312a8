"""Blosc2: an NDArray with a chunk per jet, zstd, mapped into memory, inflated by its own threads.

https://www.blosc.org/python-blosc2/: `mmap_mode` and `nthreads` of `blosc2.open`; a chunk is what a
random read inflates.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from contenders._stream import Stream, shuffled_batches
from harness.contender import Contender, Inputs, Setting

__all__ = ["create"]


class BloscContender(Stream):
    """Fills batches jet by jet; nothing is ready ahead."""

    n_ahead = 0

    def write(self, inputs: Inputs, folder: Path) -> None:
        """See WritesFiles."""
        images = np.load(inputs.files["npy"], mmap_mode="r")
        array = blosc2.empty(
            images.shape,
            np.dtype(np.float32),
            chunks=(1, *inputs.shape),
            cparams=blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=3),
            urlpath=str(folder / "jets.b2nd"),
        )
        for k, image in enumerate(images):
            array[k] = image

    def settings(self, inputs: Inputs) -> list[Setting]:
        return [{"threads": inputs.threads, "zstd": 3, "mmap": "yes"}]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Any]:
        labels = np.load(inputs.files["y"])
        array: Any = blosc2.open(
            str(Path(inputs.folder) / "jets.b2nd"),
            mode="r",
            mmap_mode="r",
            dparams=blosc2.DParams(nthreads=int(setting["threads"])),
        )
        for ids in shuffled_batches(inputs.n_samples, inputs.batch_size):
            out = np.empty((len(ids), *inputs.shape), np.float32)
            for image, k in zip(out, ids, strict=True):
                image[...] = array[k]
            yield out, labels[ids]


def create() -> Contender:
    return BloscContender()
