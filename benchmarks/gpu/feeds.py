"""Ways to have dense batches of jets in a device's memory: e2eio's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import e2eio
from e2eio.device.loading import DeviceBatches

__all__ = ["Feed", "FeedError", "check_feed", "e2eio_feeds", "loader_of", "wire_bytes_per_jet"]

FIELDS = ("X_jets", "y")
COMPARED = 4  # batches


class FeedError(Exception):
    """A feed delivers something else than the Loader on the CPU, or cannot be made; the message says which."""


@dataclass(frozen=True)
class Feed:
    """One way.

    Attributes
    ----------
    name, title : str
    bytes_per_jet : float
        Across the bus, of images.
    epoch : callable
        Returns an iterable over batches (images float32 [n, C, H, W], labels [n]) on the device.
    close : callable
        Ends what it keeps running between epochs.
    """

    name: str
    title: str
    bytes_per_jet: float
    epoch: Callable[[], Iterable[Any]]
    close: Callable[[], None] = lambda: None


def loader_of(dataset: e2eio.Dataset, batch_size: int, threads: int, **options: Any) -> Any:
    """Return a Loader as all feeds of e2eio are given it; rank 0 of 1."""
    return e2eio.Loader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        fields=FIELDS,
        threads=threads,
        rank=0,
        world_size=1,
        **options,
    )


def wire_bytes_per_jet(dataset: e2eio.Dataset, batch_size: int) -> float:
    """Return the bytes of a wire batch over its jets, averaged over an epoch."""
    with loader_of(dataset, batch_size, 1, form="wire") as loader:
        sizes = [(wire.buffer.nbytes, len(y)) for wire, y in loader]
    return float(sum(size for size, _ in sizes) / sum(n for _, n in sizes))


def e2eio_feeds(
    dataset: e2eio.Dataset, batch_size: int, threads: int, device: torch.device
) -> list[Feed]:
    """Return e2eio's feeds: pixels over the bus, into fresh and recycled memory; dense and pinned.

    On the CPU the same paths run, with the host's memory in the place of the card's.
    """
    on_card = device.type == "cuda"
    pixels = wire_bytes_per_jet(dataset, batch_size)
    dense = 4.0 * np.prod(dataset.schema.image.shape)
    where: dict[str, Any] = {"device": device} if on_card else {"form": "wire"}
    wire = loader_of(dataset, batch_size, threads, **where)
    recycled = loader_of(dataset, batch_size, threads, **where)
    pinned = loader_of(dataset, batch_size, threads, **({"pin_memory": True} if on_card else {}))

    def fill(loader: Any, *, recycle: bool) -> Iterator[Any]:
        return DeviceBatches(loader.host_batches(), device, image=0, recycle=recycle)

    def copy() -> Iterator[Any]:
        return iter(e2eio.prefetch_to_device(pinned, device=device))

    return [
        Feed("wire", "e2eio, pixels", pixels, lambda: fill(wire, recycle=False), wire.close),
        Feed(
            "wire_recycled",
            "e2eio, pixels, recycled memory",
            pixels,
            lambda: fill(recycled, recycle=True),
            recycled.close,
        ),
        Feed("dense_pinned", "e2eio, dense, pinned", dense, copy, pinned.close),
    ]


def check_feed(feed: Feed, dataset: e2eio.Dataset, batch_size: int) -> int:
    """Compare the first batches of epoch 0, bit by bit, with the Loader on the CPU; return the jets compared.

    Raises
    ------
    FeedError
        They differ.
    """
    n = 0
    with loader_of(dataset, batch_size, 1) as loader:
        for k, ((x, y), (images, labels)) in enumerate(zip(feed.epoch(), loader, strict=False)):
            same = x.dtype == images.dtype and torch.equal(_bits(x), _bits(images))
            if not same or not torch.equal(y.cpu(), labels):
                raise FeedError(f"{feed.title}: batch {k} is not that of the Loader on the CPU")
            n += len(x)
            if k + 1 == COMPARED:
                break
    if n == 0:
        raise FeedError(f"{feed.title}: no batch came")
    return n


def _bits(images: torch.Tensor) -> torch.Tensor:
    return images.detach().cpu().contiguous().view(torch.int32)
