"""e2eio's sparse batches on one thread: what a core has ready for the bus of an accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from contenders.e2eio_dense import E2eioContender
from harness.contender import Batch, Contender, Inputs, verify_epoch

__all__ = ["create"]


class WireContender(E2eioContender):
    """Batches of positions and values; verified as the dense images that they stand for."""

    def __init__(self) -> None:
        super().__init__(threads=1, framework="numpy", form="wire")

    def verify(self, inputs: Inputs) -> int:
        def densify() -> Iterator[tuple[object, object]]:
            for labels, images in self.batches(self.unit):
                wire: Any = images
                yield np.asarray(wire.to_dense()), labels

        return verify_epoch(densify(), inputs)

    def batches(self, n: int) -> Iterator[Batch]:
        for images, labels in super().batches(n):
            counted: Any = labels
            yield counted, images  # the first is counted by its length


def create() -> Contender:
    return WireContender()
