"""e2eio on one thread: what further threads bring."""

from __future__ import annotations

from contenders.e2eio_dense import E2eioContender
from harness.contender import Contender

__all__ = ["create"]


def create() -> Contender:
    return E2eioContender(threads=1)
