"""A contender in whose process something happens: the variable FAULT says what, and when."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from contenders._stream import Stream, shuffled_batches
from harness.contender import Contender, Inputs, Setting

__all__ = ["create"]

FAULT = os.environ.get("FAULT", "")
if FAULT.startswith("import "):
    import_module(FAULT.split()[1])


class Faulty(Stream):
    """Delivers the jets of the npy file, until its fault."""

    n_ahead = 0

    def write(self, inputs: Inputs, folder: Path) -> None:
        (folder / "labels").write_bytes(np.load(inputs.files["y"]).tobytes())

    def settings(self, inputs: Inputs) -> list[Setting]:
        return [{"threads": 1}]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Any]:
        if FAULT == "noise":
            print('{"error": "printed by a library"}', flush=True)
            subprocess.run([sys.executable, "-c", "print('by its child')"], check=True)
        if FAULT == "hang":
            with Path(os.environ["HUNG"]).open("w") as file:
                file.write(str(subprocess.Popen(["sleep", "1000"]).pid))
            time.sleep(1000)
        return self._deliver(inputs)

    def _deliver(self, inputs: Inputs) -> Iterator[Any]:
        images = np.load(inputs.files["npy"])
        labels = np.frombuffer((Path(inputs.folder) / "labels").read_bytes(), np.float32)
        if FAULT == "wrong":
            images[3, 2, 60, 60] += 1
        for k, ids in enumerate(shuffled_batches(inputs.n_samples, inputs.batch_size)):
            if FAULT == "raise":
                raise ValueError("the file is broken")
            if FAULT == "die" and k * inputs.batch_size >= 2 * inputs.n_samples:
                print("out of memory, it says", file=sys.stderr, flush=True)
                os.abort()
            yield images[ids], labels[ids]

    def details(self) -> Setting:
        return {"python": sys.executable}


def create() -> Contender:
    return Faulty()
