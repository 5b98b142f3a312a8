"""DALI's numpy reader over a raw .npy file per jet.

Headers are cached, as the operator's page says is faster for files that are read again
(https://docs.nvidia.com/deeplearning/dali/user-guide/docs/operations/nvidia.dali.fn.readers.numpy.html).
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contenders._dali import DEPTH, DaliContender
from harness.contender import Contender, Inputs, Setting

__all__ = ["create"]

DIGITS = 8  # of the number in a file's name


class NumpyReader(DaliContender):
    """Shuffled files; labels by the number in the name of the file that DALI says it has read."""

    def write(self, inputs: Inputs, folder: Path) -> None:
        """See WritesFiles."""
        for k, image in enumerate(np.load(inputs.files["npy"], mmap_mode="r")):
            np.save(folder / f"{k:0{DIGITS}d}.npy", image)

    def settings(self, inputs: Inputs) -> list[Setting]:
        return [{"threads": inputs.threads, "prefetch": DEPTH, "cache_header_information": "yes"}]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Any]:
        labels = np.load(inputs.files["y"])
        files = [str(Path(inputs.folder) / f"{k:0{DIGITS}d}.npy") for k in range(inputs.n_samples)]

        dali = import_module("nvidia.dali")

        @dali.pipeline_def(  # type: ignore[untyped-decorator]
            batch_size=inputs.batch_size,
            num_threads=inputs.threads,
            device_id=None,
            prefetch_queue_depth=DEPTH,
        )
        def graph() -> Any:
            images = dali.fn.readers.numpy(
                files=files, shuffle_after_epoch=True, cache_header_information=True, name="jets"
            )
            return images, dali.fn.get_property(images, key="source_info")

        for images, paths in self.deliver(graph(), ["images", "paths"]):
            names = paths.numpy()[:, -DIGITS - 4 : -4].tobytes()  # all of one length
            ids = np.frombuffer(names, f"S{DIGITS}").astype(np.int64)
            yield images, torch.from_numpy(labels[ids])


def create() -> Contender:
    return NumpyReader()
