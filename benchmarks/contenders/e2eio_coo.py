"""e2eio's lists of pixels, for sparse networks: coordinates and values, without any zero."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from contenders.e2eio_dense import E2eioContender
from harness.contender import Batch, Contender, Inputs, verify_epoch

__all__ = ["PixelContender", "create"]


class PixelContender(E2eioContender):
    """Batches in a sparse form; verified as the dense images that they stand for."""

    def __init__(self, form: str, threads: int | None = None) -> None:
        super().__init__(threads, framework="numpy", form=form)

    def verify(self, inputs: Inputs) -> int:
        def densify() -> Iterator[tuple[object, object]]:
            for labels, pixels in self.batches(self.unit):
                yield np.asarray(pixels.to_dense()), labels  # type: ignore[attr-defined]

        return verify_epoch(densify(), inputs)

    def batches(self, n: int) -> Iterator[Batch]:
        for pixels, labels in super().batches(n):
            yield labels, pixels  # type: ignore[misc]  # the first is counted by its length


def create() -> Contender:
    return PixelContender("coo")
