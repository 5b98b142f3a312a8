"""A loader's epochs, delivered on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from e2eio.batches.read_ahead import ReadAhead
from e2eio.device.feed import DeviceFeed

if TYPE_CHECKING:
    from e2eio.batches.iteration import BatchIterator

__all__ = ["DeviceBatches"]

_DEPTH = 2  # batches on their way: one is copied while another is filled


class DeviceBatches(DeviceFeed):
    """One epoch of a loader on a device. Dropping it, or :meth:`close`, ends its threads.

    The loader's state counts what was delivered here, not what is on its way.

    Thread rule: one thread.

    Parameters
    ----------
    batches : BatchIterator
        Of a loader, not begun; images in wire form.
    device : torch.device
    image : str or int
        The field that holds the images: its name in dicts, its place in tuples.
    channels_last : bool
        Deliver images [n, H, W, C] instead of [n, C, H, W].
    recycle, pageable : bool
        As in :class:`DeviceFeed`.
    """

    def __init__(
        self,
        batches: BatchIterator,
        device: torch.device,
        *,
        image: str | int,
        channels_last: bool = False,
        recycle: bool = False,
        pageable: bool = False,
    ) -> None:
        self._ahead = ReadAhead(batches)
        self._image = image if channels_last else None
        super().__init__(
            self._ahead,
            device,
            ready=lambda: self._ahead.ready,
            depth=_DEPTH,
            recycle=recycle,
            channels_last=channels_last,
            pageable=pageable,
        )

    def __len__(self) -> int:
        """Batches that are left."""
        return len(self._ahead)

    def __next__(self) -> Any:
        try:
            batch = super().__next__()
        except StopIteration:
            self._ahead.end()
            raise
        self._ahead.use()
        if self._image is None:
            return batch
        return _with(batch, self._image, lambda images: images.permute(0, 2, 3, 1))

    def close(self) -> None:
        """End the iteration and join its threads; idempotent."""
        super().close()
        self._ahead.close()


def _with(batch: Any, key: str | int, function: Any) -> Any:
    if isinstance(batch, Mapping):
        return {**batch, key: function(batch[key])}
    return tuple(function(value) if i == key else value for i, value in enumerate(batch))
