"""DALI's external source over one raw .npy file: whole batches in process, or samples by workers.

Both ways of https://docs.nvidia.com/deeplearning/dali/user-guide/docs/operations/nvidia.dali.fn.external_source.html:
batches without a copy (`no_copy`), and, as its section on parallel sources advises, single samples
by worker processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contenders._dali import DEPTH, DaliContender, Order
from harness.contender import Contender, Inputs, Setting

__all__ = ["create"]


class SampleSource:
    """A jet by its running number; pickled into the workers."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._images: NDArray[np.float32] | None = None

    def __call__(self, info: Any) -> tuple[Any, Any]:
        if self._images is None:  # opened in the worker
            self._images = np.load(self._inputs.files["npy"], mmap_mode="r")
            self._labels = np.load(self._inputs.files["y"])
            self._order = Order(self._inputs)
        k = self._order[info.idx_in_epoch]
        return np.array(self._images[k]), self._labels[k : k + 1]


class BatchSource:
    """A batch by its running number, gathered by numpy."""

    def __init__(self, inputs: Inputs) -> None:
        self._size = inputs.batch_size
        self._images = np.load(inputs.files["npy"], mmap_mode="r")
        self._labels = np.load(inputs.files["y"])
        self._order = Order(inputs)
        self._done = 0

    def __call__(self) -> tuple[Any, Any]:
        ids = [self._order[k] for k in range(self._done, self._done + self._size)]
        self._done += self._size
        return self._images[ids], self._labels[ids, np.newaxis]


class ExternalSource(DaliContender):
    """The same jets by either source."""

    def settings(self, inputs: Inputs) -> list[Setting]:
        return [
            {"threads": inputs.threads, "source": "batches, no_copy"},
            {"workers": inputs.threads, "source": "samples, parallel"},
        ]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Any]:
        workers = int(setting.get("workers", 0))
        source: dict[str, Any] = (
            {"source": SampleSource(inputs), "batch": False, "parallel": True}
            if workers
            else {"source": BatchSource(inputs), "batch": True, "no_copy": True}
        )

        dali = import_module("nvidia.dali")
        dtypes = 2 * [dali.types.FLOAT]

        @dali.pipeline_def(  # type: ignore[untyped-decorator]
            batch_size=inputs.batch_size,
            num_threads=inputs.threads,
            device_id=None,
            prefetch_queue_depth=DEPTH,
            py_num_workers=max(1, workers),
            py_start_method="spawn",  # torch's threads do not survive a fork
        )
        def graph() -> Any:
            return tuple(dali.fn.external_source(num_outputs=2, dtype=dtypes, **source))

        for images, labels in self.deliver(graph(), ["images", "labels"]):
            yield images, labels[:, 0]


def create() -> Contender:
    return ExternalSource()
