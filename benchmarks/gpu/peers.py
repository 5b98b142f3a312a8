"""What is used today to have raw jets in a card's memory; each delivers what an .npy file [n, C, H, W] holds."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, RandomSampler

from gpu.feeds import Feed, FeedError

__all__ = ["PEERS", "RawJets", "check_peer", "dali_of_nothing"]

SERIES = (
    16  # epochs that a DataLoader delivers as one series, so that its workers are not asked anew
)


@dataclass(frozen=True)
class RawJets:
    """Uncompressed jets: `images` and `labels` are .npy files, `folder` takes what a peer derives of them."""

    images: str
    labels: str
    folder: Path
    n: int
    shape: tuple[int, int, int]
    batch_size: int
    workers: int

    @property
    def bytes_per_jet(self) -> float:
        return 4.0 * math.prod(self.shape)


class _Jets(Dataset[tuple[torch.Tensor, np.float32]]):
    def __init__(self, raw: RawJets) -> None:
        self._raw = raw
        self._images: NDArray[np.float32] | None = None
        self._labels = np.load(raw.labels)

    def __len__(self) -> int:
        return self._raw.n

    def __getitem__(self, index: int) -> tuple[torch.Tensor, np.float32]:
        if self._images is None:  # opened in the worker: pickled, a memory map becomes a copy
            self._images = np.load(self._raw.images, mmap_mode="r")
        return torch.from_numpy(np.array(self._images[index])), self._labels[index]


def torch_pinned(raw: RawJets, device: torch.device) -> Feed:
    """torch's DataLoader with pin_memory, copied as its documentation says, with non_blocking=True."""
    jets = _Jets(raw)
    # Workers hand batches over in shared memory; where it is small (containers), they die.
    queue = (2 * raw.workers + 2) * raw.batch_size * raw.bytes_per_jet
    shared = Path("/dev/shm")
    enough = shared.exists() and shutil.disk_usage(shared).free > queue
    workers = raw.workers if enough else 0
    loader = DataLoader(
        jets,
        batch_size=raw.batch_size,
        sampler=RandomSampler(jets, num_samples=SERIES * raw.n),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        multiprocessing_context="forkserver" if workers else None,
    )

    def epoch() -> Iterator[Any]:
        for x, y in loader:
            yield x.to(device, non_blocking=True), y.to(device, non_blocking=True)

    title = f"torch DataLoader over .npy, pinned, {workers} workers"
    return Feed("torch_pinned", title, raw.bytes_per_jet, epoch)


def dali_numpy(raw: RawJets, device: torch.device) -> Feed:
    """DALI's numpy reader, a file a jet, and a copy to the card; whole shuffled epochs."""
    return _dali(raw, device, "cpu")


def dali_numpy_gpu(raw: RawJets, device: torch.device) -> Feed:
    """DALI's numpy reader on the card: GPUDirect Storage."""
    if device.type != "cuda":
        raise RuntimeError("needs a GPU")
    return _dali(raw, device, "gpu")


def _dali(raw: RawJets, device: torch.device, reader: str) -> Feed:
    dali = import_module("nvidia.dali")
    plugin = import_module("nvidia.dali.plugin.pytorch")
    files = _files_of(raw)
    on_card = device.type == "cuda"

    @dali.pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=raw.batch_size,
        num_threads=raw.workers,
        device_id=(device.index or 0) if on_card else None,
    )
    def graph() -> Any:
        images = dali.fn.readers.numpy(
            device=reader, files=files, shuffle_after_epoch=True, name="jets"
        )
        return images.gpu() if on_card and reader == "cpu" else images

    pipe = graph()
    pipe.build()
    batches = plugin.DALIGenericIterator(pipe, ["x"], size=-1)  # goes on and on

    def epoch() -> Iterator[Any]:
        for (batch,) in batches:
            yield batch["x"], None

    title = f"DALI numpy reader ({reader})"
    return Feed(f"dali_numpy_{reader}", title, raw.bytes_per_jet, epoch)


def dali_of_nothing(labels: torch.Tensor) -> Feed:
    """A DALI pipeline on the CPU that hands on the same labels for ever: what its executor takes per batch."""
    dali = import_module("nvidia.dali")
    batch_size = len(labels)

    @dali.pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=batch_size, num_threads=2, device_id=None, exec_dynamic=True
    )
    def graph() -> Any:
        return dali.fn.external_source(lambda: labels.numpy(), no_copy=True)

    pipe = graph()
    pipe.build()

    def epoch() -> Iterator[Any]:
        while True:
            pipe.run()
            yield labels, None

    return Feed("dali_of_nothing", "DALI without work", 0, epoch)


def _files_of(raw: RawJets) -> list[str]:
    folder = raw.folder / "one_by_one"
    paths = [folder / f"{k:06d}.npy" for k in range(raw.n)]
    if not folder.exists():
        folder.mkdir()
        images = np.load(raw.images, mmap_mode="r")
        for path, image in zip(paths, images, strict=True):
            np.save(path, image)
    return [str(path) for path in paths]


def ffcv(raw: RawJets, device: torch.device) -> Feed:
    """FFCV: a .beton of raw arrays, in the page cache, copied by its own ToDevice."""
    fields, writer = import_module("ffcv.fields"), import_module("ffcv.writer")
    decoders, loading = import_module("ffcv.fields.decoders"), import_module("ffcv.loader")
    transforms = import_module("ffcv.transforms")
    path = raw.folder / "jets.beton"
    columns = {
        "x": fields.NDArrayField(np.dtype("float32"), raw.shape),
        "y": fields.FloatField(),
    }
    if not path.exists():
        pairs = _Pairs(raw)
        writer.DatasetWriter(str(path), columns, num_workers=1).from_indexed_dataset(pairs)
    to_device = [transforms.ToTensor(), transforms.ToDevice(device, non_blocking=True)]
    loader = loading.Loader(
        str(path),
        batch_size=raw.batch_size,
        num_workers=raw.workers,
        order=loading.OrderOption.RANDOM,
        os_cache=True,
        drop_last=True,
        pipelines={
            "x": [decoders.NDArrayDecoder(), *to_device],
            "y": [decoders.FloatDecoder(), *to_device],
        },
    )
    return Feed("ffcv", "FFCV, raw", raw.bytes_per_jet, lambda: loader)


class _Pairs(_Jets):
    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return image.numpy(), float(label)


PEERS: dict[str, Callable[[RawJets, torch.device], Feed]] = {
    "torch_pinned": torch_pinned,
    "dali_numpy_cpu": dali_numpy,
    "dali_numpy_gpu": dali_numpy_gpu,
    "ffcv": ffcv,
}


def check_peer(feed: Feed, raw: RawJets) -> int:
    """Compare one epoch of images, in any order, with the file, bit by bit; return the jets compared.

    Raises
    ------
    FeedError
        A jet is missing, or is none of the file's.
    """
    missing = Counter(_digest(image) for image in np.load(raw.images, mmap_mode="r"))
    n = 0
    for x, _ in _first(feed.epoch(), raw.n // raw.batch_size):
        missing.subtract(_digest(image) for image in x.cpu().numpy())
        n += len(x)
    wrong = sum(-count for count in missing.values() if count < 0)
    if wrong or n != raw.n:
        raise FeedError(f"{feed.title}: {wrong} of {n} jets are not those of {raw.n} in the file")
    return n


def _first(batches: Iterable[Any], n: int) -> Iterator[Any]:
    for _, batch in zip(range(n), batches, strict=False):
        yield batch


def _digest(image: NDArray[np.float32]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
