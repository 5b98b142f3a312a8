"""Batches, decoded in threads ahead of need."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal

from numpy.typing import ArrayLike

from e2eio import _core
from e2eio.batches.delivery import SlowWarning, WriteWarning, assembly_of
from e2eio.batches.frameworks import Framework, framework_named
from e2eio.batches.iteration import BatchIterator
from e2eio.dataset import Dataset, dataset_of
from e2eio.device_options import device_batches, device_target
from e2eio.distributed import RankedLoader, Ranks
from e2eio.errors import ConfigError
from e2eio.options import checked_form, checked_timeout, core_options
from e2eio.plan import OrderOptions, sample_order
from e2eio.plan.resume import EpochProgress, Resumable
from e2eio.sampling import Mix, Weights
from e2eio.transforms import Transform, transforms_text

__all__ = ["BatchIterator", "Loader"]


class Loader(Resumable, RankedLoader):
    """Iterates over the batches of a dataset.

    Threads of the core read, verify and decode batches into recycled memory while the consumer works. Not
    a torch DataLoader, but what one is used for; pass it to the training loop in its place.

    Batches are lent: their memory returns to the ring when the last array over it is gone, so keep a
    batch as long as you like (the ring then takes fresh memory), but do not write into it: the next batch is
    cleared only where this one was filled. numpy arrays are read-only; in-place operations on torch tensors
    are noticed, cost a full clearing and are warned about once; writes past torch (``.numpy()``, ``.data``,
    DLPack) raise StaleBatchError later on. Pass ``writable=True`` if batches are to be yours.

    Thread rule: any thread. Iterators of one loader are independent of each other; threads that share one get
    each batch once. No thread of the core runs before the first batch is asked for. Those of an iterator end
    when it is dropped; after a full epoch they wait for the next one. In a forked child the loader begins anew, its
    iterators raise ForkError. Pickles as the dataset's paths and the options; the copy begins where the original's
    next iteration would, not in the middle of one that is under way.

    Parameters
    ----------
    dataset : Dataset or path
        What to load: also files of other formats, as Parquet and HDF5 (docs/direct.md).
    batch_size : int
        Samples per batch and rank.
    shuffle : bool or "window"
        True: another exact permutation of the whole dataset in every epoch. "window": exact within windows of
        16 stretches of about 1 MB from all over the dataset, for disks and object stores (docs/plan.md).
    seed : int
        Of the permutations and the random transforms; ranks of one job must agree on it.
    drop_last : bool
        Leave out the last, smaller batch. Otherwise it is delivered, and if it does not divide by the number
        of ranks, samples from the start of the epoch's order are repeated to fill it.
    fields : sequence of str or None
        Names in the order wanted: batches are tuples. None: batches are dicts of all fields.
        ``"sample_id"`` is the number of the sample, int64.
    channels : sequence of str or int, or None
        Only these channels are decoded and delivered, in this order. None: all.
    resolution : {None, 1, 3, "x1", "x3"}
        Pixels per ECAL crystal in each direction; None: as stored. Sums are preserved: docs/transforms.md.
    transforms : sequence of Transform
        Applied in this order, after the change of resolution, by the decoding threads. Random ones are a
        function of the seed, the epoch and the number of the sample.
    dtype : {"float32", "float16", "bfloat16"}
        Of the images; rounded to nearest even.
    layout : {"NCHW", "NHWC"}
        Memory order of the images: [n, C, H, W] or [n, H, W, C].
    form : {"dense", "coo", "wire"}
        "dense": arrays of all pixels. "coo": :class:`e2eio.Coo`, coordinates [nnz, 4] and values of the pixels
        that are not zero, for sparse networks. "wire": :class:`e2eio.Wire`, one buffer of stored pixels as numpy
        bytes, for consumers that fill the images on a device.
    framework : {"torch", "numpy", "jax", "tf"}
        What the arrays are. JAX and TensorFlow: docs/jax-and-tensorflow.md.
    writable : bool
        Batches may be written into; each costs a full clearing. ("coo" and "wire" may always be.)
    device : str or torch.device
        "cpu", or "cuda" and "cuda:N": the pixels cross the bus, and the images are filled on the card; they are
        tensors of your own then, ready for the stream that is current when they are delivered.
    pin_memory : bool or "auto"
        Lock the memory of batches to its pages, so that a card reads it by itself. "auto": if `device` is one.
    verify : bool
        Compare each record with its checksum before it is decoded.
    threads : int or "auto"
        Decoding threads. "auto": as many as are of use, found out while running and again when something
        changes; at most the cores that the process may use (affinity, cgroup), shared among the ranks of
        the node. A slow consumer keeps the cores for itself. Order and content never depend on it.
    prefetch : int or "auto"
        Batches made ahead of need, at most. "auto": 2 to 8, more of very small batches, and no more than fit
        into `memory_limit` or 1 GiB.
    memory_limit : int or None
        Bytes of batch memory, held batches and what is read ahead included; None: unlimited, with at most
        32 MiB read ahead.
    select : str or None
        A condition on scalar fields, as ``"pt > 500 & y == 1"``: only such samples, which keep their numbers.
    exclude : sequence of int, path or None
        Numbers of samples to leave out, or a text file with one a line.
    weights : array_like, Weights, Mix or None
        Draw samples (with replacement) as often as these say: [len(dataset)] numbers, or what
        :mod:`e2eio.sampling` makes (class balance, flat spectra). A Mix: parts in fixed proportions. Random
        transforms do the same to a sample each time that it is drawn in one epoch, and something else in the next.
    samples_per_epoch : int or None
        Of all ranks, with `weights`; None: as many as are selected, of a Mix as many as its parts have together.
    rank, world_size : int or None
        None: from torch.distributed, Horovod, MPI, JAX or the launcher (torchrun, mpirun, srun), else 0 of 1:
        :func:`e2eio.distributed.detect_ranks`. A group that is set up before the first batch counts. All ranks
        then compare, before the first batch and the first after a state was loaded, what they are about to load.
        Give 0 and 1 for a loader
        that one rank alone iterates, or that gives every rank all samples.
    cache : path, optional
        Where copies of remote shards are kept (None: nowhere), and encoded samples of files of other
        formats (None: in memory). As of :class:`Dataset`.
    timeout : float or None
        Seconds to wait for a batch before TimeoutError; None: for ever, with one warning after 60.

    Raises
    ------
    ConfigError
        An argument is wrong.
    PlanMismatchError, RankMissingError
        At the first batch, on all ranks: they would load different things, or some do not come.

    Notes
    -----
    Each iteration is an epoch of its own: the first is epoch 0, or the one of :meth:`set_epoch`. An iterator takes
    its epoch when its first batch is asked for.

    Examples
    --------
    >>> loader = e2eio.Loader("data/top", batch_size=64, shuffle=True,
    ...                       fields=("X_jets", "y"))  # doctest: +SKIP
    >>> for images, labels in loader:  # doctest: +SKIP
    ...     step(images, labels)
    """

    def __init__(
        self,
        dataset: Dataset | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        batch_size: int,
        shuffle: bool | Literal["window"] = False,
        seed: int = 0,
        drop_last: bool = False,
        fields: Sequence[str] | None = None,
        channels: Sequence[str | int] | None = None,
        resolution: Literal[1, 3, "x1", "x3"] | None = None,
        transforms: Sequence[Transform] = (),
        dtype: Literal["float32", "float16", "bfloat16"] = "float32",
        layout: Literal["NCHW", "NHWC"] = "NCHW",
        form: Literal["dense", "coo", "wire"] = "dense",
        framework: Literal["torch", "numpy", "jax", "tf"] = "torch",
        writable: bool = False,
        device: Any = "cpu",
        pin_memory: bool | Literal["auto"] = "auto",
        verify: bool = True,
        threads: int | Literal["auto"] = "auto",
        prefetch: int | Literal["auto"] = "auto",
        memory_limit: int | None = None,
        select: str | None = None,
        exclude: ArrayLike | str | os.PathLike[str] | None = None,
        weights: ArrayLike | Weights | Mix | None = None,
        samples_per_epoch: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key != "self"}
        self.dataset = dataset_of(dataset, cache)
        self._arguments = {**arguments, "dataset": self.dataset, "cache": None}
        RankedLoader.__init__(self, rank, world_size)
        asked = OrderOptions(shuffle, seed, select, exclude, weights, samples_per_epoch)
        order = sample_order(self.dataset, asked)
        ranks = self._ranks
        Resumable.__init__(self, order, batch_size, ranks.rank, ranks.world_size, drop_last)
        target = device_target(device, pin_memory, framework, checked_form(form, layout))
        self._device = target.device
        self._assembly = assembly_of(
            self.dataset, framework_named(framework), fields, dtype, target.form, writable
        )
        self._timeout = checked_timeout(timeout)
        self._options: dict[str, Any] = {
            "order": order.core,
            **core_options(self.dataset, arguments, self._shares["batch_size"]),
            "layout": "NCHW" if target.form == "wire" else layout,
            "form": target.form,
            "page_lock": target.page_lock,
        }
        self._closed = False
        self._written = WriteWarning()
        self._slow = SlowWarning("e2eio.Loader")
        self._begin_here()

    def _begin_here(self) -> None:
        self._pid = os.getpid()
        self._idle: list[_core.Pipeline] = [self._make_pipeline()]
        self._latest = self._idle[0]
        self._iterators: weakref.WeakSet[BatchIterator] = weakref.WeakSet()
        self.last_batch_shape = self._latest.last_batch_shape
        self._others: weakref.WeakSet[Loader] = weakref.WeakSet()  # closed with this one

    def __getstate__(self) -> dict[str, Any]:
        return {"arguments": self._arguments, "next": self._next}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Loader.__init__(self, **state["arguments"])
        self._next = state["next"]

    def _make_pipeline(self) -> _core.Pipeline:
        return _core.Pipeline(self.dataset.shards, **self._shares, **self._options)

    def __len__(self) -> int:
        """Batches per epoch, equal on all ranks."""
        self._settled_ranks()
        return self._plan.n_batches()

    def __repr__(self) -> str:
        return (
            f"Loader({len(self)} batches of {self._shares['batch_size']} from {self.dataset!r}, "
            f"rank {self.rank} of {self.world_size}, {self._options['threads']} threads)"
        )

    def seek(self, epoch: int, batch: int) -> None:
        """Make the next iteration begin at that batch of that epoch; nothing before it is read."""
        self._settled_ranks()  # a step of all ranks is what the batches count
        super().seek(epoch, batch)

    def _move_to(self, ranks: Ranks) -> None:
        self._share_among(ranks.rank, ranks.world_size)
        while self._idle:
            self._idle.pop().close()
        self._idle.append(self._make_pipeline())
        self._latest = self._idle[0]

    def __iter__(self) -> Any:
        batches = self.host_batches()
        if self._device is None:
            return batches
        image = self.dataset.schema.image.name
        return device_batches(
            batches,
            self._device,
            image=image if self.as_dict else self.fields.index(image),
            channels_last=self._arguments["layout"] == "NHWC",
            pageable=self._arguments["pin_memory"] is False,
        )

    def host_batches(self) -> BatchIterator:
        """Return the next epoch in host memory, whatever the device: in wire form if there is one."""
        self.check_usable()
        self._compare_if_due()
        try:
            pipeline = self._idle.pop()
        except IndexError:
            pipeline = self._make_pipeline()
        self._latest = pipeline
        iterator = BatchIterator(self, pipeline, self._assembly.framework)
        self._iterators.add(iterator)
        return iterator

    def begin(self, pipeline: _core.Pipeline) -> EpochProgress:
        """Start a pipeline on the next iteration; a state may have been loaded since ``iter()``."""
        self._compare_if_due()
        self.dataset.awaken()
        return super().begin(pipeline)

    def _state_loaded(self) -> None:
        self._compare_anew()

    def _delivered(self) -> dict[str, str]:
        # As it was asked for: the form of a rank with a card differs from that of one without.
        asked = {name: self._arguments[name] for name in ("dtype", "layout", "form")}
        return {
            "fields": ", ".join(self.fields),
            "channels": ", ".join(self.dataset.channels[i] for i in self._options["channels"]),
            **asked,
            "transforms": transforms_text(
                self._arguments["transforms"], self._options["transforms"]
            ),
        }

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what a batch holds, in order."""
        return self._assembly.fields

    @property
    def as_dict(self) -> bool:
        """Whether batches are dicts, else tuples in the order of `fields`."""
        return self._assembly.as_dict

    def check_usable(self) -> None:
        """Raise if the loader is closed; in a forked child, begin anew without the parent's threads."""
        if self._closed:
            raise ConfigError("the loader is closed; make a new one")
        if os.getpid() != self._pid:
            self._begin_here()

    def assemble(self, batch: _core.Batch, framework: Framework) -> Any:
        """Return the batch as the framework's arrays, in the order of the fields."""
        assembly = self._assembly
        if framework is not assembly.framework:
            assembly = replace(assembly, framework=framework)
        return assembly.assemble(batch, self._written.note)

    def note_wait(self, waited_s: float) -> None:
        """Say what the consumer waits for, the first time that a batch takes very long."""
        self._slow.note(waited_s, self.dataset, stacklevel=6)

    def reuse(self, pipeline: _core.Pipeline) -> None:
        """Take back the pipeline of an iterator that is done with it: its memory and, after a full epoch, threads."""
        if os.getpid() != self._pid:
            return  # its threads are the parent's
        if self._closed or self._idle:
            pipeline.close()
        else:
            self._idle.append(pipeline)

    @property
    def options(self) -> Mapping[str, Any]:
        """What the core was asked for: ``batch_size``, ``channels``, ``dtype``, ``layout`` and the rest."""
        return MappingProxyType({**self._shares, **self._options})

    @property
    def framework(self) -> str:
        """Whose arrays batches are made of."""
        return str(self._arguments["framework"])

    @property
    def timeout_s(self) -> float | None:
        """Seconds that an iterator waits for a batch; None: for ever."""
        return self._timeout

    def stats(self) -> dict[str, Any]:
        """Return counters of the latest iteration's pipeline.

        ``batches``, ``samples``, ``record_bytes`` (read), ``stall_s`` (waited for batches), ``slots`` (that
        exist), ``slots_lent``, ``slots_made`` (more than prefetch + 2 if batches were held), ``slot_bytes`` (of
        sparse forms: of the largest batch so far), ``threads`` and ``prefetch`` (now), ``threads_limit``,
        ``prefetch_limit``, ``setting_changes`` (of the two by "auto", its trials included), ``kernels``, ``made_bytes``
        (of shards in memory that were made of files of other formats).

        ``io`` is a dict of its own: ``kind`` ("pread", "uring", "throttled ..."), ``reads`` and ``bytes`` (asked of
        the storage), ``records``, ``records_per_read`` (more than 1 where neighbours were read together),
        ``records_ahead`` (read before a decoding thread asked), ``waits`` (reads that the page cache did not have),
        ``retries`` (of requests to servers), ``wait_s`` (decoding threads spent on reads, added up), ``readers``
        (threads that read ahead; 0 while the page cache is warm), ``ahead_bytes`` and ``ahead_limit_bytes`` (read and
        not decoded yet, now and at most).
        """
        return {**self._latest.stats(), "made_bytes": self.dataset.held_bytes}

    def to_tf(self) -> Any:
        """Return a ``tf.data.Dataset`` of the batches, images [n, H, W, C]: :func:`e2eio.adapters.tf.dataset`."""
        adapter: Any = framework_named("tf")
        return adapter.dataset(self)

    def close(self) -> None:
        """Stop and join all threads; idempotent. Batches that are held stay valid."""
        self._closed = True
        for other in list(self._others):
            other.close()
        for iterator in list(self._iterators):
            iterator.close()
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
