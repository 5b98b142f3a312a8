"""Training on several processes: which rank this is, torch.distributed set up, and ranks that agree.

``import e2eio.distributed`` imports neither torch nor MPI; :func:`init` imports torch. See docs/distributed.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from e2eio.distributed.agreement import CHECK_TIMEOUT_S, check_agreement
from e2eio.distributed.ranked import RankedLoader
from e2eio.distributed.ranks import Ranks, detect_ranks, share_of_cores

if TYPE_CHECKING:
    from e2eio.distributed.process_group import World, init, shutdown

__all__ = [
    "CHECK_TIMEOUT_S",
    "RankedLoader",
    "Ranks",
    "World",
    "check_agreement",
    "detect_ranks",
    "init",
    "share_of_cores",
    "shutdown",
]

_LAZY = ("World", "init", "shutdown")


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module("e2eio.distributed.process_group"), name)
    raise AttributeError(f"module 'e2eio.distributed' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
