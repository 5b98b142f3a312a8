"""Per-host batches as global JAX arrays.

>>> mesh = jax.make_mesh((jax.device_count(),), ("batch",))  # doctest: +SKIP
>>> rank, world_size = e2eio.jax.process_share(mesh)  # doctest: +SKIP
>>> loader = e2eio.Loader("data/top", batch_size=256, shuffle=True, drop_last=True,
...     fields=("X_jets", "y"), framework="jax", rank=rank, world_size=world_size)  # doctest: +SKIP
>>> for images, labels in e2eio.jax.global_batches(loader, mesh):  # doctest: +SKIP
...     state = train_step(state, images, labels)
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

from e2eio.adapters import jax as adapter
from e2eio.adapters import numpy as host
from e2eio.batches.read_ahead import ReadAhead
from e2eio.errors import ConfigError
from e2eio.loader import Loader
from e2eio.options import at_least

__all__ = ["GlobalBatchIterator", "GlobalBatches", "global_batches", "process_share"]


def process_share(mesh_or_sharding: Any) -> tuple[int, int]:
    """Return the ``rank`` and ``world_size`` that this process's Loader needs for a sharding.

    Where the batch is split over all devices, as in data parallelism, that is a number for each process:
    ``jax.process_index()`` of ``jax.process_count()``, unless the mesh has the hosts in another order. Processes that hold the
    same part of the batch (model parallelism across hosts) get the same rank, and so load the same samples.

    Parameters
    ----------
    mesh_or_sharding : jax.sharding.Mesh or jax.sharding.Sharding
        As in :func:`global_batches`.

    Raises
    ------
    ConfigError
        It does not split the batch axis alone, and evenly among the processes.
    """
    rank, world_size, _ = adapter.shares_of(adapter.batch_sharding(mesh_or_sharding))
    return rank, world_size


def global_batches(loader: Loader, mesh_or_sharding: Any, *, depth: int = 2) -> GlobalBatches:
    """Return the loader's batches as global arrays, split over the devices of all processes.

    Each process loads its share of every batch, ``loader.batch_size`` samples, and its devices hold it:
    ``jax.make_array_from_process_local_data`` makes of these an array of ``world_size`` times as many, in which rank r has the
    r-th run. With one process it splits the batch over the devices of that process. On all processes at once.

    Transfers are begun ahead: while a batch is in use, the next is on its way to the devices. JAX transfers
    asynchronously and the loader decodes in threads of its own, so that needs no other thread. Until its transfer is over, or,
    on devices that read host memory in place, until the array is deleted, a batch keeps its memory out of the loader's ring.

    The loader's state counts the batches that the loop was given, not those that are sent ahead.

    Parameters
    ----------
    loader : Loader
        Of any framework (``framework="jax"`` needs no other package), ``form="dense"``, with this process's share:
        ``rank=jax.process_index(), world_size=jax.process_count()``, or in general those of :func:`process_share`. Without
        them, a Loader takes the former by itself once ``jax.distributed`` is initialised, if neither torch.distributed
        nor MPI runs in the process.
    mesh_or_sharding : jax.sharding.Mesh or jax.sharding.Sharding
        A mesh of one axis, which the batch is split over, or a sharding of the first axis, as
        ``NamedSharding(mesh, PartitionSpec("batch"))``.
    depth : int
        Batches on the devices at once: the one in use and ``depth - 1`` ahead of it.

    Returns
    -------
    GlobalBatches
        Of dicts or tuples, as the loader has them, of jax.Array: images [world_size * n, C, H, W] or NHWC, scalar fields
        [world_size * n]. Fields of 64 bits become 32 bits unless ``jax_enable_x64`` is set.

    Raises
    ------
    PlanMismatchError, RankMissingError
        When an iteration begins, on all processes: they would load different things, or some do not come. Compared once,
        and again after a state was loaded, through ``jax.distributed``, where the sharding is one over all processes.
    ConfigError
        The loader's rank and world_size are not those of the sharding; or `batch_size`, or the size of the last,
        smaller batch, does not divide by the number of parts that a process's devices hold: nothing is padded, so pass
        ``drop_last=True`` or choose a batch_size that does divide. (A last batch that divides is delivered, smaller; a
        jitted function is compiled once more for it.)

    Examples
    --------
    >>> mesh = jax.make_mesh((jax.device_count(),), ("batch",))  # doctest: +SKIP
    >>> with e2eio.jax.global_batches(loader, mesh) as batches:  # doctest: +SKIP
    ...     for images, labels in batches:
    ...         state = train_step(state, images, labels)
    """
    return GlobalBatches(loader, mesh_or_sharding, depth=depth)


class GlobalBatches:
    """The epochs of a loader as global arrays; each iteration is one. See :func:`global_batches`.

    Thread rule: one thread at a time; starts none.
    """

    def __init__(self, loader: Loader, mesh_or_sharding: Any, *, depth: int = 2) -> None:
        self._loader = loader
        self._sharding = adapter.batch_sharding(mesh_or_sharding)
        self._depth = at_least(1, "depth", depth)
        self._iterators: weakref.WeakSet[GlobalBatchIterator] = weakref.WeakSet()
        _check_share(loader, self._sharding)

    def __len__(self) -> int:
        """Batches per epoch, equal on all processes."""
        return len(self._loader)

    def __iter__(self) -> GlobalBatchIterator:
        if adapter.spans_all_processes(self._sharding):
            self._loader.check_processes(*adapter.process_index_and_count())
        iterator = GlobalBatchIterator(self._loader, self._sharding, self._depth)
        self._iterators.add(iterator)
        return iterator

    def __repr__(self) -> str:
        return f"GlobalBatches({self._loader!r}, {self._sharding}, depth={self._depth})"

    @property
    def sharding(self) -> adapter.Sharding:
        """Of every array of a batch."""
        return self._sharding

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration this epoch (0 or more)."""
        self._loader.set_epoch(epoch)

    def close(self) -> None:
        """Close the loader, joining its threads; idempotent. Batches that are held stay valid."""
        for iterator in list(self._iterators):
            iterator.close()
        self._loader.close()

    def __enter__(self) -> GlobalBatches:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class GlobalBatchIterator(Iterator[Any]):
    """One epoch of global arrays. Dropping it, or :meth:`close`, gives the threads back to the loader."""

    def __init__(self, loader: Loader, sharding: adapter.Sharding, depth: int) -> None:
        self._sharding = sharding
        self._n_parts = adapter.shares_of(sharding)[2]
        self._depth = depth
        self._local = ReadAhead(loader.host_batches(), host)
        self._ahead: deque[Any] = deque()
        self._failure: Exception | None = None

    def __iter__(self) -> GlobalBatchIterator:
        return self

    def __len__(self) -> int:
        """Batches that are left."""
        return len(self._local)

    def __next__(self) -> Any:
        while len(self._ahead) < self._depth and self._failure is None:
            self._fetch()
        if self._ahead:
            self._local.use()
            return self._ahead.popleft()
        failure, self._failure = self._failure, None
        assert failure is not None
        if isinstance(failure, StopIteration):
            self._local.end()
        raise failure

    def _fetch(self) -> None:
        # What ends the batches, StopIteration too, has its place behind those that came before it.
        try:
            self._ahead.append(self._to_global(next(self._local)))
        except Exception as failure:
            self._failure = failure

    def _to_global(self, batch: Any) -> Any:
        values = tuple(batch.values() if isinstance(batch, dict) else batch)
        _check_last(len(values[0]), self._n_parts)
        if isinstance(batch, dict):
            return {name: self._array(value) for name, value in batch.items()}
        return tuple(self._array(value) for value in batch)

    def _array(self, local: Any) -> adapter.Array:
        return adapter.global_array(self._sharding, local)

    def close(self) -> None:
        """End the iteration; idempotent."""
        self._ahead.clear()
        self._local.close()


