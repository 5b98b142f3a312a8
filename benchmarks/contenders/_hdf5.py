"""HDF5 files of other storage than `harness.data` writes, read by the same Dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from contenders._torch import TorchContender
from contenders.torch_hdf5 import Hdf5Jets
from harness.contender import Inputs

__all__ = ["Hdf5Contender"]


class Hdf5Contender(TorchContender):
    """Writes jets with the given options of `create_dataset`, and reads them one by one."""

    def __init__(self, *, chunked: bool, **options: Any) -> None:
        super().__init__(_open)
        self._chunked = chunked
        self._options = options

    def write(self, inputs: Inputs, folder: Path) -> None:
        """See WritesFiles."""
        images = np.load(inputs.files["npy"], mmap_mode="r")
        if self._chunked:  # a chunk per jet: random reads inflate nothing else
            self._options["chunks"] = (1, *inputs.shape)
        with h5py.File(folder / "jets.h5", "w") as file:
            stored = file.create_dataset("X_jets", images.shape, "f4", **self._options)
            for k, image in enumerate(images):
                stored[k] = image
            file["y"] = np.load(inputs.files["y"])


def _open(inputs: Inputs) -> Hdf5Jets:
    return Hdf5Jets(str(Path(inputs.folder) / "jets.h5"))
