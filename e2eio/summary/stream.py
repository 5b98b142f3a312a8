"""One pass over a dataset, for everything that needs to see all pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from e2eio.errors import ConfigError
from e2eio.loader import Loader
from e2eio.options import SAMPLE_ID
from e2eio.summary.classes import Classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.dataset import Dataset
    from e2eio.progress import Progress

__all__ = ["Accumulator", "Chunk", "read_chunks", "run_pass"]

# Of a batch: pixels if all samples are as full as on average (20 bytes each, and as much again for
# what is computed of them), and bytes if all are completely full.
_PIXELS: Final = 1 << 19
_BYTES: Final = 256 << 20
_PIXEL_BYTES: Final = 20
_SAMPLES: Final = 1024
_CHANNELS: Final = 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """The pixels of some samples that are not zero, sorted by sample, channel and position.

    Parameters
    ----------
    ids : int64 [n]
        Numbers of the samples.
    classes : int64 [n]
        Their classes; -1: none.
    scalars : dict of ndarray
        Scalar fields, [n] each.
    sample, channel : int64 [nnz]
        Of each pixel: which of the n samples, which channel.
    position : int64 [nnz]
        Within the image: (channel * H + row) * W + column.
    values : float32 [nnz]
        In the channel's unit; never 0 nor -0, NaN and infinities included.
    bounds : int64 [n * C + 1]
        Pixels ``bounds[s * C + c]`` to ``bounds[s * C + c + 1]`` are those of sample s, channel c.
    shape : tuple of int
        (C, H, W).
    """

    ids: NDArray[np.int64]
    classes: NDArray[np.int64]
    scalars: dict[str, NDArray[Any]]
    sample: NDArray[np.int64]
    channel: NDArray[np.int64]
    position: NDArray[np.int64]
    values: NDArray[np.float32]
    bounds: NDArray[np.int64]
    shape: tuple[int, int, int]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Pixels of each sample and channel, [n, C]."""
        return np.diff(self.bounds).reshape(len(self.ids), self.shape[0])

    def reduce(self, ufunc: np.ufunc, values: NDArray[Any], empty: Any) -> NDArray[Any]:
        """Return `ufunc` over the pixels of each sample and channel, [n, C]; `empty` where there is none."""
        out = np.full(len(self.bounds) - 1, empty, dtype=values.dtype)
        filled = np.flatnonzero(np.diff(self.bounds))
        if filled.size:
            out[filled] = ufunc.reduceat(values, self.bounds[filled])
        return out.reshape(len(self.ids), self.shape[0])


class Accumulator(Protocol):
    """What is gathered over a pass; its size does not depend on the number of samples."""

    def add(self, chunk: Chunk) -> None:
        """Take in the samples of a chunk; chunks come in any order, each sample once."""


def run_pass(
    dataset: Dataset,
    accumulators: Sequence[Accumulator],
    *,
    classes: Classes,
    limit: int | None = None,
    progress: Progress,
) -> int:
    """Show every sample to every accumulator; return how many samples there were.

    Parameters
    ----------
    dataset : Dataset
    accumulators : sequence of Accumulator
    classes : Classes
        What the chunks say of each sample.
    limit : int or None
        Samples at most, a choice from all over the dataset that is always the same; None: all.
    progress : Progress
        Is started here, not closed.

    Raises
    ------
    ConfigError
        There are too many channels to keep histograms of.
    CorruptShardError
        A record is damaged.
    """
    n_channels = len(dataset.channels)
    if n_channels > _CHANNELS:  # histograms of each
        raise ConfigError(
            f"too many channels: found {n_channels}, expected at most {_CHANNELS} for statistics"
        )
    total = len(dataset) if limit is None else min(limit, len(dataset))
    progress.start(total)
    done = 0
    for chunk in read_chunks(dataset, classes=classes, limit=limit):
        for accumulator in accumulators:
            accumulator.add(chunk)
        done += len(chunk.ids)
        progress.update(done)
    return done


def read_chunks(dataset: Dataset, *, classes: Classes, limit: int | None = None) -> Iterator[Chunk]:
    """Yield the dataset in chunks of bounded size, decoded in threads."""
    total = len(dataset) if limit is None else min(limit, len(dataset))
    if total == 0:
        return
    image = dataset.schema.image
    names = tuple(field.name for field in dataset.schema.scalars)
    fields = dict.fromkeys((image.name, *names))
    with Loader(
        dataset,
        batch_size=min(_samples_of_a_chunk(dataset), total),
        shuffle=False if total == len(dataset) else "window",
        fields=(*fields, SAMPLE_ID) if SAMPLE_ID not in fields else tuple(fields),
        form="coo",
        framework="numpy",
        prefetch=2,
        rank=0,
        world_size=1,
    ) as loader:
        done = 0
        for batch in loader:
            arrays = dict(zip(loader.fields, batch, strict=True))
            n = min(len(arrays[SAMPLE_ID]), total - done)
            done += n
            yield _make_chunk(arrays, image.name, image.shape, classes, n)
            if done == total:
                return


def _samples_of_a_chunk(dataset: Dataset) -> int:
    n_channels, height, width = dataset.schema.image.shape
    full = n_channels * height * width
    mean: float = full
    if dataset.statistics is not None:
        mean = sum(channel.nonzero for channel in dataset.statistics) / len(dataset)
    n = min(_PIXELS / max(mean, 1), _BYTES / (_PIXEL_BYTES * full), _SAMPLES)
    return max(1, int(n))


def _make_chunk(
    arrays: dict[str, Any], image: str, shape: tuple[int, int, int], classes: Classes, n: int
) -> Chunk:
    coordinates, values = arrays[image].coordinates, arrays[image].values
    kept = (values != 0) & (coordinates[:, 0] < n)  # -0.0 is listed, but nothing is there
    if not kept.all():
        coordinates, values = coordinates[kept], values[kept]
    sample, channel, row, column = coordinates.T.astype(np.int64)
    n_channels, height, width = shape
    counts = np.bincount(sample * n_channels + channel, minlength=n * n_channels)
    scalars = {name: array[:n] for name, array in arrays.items() if name not in (image, SAMPLE_ID)}
    return Chunk(
        ids=arrays[SAMPLE_ID][:n],
        classes=classes.of(scalars.get(classes.field), n),
        scalars=scalars,
        sample=sample,
        channel=channel,
        position=(channel * height + row) * width + column,
        values=values,
        bounds=np.concatenate([[0], np.cumsum(counts)]),
        shape=shape,
    )
