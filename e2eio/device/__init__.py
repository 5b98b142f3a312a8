"""Batches on a device: sparse on the bus, dense on the card.

``Loader(device="cuda")`` and :func:`prefetch_to_device` are what is meant for training loops; the rest is for those
who build their own.
"""

from __future__ import annotations

from e2eio.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "torch is missing: needed for batches on a device; install it with 'pip install e2eio[torch]'"
    ) from error

from e2eio.device.feed import DeviceFeed
from e2eio.device.moves import Moves
from e2eio.device.prefetch import PrefetchToDevice, prefetch_to_device
from e2eio.device.wire_view import WireView

__all__ = ["DeviceFeed", "Moves", "PrefetchToDevice", "WireView", "prefetch_to_device"]
