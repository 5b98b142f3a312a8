"""Non-temporal stores, which do not fetch what they overwrite: mostly the fastest way to clear."""

from __future__ import annotations

from contenders._clear import ClearContender
from e2eio import _core
from harness.contender import Contender

__all__ = ["create"]


def create() -> Contender:
    return ClearContender(_core.clear_nontemporal)
