"""What pictures are made of: sums and counts of pixels, and histograms, per class and channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.summary.bins import LOG, Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.summary.stream import Chunk

__all__ = ["Content", "Maps"]

# Of sums over classes, in bytes; larger images have no maps.
_MAP_BYTES: Final = 1 << 30


class Maps:
    """Per pixel: sums of each class, how often it is filled, and whether its value ever changes.

    Parameters
    ----------
    n_classes : int
    shape : tuple of int
        (C, H, W).

    Attributes
    ----------
    kept : bool
        False: the images are too large for maps, all arrays are empty.
    sums : float64 [K, C, H, W]
        Over the finite pixels of the samples of each class.
    hits : int64 [C, H, W]
        Samples of any class, or none, in which the pixel is not zero.
    """

    def __init__(self, n_classes: int, shape: tuple[int, int, int]) -> None:
        size = int(np.prod(shape))
        self.kept = 8 * size * (n_classes + 2) <= _MAP_BYTES
        kept = shape if self.kept else (0, 0, 0)
        self.sums = np.zeros((n_classes, *kept), dtype=np.float64)
        self.hits = np.zeros(kept, dtype=np.int64)
        self._first = np.zeros(self.hits.size, dtype=np.float32)
        self._varies = np.zeros(self.hits.size, dtype=bool)

    def add(self, chunk: Chunk) -> None:
        """Take in the samples of a chunk."""
        if not self.kept or not chunk.values.size:
            return
        fresh = np.flatnonzero(self.hits.reshape(-1)[chunk.position] == 0)
        self._first[chunk.position[fresh]] = chunk.values[fresh]
        changed = chunk.values != self._first[chunk.position]
        self._varies[chunk.position[changed]] = True
        np.add.at(self.hits.reshape(-1), chunk.position, 1)
        classes = chunk.classes[chunk.sample]
        kept = np.flatnonzero((classes >= 0) & np.isfinite(chunk.values))
        places = classes[kept] * self.hits.size + chunk.position[kept]
        np.add.at(self.sums.reshape(-1), places, chunk.values[kept].astype(np.float64))

    def constant(self, n_samples: int) -> NDArray[np.bool_]:
        """Return which pixels hold one and the same value, not zero, in all samples: [C, H, W]."""
        steady = ~self._varies.reshape(self.hits.shape)
        constant: NDArray[np.bool_] = steady & (self.hits == n_samples)
        return constant


class Content:
    """Histograms and counts per class and channel.

    Parameters
    ----------
    n_classes : int
    shape : tuple of int
        (C, H, W).

    Attributes
    ----------
    n_samples : int
        All of them, also those without a class.
    class_samples : int64 [K]
    pixels : int64 [K, C, 2, LOG.n + 2]
        Values of the pixels that are not zero (see :class:`e2eio.summary.LogBins`).
    sums : int64 [K, C, 2, LOG.n + 2]
        Sum of each sample's finite pixels; samples without any pixel count as 0.
    filled : int64 [K, C, counts.size]
        Number of each sample's pixels that are not zero.
    nonzero : int64 [C]
        Pixels.
    totals, squares : float64 [C]
        Of the samples' sums.
    """

    def __init__(self, n_classes: int, shape: tuple[int, int, int]) -> None:
        n_channels, height, width = shape
        self.n_classes = n_classes
        self.counts = Counts(height * width)
        self.n_samples = 0
        self.class_samples = np.zeros(n_classes, dtype=np.int64)
        self.pixels = np.zeros((n_classes, n_channels, 2, LOG.n + 2), dtype=np.int64)
        self.sums = np.zeros_like(self.pixels)
        self.filled = np.zeros((n_classes, n_channels, self.counts.size), dtype=np.int64)
        self.nonzero = np.zeros(n_channels, dtype=np.int64)
        self.totals = np.zeros(n_channels)
        self.squares = np.zeros(n_channels)

    def add(self, chunk: Chunk) -> None:
        """Take in the samples of a chunk."""
        n_channels = chunk.shape[0]
        self.n_samples += len(chunk.ids)
        self.nonzero += chunk.counts.sum(axis=0)
        known = chunk.classes >= 0
        self.class_samples += np.bincount(chunk.classes[known], minlength=self.n_classes)
        self._add_pixels(chunk)
        sums = chunk.reduce(np.add, np.where(np.isfinite(chunk.values), chunk.values, 0.0), 0.0)
        self.totals += sums.sum(axis=0)
        self.squares += np.square(sums).sum(axis=0)
        rows = chunk.classes[known, None] * n_channels + np.arange(n_channels)
        np.add.at(self.sums.reshape(-1), rows * LOG.size + LOG.index(sums[known]), 1)
        places = rows * self.counts.size + self.counts.index(chunk.counts[known])
        np.add.at(self.filled.reshape(-1), places, 1)

    def _add_pixels(self, chunk: Chunk) -> None:
        classes = chunk.classes[chunk.sample]
        kept = np.flatnonzero((classes >= 0) & np.isfinite(chunk.values))
        rows = classes[kept] * chunk.shape[0] + chunk.channel[kept]
        np.add.at(self.pixels.reshape(-1), rows * LOG.size + LOG.index(chunk.values[kept]), 1)
