"""ROOT's RDataLoader over a TTree with an array per jet, zstd, a cluster per 32 jets.

`ROOT.Experimental.ML.RDataLoader` of ROOT >= 6.40, as its docstring and its tutorials
(machine_learning/ml_dataloader_filters_vectors.py) have it: vectors of a fixed size, read lazily by
its background thread, shuffled within ten batches, its default.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import ROOT

from contenders._stream import Stream
from harness.contender import Contender, Inputs, Setting

__all__ = ["create"]

CLUSTER = 32  # jets
IN_MEMORY = 10  # batches, RDataLoader's default


class RootContender(Stream):
    """Image and label come as the columns of one matrix, which is cut in two without a copy."""

    n_ahead = IN_MEMORY

    def write(self, inputs: Inputs, folder: Path) -> None:
        """See WritesFiles. uproot writes a cluster per call."""
        uproot = import_module("uproot")
        images = np.load(inputs.files["npy"], mmap_mode="r")
        labels = np.load(inputs.files["y"])
        kinds = {"X_jets": np.dtype(("f4", (math.prod(inputs.shape),))), "y": np.dtype("f4")}
        with uproot.recreate(folder / "jets.root", compression=uproot.ZSTD(3)) as file:
            tree = file.mktree("jets", kinds)
            for begin in range(0, len(images), CLUSTER):
                here = slice(begin, begin + CLUSTER)
                flat = np.ascontiguousarray(images[here]).reshape(len(labels[here]), -1)
                tree.extend({"X_jets": flat, "y": labels[here]})

    def settings(self, inputs: Inputs) -> list[Setting]:
        return [{"threads": 1, "batches_in_memory": IN_MEMORY, "cluster": CLUSTER, "zstd": 3}]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Any]:
        n_pixels = math.prod(inputs.shape)
        frame = ROOT.RDataFrame("jets", str(Path(inputs.folder) / "jets.root"))
        loader = ROOT.Experimental.ML.RDataLoader(
            frame,
            inputs.batch_size,
            batches_in_memory=IN_MEMORY,
            columns=["X_jets", "y"],
            max_vec_sizes={"X_jets": n_pixels},
            shuffle=True,
            drop_remainder=False,
        )
        while True:
            for batch in loader.as_numpy():
                yield batch[:, :n_pixels].reshape(-1, *inputs.shape), batch[:, n_pixels]


def create() -> Contender:
    return RootContender()
