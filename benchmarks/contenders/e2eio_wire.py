"""e2eio's sparse batches on one thread: what a core has ready for the bus of an accelerator."""

from __future__ import annotations

from contenders.e2eio_coo import PixelContender
from harness.contender import Contender

__all__ = ["create"]


def create() -> Contender:
    return PixelContender("wire", threads=1)
