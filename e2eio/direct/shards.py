"""The shards of foreign sources, as a Dataset has them."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio import _core
from e2eio.direct.cache import (
    CacheDirectory,
    CachedShards,
    about_bytes,
    directory_name,
    id_digest,
    open_cached,
    open_without_sources,
)
from e2eio.direct.makers import Makers
from e2eio.direct.planning import plan_sources
from e2eio.errors import ShardNotFoundError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.conversion.plan import Plan
    from e2eio.direct.processes import Child
    from e2eio.importers import ImportOptions
    from e2eio.manifest import ChannelStatistics

__all__ = ["DirectShards", "open_direct"]

_WAIT_S: Final = 0.1  # how long a wait lasts before Python may deliver a signal
_AHEAD: Final = 4  # shards made ahead of need


class DirectShards:
    """Shards that are made when they are touched.

    Thread rule: any thread. In a forked child it begins anew, with the shards that were there.

    Parameters
    ----------
    plan : Plan
    cache : CacheDirectory or None
        Where shards are kept; None: in memory.
    child : Child
        The process that has planned, to go on with.
    """

    statistics: tuple[ChannelStatistics, ...] | None = None

    def __init__(self, plan: Plan, cache: CacheDirectory | None, child: Child) -> None:
        self._plan = plan
        self._cache = cache
        self.schema = plan.schema
        self.counts = tuple(task.n_samples for task in plan.tasks)
        self._ends = np.cumsum(self.counts)
        self.source_sizes = tuple(source.n_samples for source in plan.sources)
        self.digests = tuple(id_digest(task.shard_id.hex()) for task in plan.tasks)
        self.n_bytes = about_bytes(plan.n_samples)
        self._lock = threading.Lock()
        self._columns: list[NDArray[Any]] | None = None
        self._shard_columns: dict[tuple[int, int], NDArray[Any]] = {}
        self._begin_here(None, child)
        if cache is not None:
            for index, task in enumerate(plan.tasks):
                reader = cache.find(task)
                if reader is not None:
                    self._late.attach(index, reader)

    def _begin_here(self, before: _core.LateShards | None, child: Child | None) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()  # a forked child's may be held by nobody who is there
        late = _core.LateShards(self.schema.to_core(), self.counts, _AHEAD)
        held_bytes = 0
        for index in range(len(self.counts)):
            reader = None if before is None else before.reader(index)
            if reader is not None:
                late.attach(index, reader)
                held_bytes += reader.n_bytes
        self._late = late
        self._readers = tuple(_core.LateShard(late, index) for index in range(len(self.counts)))
        self._makers = Makers(self._plan, late, self._cache, held_bytes, child)
        weakref.finalize(self, self._makers.close)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            self._begin_here(self._late, None)

    @property
    def readers(self) -> tuple[_core.ShardReader | _core.LateShard, ...]:
        """The shards, for the core."""
        self._check_process()
        return self._readers

    @property
    def n_missing(self) -> int:
        """Shards that are not there."""
        return self._late.n_missing

    @property
    def held_bytes(self) -> int:
        """Bytes of shards in memory."""
        return self._makers.held_bytes

    def warn_of_memory(self) -> None:
        """Warn if all shards will take more memory than may be held."""
        self._makers.warn_of_memory(self.n_bytes)

    def path_of(self, index: int) -> str:
        """Return the shard's source."""
        return self._plan.tasks[index].path

    def awaken(self) -> None:
        """Have shards made when they are touched."""
        self._check_process()
        self._makers.awaken()

    def wait(self, ids: NDArray[np.int64]) -> None:
        """Return when the shards of these samples are there; signals are delivered meanwhile.

        Raises
        ------
        ImporterError, ShardIOError, ConfigError
            One of them cannot be made.
        """
        self.awaken()
        indices = np.unique(self._shards_of(ids)).tolist()
        late = self._late
        while not late.wait(indices, _WAIT_S):
            pass

    def _shards_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = np.searchsorted(self._ends, ids, side="right")
        return found

    def column(self, index: int) -> NDArray[Any]:
        """Return a scalar field of all samples; the shards that are not there are not made for it."""
        if self._late.n_missing == 0:
            parts = [self._shard_column(shard, index) for shard in range(len(self.counts))]
            return np.concatenate(parts)
        if self._columns is None:
            self._columns = self._makers.read_scalars()
        return self._columns[index]

    def scalars_at(self, index: int, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return a scalar field of some samples, whose shards are there."""
        if self._columns is not None:
            return self._columns[index][ids]
        values = np.empty(len(ids), self.schema.scalars[index].dtype)
        shards = self._shards_of(ids)
        begins = self._ends - np.asarray(self.counts)
        for shard in np.unique(shards).tolist():
            here = shards == shard
            values[here] = self._shard_column(shard, index)[ids[here] - begins[shard]]
        return values

    def _shard_column(self, shard: int, index: int) -> NDArray[Any]:
        column = self._shard_columns.get((shard, index))
        if column is None:
            reader = self._late.reader(shard)
            assert reader is not None, "a scalar of a sample was asked for before the sample"
            column = self._shard_columns[shard, index] = reader.column(index)
        return column


def open_direct(
    paths: Sequence[str], cache: str | os.PathLike[str] | None, imports: ImportOptions
) -> DirectShards | CachedShards:
    """Return the shards of foreign sources; complete ones, if the cache holds all of them.

    Raises
    ------
    ShardNotFoundError
        A source is missing, and there is no complete cache of the sources.
    ImporterError, ConfigError, SchemaMismatchError, ShardIOError, MissingDependencyError
        As :func:`e2eio.convert`.
    """
    try:
        plan, child = plan_sources(paths, imports)
    except ShardNotFoundError:
        known = None if cache is None else open_without_sources(Path(cache), paths, imports)
        if known is None:
            raise
        return known
    try:
        if cache is None:
            shards = DirectShards(plan, None, child)
            shards.warn_of_memory()
            return shards
        return _open_kept(plan, CacheDirectory(Path(cache) / directory_name(plan)), child)
    except BaseException:
        child.close()
        raise


def _open_kept(plan: Plan, kept: CacheDirectory, child: Child) -> DirectShards | CachedShards:
    complete = open_cached(kept.path, plan)
    if complete is None:
        kept.prepare(plan)
        shards = DirectShards(plan, kept, child)
        # All there without a manifest: somebody was killed before that.
        if shards.n_missing > 0 or not kept.complete(plan):
            return shards
        complete = open_cached(kept.path, plan)
        if complete is None:
            return shards
    child.close()
    return complete
