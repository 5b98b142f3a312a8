"""Prefetching to a device for any loader of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from e2eio.batches.iteration import BatchIterator
from e2eio.device.feed import DeviceFeed
from e2eio.device.lanes import usable_device
from e2eio.errors import ConfigError

__all__ = ["PrefetchToDevice", "prefetch_to_device"]


class PrefetchToDevice:
    """An iterable over a loader's batches, moved to a device ahead of need; see :func:`prefetch_to_device`."""

    def __init__(self, loader: Iterable[Any], device: torch.device, depth: int) -> None:
        self.loader = loader
        self.device = device
        self.depth = depth

    def __len__(self) -> int:
        """Batches per epoch, as the loader says."""
        length: int = len(self.loader)  # type: ignore[arg-type]
        return length

    def __getattr__(self, name: str) -> Any:
        # set_epoch, sampler, state_dict and the like are the loader's.
        if name.startswith("__") or name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        # Those of e2eio say it: their memory may be limited to fewer batches than would be on their way.
        ready = (lambda: batches.ready) if isinstance(batches, BatchIterator) else None
        feed = DeviceFeed(batches, self.device, ready=ready, depth=self.depth)
        try:
            yield from feed
        finally:
            feed.close()


def prefetch_to_device(
    loader: Iterable[Any], depth: int = 2, *, device: str | torch.device | None = None
) -> PrefetchToDevice:
    """Move a loader's batches to a device ahead of need, on a stream of its own.

    For any loader whose batches are tensors in dicts, tuples or lists: an ``e2eio.Loader``, an
    ``e2eio.DataLoader``, torch's own. The batch is ready for the stream that is current when it is delivered.
    ``Loader(device="cuda")`` does better with images: it moves their pixels only.

    Parameters
    ----------
    loader : iterable
        Iterated anew for each epoch; ``len``, ``set_epoch``, ``state_dict`` and all other attributes are the loader's.
        Its state counts the batches that are on their way as delivered.
    depth : int
        Batches on their way beside the one that is delivered.
    device : str, torch.device or None
        None: the current CUDA device where there is one, else the CPU.

    Raises
    ------
    ConfigError
        There is no such device, or depth is negative.

    Examples
    --------
    >>> batches = e2eio.prefetch_to_device(torch.utils.data.DataLoader(range(4)), device="cpu")
    >>> [int(batch) for batch in batches]
    [0, 1, 2, 3]
    """
    if depth < 0:
        raise ConfigError(f"depth is {depth}; expected at least 0")
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return PrefetchToDevice(loader, usable_device(device), depth)
