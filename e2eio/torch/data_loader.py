"""torch's DataLoader, with the core in the place of worker processes."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Literal

import torch.utils.data

from e2eio.adapters import torch as adapter
from e2eio.batches.delivery import BatchAssembly, assembly_of
from e2eio.errors import ConfigError, StateError
from e2eio.options import channel_indices, transform_options
from e2eio.torch.collation import OptionsCollation, default_collate, is_default
from e2eio.torch.draws import Draws, Progress, draws_of
from e2eio.torch.feeding import Feed
from e2eio.torch.identity import RankComparison, identity_of
from e2eio.torch.iterators import NativeIterator, TrackedMulti, TrackedSingle
from e2eio.torch.samplers import Samplers, replayed, restore_epoch
from e2eio.torch.sources import SampleSource, sample_source
from e2eio.torch.state import checked_steps, progress_from, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from e2eio.transforms import Transform

__all__ = ["DataLoader"]

# e2eio's own options and what they are where nobody asks for anything.
_OPTIONS: dict[str, Any] = {
    "fields": None,
    "channels": None,
    "resolution": None,
    "transforms": (),
    "dtype": "float32",
    "layout": "NCHW",
}


class DataLoader(torch.utils.data.DataLoader[Any]):
    """torch.utils.data.DataLoader whose batches the core decodes, in threads.

    Its signature, attributes, checks and messages are torch's, since torch's class makes them. What differs is who reads: over
    an :class:`e2eio.Dataset`, also inside of ``Subset``, ``random_split`` and ``ConcatDataset``, there are no worker
    processes; the sampler's numbers go to threads of the core, and batches come back in their order. Any other
    dataset, and any subclass with a ``__getitem__`` of its own, is loaded by torch as ever.

    The samplers draw exactly what they draw for torch's loader, from the same generators in the same order, so equal seeds
    give equal batches. Batches are yours: writable tensors that nobody uses again while they live.

    With a DistributedSampler over all ranks of the job, the ranks compare dataset, samples, seed, epoch and batches once, before
    the first batch: all of them have to iterate. See docs/dataloader.md.

    Thread rule: the loader one thread; threads that share an iterator take turns.

    Parameters
    ----------
    dataset, batch_size, shuffle, sampler, batch_sampler, drop_last, generator
        As torch's.
    num_workers : int
        Decoding threads, no more than there are usable cores. 0: as many as are of use decode the batch
        that is asked for, and the next two where torch's own samplers make that unnoticeable.
    collate_fn : callable, optional
        Gets what torch's would: a list of samples, dicts of numpy arrays. It runs in the consumer's thread; with
        workers, it draws the random numbers that it would draw in a worker process. What it raises keeps its
        type, with a note of the samples and shards. None: a dict of tensors, as torch's default makes.
    pin_memory : bool
        Copy batches into pinned memory, if there is an accelerator.
    timeout : float
        Seconds to wait for a batch before RuntimeError; 0: for ever, with one warning after 60.
    worker_init_fn : callable, optional
        Called at the begin, once for each worker's number, in this process, with the worker's random numbers and
        ``get_worker_info()``. Threads run no Python, so what it does to its process it does to this one.
    multiprocessing_context
        Checked, and otherwise of no effect: there are no processes.
    prefetch_factor : int, optional
        Batches drawn ahead, for each worker; decoded ahead are at most as many, and not more than 1 GiB.
    persistent_workers : bool
        Keep the threads and their memory from one epoch to the next.
    in_order : bool
        Batches are always in order.
    snapshot_every_n_steps : int
        Batches between two snapshots of samplers with a state of their own, as torchdata's StatefulDataLoader.
    fields, channels, resolution, transforms, dtype, layout
        As :class:`e2eio.Loader`'s; for an e2eio.Dataset alone. Random transforms follow from torch's base seed.

    Raises
    ------
    ValueError, TypeError
        As torch.
    ConfigError
        One of the options after torch's is wrong.
    PlanMismatchError, RankMissingError
        From the first batch: the ranks would load different things, or some did not come.

    Examples
    --------
    >>> loader = e2eio.DataLoader(ds, batch_size=64, shuffle=True, num_workers=8)  # doctest: +SKIP
    >>> for batch in loader:  # doctest: +SKIP
    ...     step(batch["X_jets"], batch["y"])
    """

    sampler: Any
    batch_sampler: Any
    fields: Sequence[str] | None
    channels: Sequence[str | int] | None
    resolution: Literal[1, 3, "x1", "x3"] | None
    transforms: Sequence[Transform]
    dtype: str
    layout: str

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        snapshot_every_n_steps: int | None = 1,
        fields: Sequence[str] | None = None,
        channels: Sequence[str | int] | None = None,
        resolution: Literal[1, 3, "x1", "x3"] | None = None,
        transforms: Sequence[Transform] = (),
        dtype: Literal["float32", "float16", "bfloat16"] = "float32",
        layout: Literal["NCHW", "NHWC"] = "NCHW",
    ) -> None:
        self.fields = fields
        self.channels = channels
        self.resolution = resolution
        self.transforms = transforms
        self.dtype = dtype
        self.layout = layout
        self.snapshot_every_n_steps = snapshot_every_n_steps
        self._comparison = RankComparison()
        self._forget()
        self._check_options(dataset)
        newer: dict[str, Any] = {}  # not in every version of torch
        if not in_order:
            newer["in_order"] = in_order
        if pin_memory_device:
            newer["pin_memory_device"] = pin_memory_device
        super().__init__(
            *(dataset, batch_size, shuffle, sampler, batch_sampler, num_workers),
            None if isinstance(collate_fn, OptionsCollation) else collate_fn,
            *(pin_memory, drop_last, timeout, worker_init_fn, multiprocessing_context, generator),
            prefetch_factor=prefetch_factor,
            persistent_workers=persistent_workers,
            **newer,
        )
        if self._source is not None and is_default(self.collate_fn):
            named = self._unusual_options()
            self.collate_fn = OptionsCollation(named) if named else default_collate

    def _forget(self) -> None:
        self._source: SampleSource | None = None
        self._draws: Draws | None = None  # of the latest iteration
        self._drawing: Draws | None = None  # while an iterator over it is made
        self._unused: Any = None  # an iterator that was made for its state
        self._resume: Progress | None = None
        self._feed: Feed | None = None
        self._identified: tuple[Draws, dict[str, Any]] | None = None
        self._pid = os.getpid()

    def _check_options(self, dataset: Any) -> None:
        self._source = sample_source(dataset)
        if self._source is not None:
            self._assembly(self._source)
            self._pipeline_options(self._source)
        elif named := self._unusual_options():
            raise ConfigError(
                f"{', '.join(named)} given for a {type(dataset).__name__}; expected an e2eio.Dataset, or "
                "Subset or ConcatDataset of such, of one schema"
            )
        checked_steps(self.snapshot_every_n_steps)

    def _unusual_options(self) -> tuple[str, ...]:
        return tuple(
            name
            for name, usual in _OPTIONS.items()
            if getattr(self, name) is not usual and getattr(self, name) != usual
        )

    def _assembly(self, source: SampleSource) -> BatchAssembly:
        return assembly_of(source.dataset, adapter, self.fields, self.dtype, "dense", True)

    def _pipeline_options(self, source: SampleSource) -> dict[str, Any]:
        delivered = channel_indices(source.dataset, self.channels)
        return {
            **transform_options(source.dataset, self.transforms, self.resolution, delivered, 0),
            "channels": delivered,
            "dtype": self.dtype,
            "layout": self.layout,
            "form": "dense",
            "writable": True,
            "verify": True,
            "memory_limit_bytes": 0,
            # The order is not the core's here.
            **{"shuffle": False, "key": 0, "drop_last": False, "rank": 0, "world_size": 1},
        }

    def check_worker_number_rationality(self) -> None:
        """Warn of more worker processes than cores, as torch; threads do no harm."""
        if self._source is None:
            super().check_worker_number_rationality()

    @property
    def _index_sampler(self) -> Any:
        # torch's iterators ask for this while they are made.
        return super()._index_sampler if self._drawing is None else self._drawing

    def __iter__(self) -> Any:
        if self._pid != os.getpid():  # a forked child: threads and iterators are the parent's
            resume = self._resume
            self._forget()
            self._resume, self._iterator = resume, None
        if self._unused is None:
            return super().__iter__()
        iterator, self._unused = self._unused, None
        if self.persistent_workers:
            self._iterator = iterator
        return iterator

    def _get_iterator(self) -> Any:
        self._source = sample_source(self.dataset, self._source)
        resume, self._resume = self._resume, None
        if self._dataset_kind == torch.utils.data.dataloader._DatasetKind.Iterable:
            return super()._get_iterator()
        samplers = self._samplers()
        every = self.snapshot_every_n_steps or 1
        if resume is None or resume.finished:
            if resume is not None:
                with replayed(samplers, resume.begin):
                    pass  # explicit generators go on from the epoch's end
            draws = draws_of(samplers, resume, every)
            if resume is not None and resume.base_seed is not None and self.persistent_workers:
                draws.progress.base_seed = resume.base_seed + 1
            return self._iterator_over(draws)
        with replayed(samplers, resume.begin):
            draws = draws_of(samplers, resume, every)
            iterator = self._iterator_over(draws)
            if "global" in resume.begin:
                draws.prime()
        return iterator

    def _iterator_over(self, draws: Draws) -> Any:
        self._draws = self._drawing = draws
        try:
            if self._source is None:
                tracked: Any = TrackedSingle if self.num_workers == 0 else TrackedMulti
                return tracked(self)
            self._feed = Feed(
                self._source.dataset,
                self._pipeline_options(self._source),
                getattr(self.batch_sampler, "batch_size", None) or self.batch_size or 1,
            )
            self._comparison.prepare(draws, self._source)
            return NativeIterator(
                self,
                self._source,
                self._assembly(self._source),
                self._feed,
                self._comparison,
            )
        finally:
            self._drawing = None

    def state_dict(self) -> dict[str, Any]:
        """Return where the latest iteration is: JSON-able, for :meth:`load_state_dict`.

        Taken before StopIteration of an epoch it resumes to what is left of it, 0 batches at its end; taken after, to
        the next epoch. Without an iteration so far, one is made, and its order is drawn.

        It holds no more than a few numbers (less than 1 KB) for sequential, distributed and torch's default random
        order. The state of a generator that was given, or of torch's global one for samplers that draw from it,
        adds 3.5 KB, unless it was seeded and not drawn from; samplers with a ``state_dict`` add theirs.

        The random numbers of workers are not in it, which would be 10 KB for each: where `collate_fn` draws some and
        `num_workers` is not 0, what it draws begins anew in the middle of the epoch, and :meth:`load_state_dict`
        warns. With ``num_workers=0`` it draws from the global random numbers, which whoever resumes puts back.
        Likewise worker processes, which load any other dataset, begin anew.

        Of an IterableDataset there is no state: the dict is empty.
        """
        if self._dataset_kind == torch.utils.data.dataloader._DatasetKind.Iterable:
            return {}
        if self._draws is None:
            self._unused = self._get_iterator()
        draws: Any = self._draws
        draws.prime()
        if self._identified is None or self._identified[0] is not draws:
            self._identified = draws, self._identity()
        return state_of(draws.progress, self._identified[1])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Make the next iteration go on where `state_dict` was taken; {} begins anew.

        Dataset, subset, batch size, drop_last and samplers are to be the same; the number of workers need not be, nor
        the rank of a DistributedSampler: the position counts batches of each rank, so that all ranks may go on
        from the state of one. The epoch of a DistributedSampler is set as well.

        Warns if `collate_fn` had drawn random numbers of workers: see :meth:`state_dict`.

        Raises
        ------
        StateError
            It is no state of an e2eio.DataLoader, or damaged, or one of another order; says what differs.
        """
        resume = None
        if state_dict:
            if self._dataset_kind == torch.utils.data.dataloader._DatasetKind.Iterable:
                raise StateError(
                    "state for a loader of an IterableDataset, which has none; expected {}"
                )
            self._source = sample_source(self.dataset, self._source)
            samplers = self._samplers()
            resume = progress_from(state_dict, self._identity(), samplers)
            restore_epoch(samplers, resume.begin)
            if resume.workers_drew and (self.persistent_workers or not resume.finished):
                warnings.warn(
                    "collate_fn draws random numbers of workers, which begin anew here: the samples go on where the state "
                    "was taken, but what collate_fn draws does not; num_workers=0 goes on exactly",
                    stacklevel=2,
                )
        self._iterator = self._unused = self._draws = None
        self._resume = resume

    def _samplers(self) -> Samplers:
        return Samplers(self.sampler, self.batch_sampler, self.generator)

    def _identity(self) -> dict[str, Any]:
        return identity_of(self._samplers(), self._source, self.dataset)

    def stats(self) -> dict[str, Any]:
        """Return the counters of the latest iteration's pipeline, as :meth:`e2eio.Loader.stats`; {}: there is none."""
        return {} if self._feed is None else self._feed.stats()

    def __getstate__(self) -> dict[str, Any]:
        # Without what runs: a copy, or a spawned process, begins as this one did.
        passing = (
            "_source",
            "_draws",
            "_drawing",
            "_unused",
            "_feed",
            "_iterator",
            "_pid",
            "_identified",
        )
        return {name: value for name, value in self.__dict__.items() if name not in passing}

    def __setstate__(self, state: dict[str, Any]) -> None:
        resume = state["_resume"]
        self._forget()
        self.__dict__.update(state, _iterator=None, _resume=resume)