def _check_share(loader: Loader, sharding: adapter.Sharding) -> None:
    rank, world_size, n_parts = adapter.shares_of(sharding)
    form, batch_size = loader.options["form"], loader.options["batch_size"]
    if form != "dense":
        raise ConfigError(
            f"form is {form!r}; expected 'dense': lists of pixels differ in length between processes"
        )
    by_process = adapter.process_index_and_count()
    if (loader.rank, loader.world_size) != (rank, world_size) and (
        (loader.rank, loader.world_size) != by_process or world_size != by_process[1]
    ):
        raise ConfigError(
            f"the loader is rank {loader.rank} of {loader.world_size}, but this process holds share {rank} of {world_size} "
            f"of the batch; make the Loader with rank={rank}, world_size={world_size} "
            "(e2eio.jax.process_share returns both)"
        )
    if batch_size % n_parts != 0:
        raise ConfigError(
            f"batch_size is {batch_size} per process, but this process's devices hold {n_parts} parts of the batch; "
            f"expected a multiple of {n_parts}"
        )
    _check_last(loader.last_batch_shape[0], n_parts)


def _check_last(n: int, n_parts: int) -> None:
    # Asked before the first batch, and again of each: an epoch that is resumed may end with another one.
    if n % n_parts != 0:
        raise ConfigError(
            f"the last batch has {n} samples per process, but this process's devices hold {n_parts} parts of the "
            f"batch; pass drop_last=True to e2eio.Loader, or a batch_size that leaves a multiple of {n_parts}"
        )
