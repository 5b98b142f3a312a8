"""Shards that are files, as one part of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from e2eio.schema import Schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio import _core
    from e2eio.manifest import ChannelStatistics

__all__ = ["ShardPart", "StoredShards"]


class ShardPart(Protocol):
    """Shards that a dataset holds, in order. Thread rule: any thread."""

    @property
    def schema(self) -> Schema:
        """Fields of a sample."""

    @property
    def readers(self) -> tuple[_core.ShardReader | _core.LateShard, ...]:
        """The shards, for the core."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Samples of each shard."""

    @property
    def source_sizes(self) -> tuple[int, ...]:
        """Samples of each source."""

    @property
    def digests(self) -> tuple[str, ...]:
        """One per shard."""

    @property
    def n_bytes(self) -> int:
        """Stored size, about."""

    @property
    def statistics(self) -> tuple[ChannelStatistics, ...] | None:
        """Of all samples, one per channel; None: not known."""

    @property
    def n_missing(self) -> int:
        """Shards that are to be made yet."""

    @property
    def held_bytes(self) -> int:
        """Bytes of shards that are held in memory."""

    def path_of(self, index: int) -> str:
        """Return the file that a shard is, or is made from."""

    def column(self, index: int) -> NDArray[Any]:
        """Return a scalar field of all samples, by its number."""

    def scalars_at(self, index: int, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return a scalar field of some samples, whose shards are there."""

    def awaken(self) -> None:
        """Have shards made when they are touched."""

    def wait(self, ids: NDArray[np.int64]) -> None:
        """Return when the shards of these samples are there; signals are delivered meanwhile."""


class StoredShards:
    """A part of shards that are all there. Thread rule: any thread.

    Parameters
    ----------
    readers : sequence of ShardReader
    statistics : tuple of ChannelStatistics or None
    """

    n_missing = 0
    held_bytes = 0

    def __init__(
        self,
        readers: Sequence[_core.ShardReader],
        statistics: tuple[ChannelStatistics, ...] | None,
    ) -> None:
        self._readers = tuple(readers)
        self.readers: tuple[_core.ShardReader | _core.LateShard, ...] = self._readers
        self.statistics = statistics
        self.schema = Schema.from_core(readers[0].schema)
        self.counts = tuple(reader.n_samples for reader in readers)
        self.source_sizes: tuple[int, ...] = (sum(self.counts),)
        self.digests = tuple(reader.digest for reader in readers)
        self.n_bytes = sum(reader.n_bytes for reader in readers)

    def path_of(self, index: int) -> str:
        """Return the shard's file."""
        return self._readers[index].path

    def column(self, index: int) -> NDArray[Any]:
        """Return a scalar field of all samples, by its number."""
        return np.concatenate([reader.column(index) for reader in self._readers])

    def scalars_at(self, index: int, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return a scalar field of some samples."""
        return self.column(index)[ids]

    def awaken(self) -> None:
        """Do nothing: nothing is to be made."""

    def wait(self, ids: NDArray[np.int64]) -> None:
        """Return at once."""
