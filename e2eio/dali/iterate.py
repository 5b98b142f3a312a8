"""Batches of a DALI pipeline as torch tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from e2eio.dali.binding import Pipeline, build, to_torch
from e2eio.dali.feed import Source
from e2eio.dali.graph import pipeline, source_of
from e2eio.errors import ConfigError

__all__ = ["Batches", "iterator"]


class _Epoch(Iterator[Any]):
    """What a loop goes over. Without close(): a generator that delegates to it is closed alone, not the loader with it."""

    def __init__(self, batches: Batches, number: int) -> None:
        self._batches = batches
        self._number = number
        self._over = False

    def __next__(self) -> Any:
        if self._over:
            raise StopIteration
        try:
            return self._batches._next_of(self._number)
        except StopIteration:
            self._over = True
            raise


class Batches:
    """Iterates over the batches of a pipeline that begins with a loader, one epoch after the other.

    Each ``iter()`` is an epoch: whoever leaves a loop early begins the next epoch with the next loop. (DALI's own
    iterators go on in the middle.) There is one epoch at a time. Batches are tuples or dicts, as the loader's; tensors
    are DALI's memory, without a copy, or, where the graph does not touch the images, lent by the loader: read them, do
    not write into them. They stay valid for as long as they are held.

    Thread rule: one thread.

    Parameters
    ----------
    pipe : nvidia.dali.Pipeline
        Its graph begins with :func:`e2eio.dali.inputs`, as that of :func:`e2eio.dali.pipeline` does.
    names : sequence of str or None
        Of the outputs: batches are dicts. None: the loader's fields, as tuples where the loader makes tuples.

    Raises
    ------
    ConfigError
        The graph does not begin with a loader of e2eio.
    """

    def __init__(self, pipe: Any, *, names: Sequence[str] | None = None) -> None:
        source = source_of(pipe)
        if source is None:
            raise ConfigError(
                "the pipeline does not begin with a loader of e2eio; call e2eio.dali.inputs(source) in its graph"
            )
        self._pipe = pipe
        self._source: Source = source
        self._names = None if names is None else tuple(names)
        self._checkpointing = True
        build(pipe)
        try:  # before anything runs, for whoever asks before the first batch
            self._latest = [pipe.checkpoint()]
        except RuntimeError:  # DALI has no other way to tell
            self._checkpointing = False
        self._under_way = False
        self._n_loops = 0  # a number, as each loop knows this object
        self._error: BaseException | None = None
        self._ready: list[Any] = []  # a batch that a signal kept from being returned

    def __len__(self) -> int:
        """Batches per epoch, equal on all ranks."""
        return len(self._source)

    def __iter__(self) -> Iterator[Any]:
        if self._under_way:
            self._abandon()
        self._n_loops += 1
        return _Epoch(self, self._n_loops)

    def __next__(self) -> Any:
        """Return the next batch of the epoch that is under way, else the first of the next one."""
        return self._next_of(self._n_loops)

    def _next_of(self, loop: int) -> Any:
        if loop != self._n_loops:
            raise ConfigError(
                "another epoch of these batches was begun, and a pipeline has one at a time; make another pipeline"
            )
        if not self._under_way:
            self._feed()
            self._under_way = True
        if not self._ready:
            try:
                outputs = self._pipe.outputs()
            except StopIteration:
                self._end()
                raise
            self._latest = []
            tensors = to_torch(outputs, copy=not self._pipe.exec_dynamic)
            self._ready.append(self._assemble(tensors))
        self._feed()
        return self._ready.pop()

    def checkpoints(self) -> list[bytes]:
        """Return the state after the latest batch: the argument ``checkpoint=`` of a pipeline made in the same way.

        The pipeline that is given it goes on with the next batch and the same random draws.

        Raises
        ------
        ConfigError
            The pipeline was made without checkpointing.
        """
        if not self._checkpointing:
            raise ConfigError("no checkpoints: make the pipeline with enable_checkpointing=True")
        return self._latest or [self._pipe.checkpoint()]

    def close(self) -> None:
        """End the iteration and the loader; batches that are held stay valid. Idempotent."""
        self._source.end_epoch()
        self._source.close()
        self._source.loader.close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _feed(self) -> None:
        """Let DALI begin another batch. What fails is raised after the batches that are made already."""
        try:
            self._pipe.schedule_run()
        except Exception as error:
            self._error = error
            self._source.end_epoch()
            self._pipe.schedule_run()  # finds the end of the epoch, so that the pipeline can go on after it

    def _end(self) -> None:
        self._pipe.reset()
        self._under_way = False
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _abandon(self) -> None:
        self._source.end_epoch()
        self._feed()
        try:
            while True:
                self._pipe.outputs()
        except StopIteration:
            self._error = None
            self._ready.clear()
            self._source.kept_aside.clear()
            self._end()

    def _assemble(self, tensors: tuple[Any, ...]) -> Any:
        if self._source.kept_aside:
            named = dict(zip(self._source.fed_fields, tensors, strict=True))
            image = self._source.kept_aside.popleft()
            tensors = tuple(named.get(name, image) for name in self._source.fields)
        names = self._names
        if names is None and not self._source.as_dict:
            return tensors
        names = self._source.fields if names is None else names
        if len(names) != len(tensors):
            raise ConfigError(
                f"the pipeline has {len(tensors)} outputs and {len(names)} names: {', '.join(names)}; "
                "expected as many: pass names="
            )
        return dict(zip(names, tensors, strict=True))


def iterator(
    pipe: Any,
    *,
    names: Sequence[str] | None = None,
    **options: Any,
) -> Batches:
    """Return the batches of a DALI pipeline as torch tensors, on the device where the graph leaves them.

    Parameters
    ----------
    pipe : Pipeline, Dataset, path or Loader
        A pipeline of :func:`pipeline`, or of one's own graph over :func:`inputs`; or what :func:`pipeline` takes.
    names : sequence of str or None
        Of the outputs, where they are not the loader's fields: batches are dicts.
    **options
        Of :func:`pipeline`, unless `pipe` is one already.

    Returns
    -------
    Batches
        Has a length and checkpoints.

    Raises
    ------
    ConfigError
        Options together with a pipeline, or one that does not begin with a loader of e2eio; or as :func:`pipeline`.

    Examples
    --------
    >>> batches = e2eio.dali.iterator("data/top", batch_size=64, shuffle=True, fields=("X_jets", "y"),
    ...                               device="gpu", augment=(t.FlipEta(0.5),))  # doctest: +SKIP
    >>> for images, labels in batches:  # doctest: +SKIP
    ...     step(images, labels)
    """
    if not isinstance(pipe, Pipeline):
        return Batches(pipeline(pipe, **{"pass_by": True, **options}), names=names)
    if options:
        raise ConfigError(
            f"{', '.join(options)} given with a pipeline; expected them where it is made"
        )
    return Batches(pipe, names=names)
