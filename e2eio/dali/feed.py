"""The loader as what DALI's external_source asks for."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from e2eio.errors import ConfigError
from e2eio.loader import BatchIterator, Loader
from e2eio.options import at_least, checked_flag

__all__ = ["BatchInfo", "Source", "source"]


class BatchInfo(Protocol):
    """DALI's, as far as a source reads it."""

    #: Ends that the pipeline has seen.
    epoch_idx: int
    #: Batches before, in this epoch.
    iteration: int


class Source:
    """Gives DALI the batches of a loader, by their place: a callable of one argument, for ``fn.external_source``.

    DALI can checkpoint such a callable: it asks for (epoch, iteration), and gets exactly that batch, whichever it
    asked for before. In order, it costs nothing; elsewhere, the loader seeks there without reading what lies between.

    Batches are lent by the loader's ring, and DALI reads them without a copy (``no_copy=True``). So the latest
    ``prefetch_queue_depth + 1`` of them are held here: as long as DALI may still read them.

    Thread rule: one thread, that which runs the pipeline. No two pipelines share a source.

    Parameters
    ----------
    loader : Loader
        With ``framework="numpy"`` or ``"torch"`` and dense images, float32 or float16. The source is its only user.
    fill_last_batch : bool
        Repeat the last sample until the last batch is as large as the others.
    prefetch_queue_depth : int
        Of the pipeline, or more. :func:`e2eio.dali.inputs` takes the pipeline's.
    aside : str or None
        A field that DALI is not given, since nothing in the graph touches it and DALI would copy it. Not with
        `fill_last_batch`.

    Raises
    ------
    ConfigError
        The loader's batches are nothing that DALI knows.
    """

    def __init__(
        self,
        loader: Loader,
        *,
        fill_last_batch: bool = False,
        prefetch_queue_depth: int = 2,
        aside: str | None = None,
    ) -> None:
        _check_loader(loader)
        self.loader = loader
        self._aside = aside
        #: What was kept from DALI, as the loader made it: one for each batch that was fed.
        self.kept_aside: deque[Any] = deque()
        self._fill = checked_flag("fill_last_batch", fill_last_batch)
        self._held: deque[tuple[NDArray[Any], ...]] = deque()
        self.hold(prefetch_queue_depth)
        self._iterator: BatchIterator | None = None
        self._next = (-1, 0)  # the place of the iterator
        self._end = (-1, 0)  # of this epoch no batch from here on
        self._epoch = 0
        self._stopped = False
        #: The loader's batches are dicts; known from the first batch on.
        self.as_dict = False

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self.loader)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the arrays of a batch, in order."""
        return self.loader.fields

    @property
    def fed_fields(self) -> tuple[str, ...]:
        """Names of the arrays that DALI is given, in order; at least one."""
        return tuple(name for name in self.fields if name != self._aside) or ("row",)

    @property
    def layout(self) -> str:
        """Layout of the images: "CHW" or "HWC"."""
        return str(self.loader.options["layout"]).lstrip("N")

    def hold(self, prefetch_queue_depth: int) -> None:
        """Keep batches until a pipeline of this depth has read them.

        When batch k is fed, batches up to k - depth have left the pipeline; one more is kept for good measure.
        """
        depth = at_least(1, "prefetch_queue_depth", prefetch_queue_depth)
        self._held = deque(self._held, maxlen=depth + 1)

    def __call__(self, at: BatchInfo | int) -> tuple[NDArray[Any], ...]:
        """Return the arrays of the batch at a place, in the order of :attr:`fed_fields`.

        Parameters
        ----------
        at : BatchInfo or int
            Epoch and iteration (``batch_info=True``), or the iteration alone: the epoch is then one more after each
            StopIteration, and a restored pipeline begins with epoch 0.

        Raises
        ------
        StopIteration
            The epoch is over; again and again if asked again.
        E2eioError
            As the loader's; a corrupt record is named with file and sample.
        """
        epoch, index = self._place(at)
        if index >= len(self) or (epoch == self._end[0] and index >= self._end[1]):
            self._stop(epoch, index)
        if self._iterator is None or (epoch, index) != self._next:
            self._seek(epoch, index)
        arrays = self._take(epoch, index)
        self._next = (epoch, index + 1)
        if self._fill:
            arrays = tuple(_filled(array, self.loader.options["batch_size"]) for array in arrays)
        self._held.append(arrays)
        return arrays

    def end_epoch(self) -> None:
        """Answer StopIteration for the rest of the epoch that was asked for last."""
        self._end = (self._epoch, 0)

    def close(self) -> None:
        """End the loader's iteration and let go of its batches; idempotent."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator.close()
        self._held.clear()
        self.kept_aside.clear()

    def _place(self, at: BatchInfo | int) -> tuple[int, int]:
        if not isinstance(at, int):
            self._epoch = at.epoch_idx
            return at.epoch_idx, at.iteration
        if self._stopped and at == 0:
            self._epoch += 1
        self._stopped = False
        return self._epoch, at

    def _stop(self, epoch: int, index: int) -> None:
        self._stopped = True
        if self._end[0] != epoch:
            self._end = (epoch, index)
        raise StopIteration

    def _seek(self, epoch: int, index: int) -> None:
        if self._iterator is not None:
            self._iterator.close()
        self.loader.seek(epoch, index)
        self._iterator = iter(self.loader)
        self._next = (epoch, index)

    def _take(self, epoch: int, index: int) -> tuple[NDArray[Any], ...]:
        if self._iterator is None:
            raise ConfigError("the source is closed; make a new one")
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._stop(epoch, index)
        except (KeyboardInterrupt, SystemExit, TimeoutError):
            raise  # the iterator goes on where it was
        except BaseException:
            self._iterator = None  # whoever asks again gets the same error again
            raise
        self.as_dict = isinstance(batch, dict)
        values = dict(zip(self.fields, batch.values() if self.as_dict else batch, strict=True))
        if self._aside is not None:
            self.kept_aside.append(values.pop(self._aside))
            values = values or {"row": np.arange(len(self.kept_aside[-1]), dtype=np.int32)}
        return tuple(np.asarray(value) for value in values.values())


def source(
    loader: Loader, *, fill_last_batch: bool = False, prefetch_queue_depth: int = 2
) -> Source:
    """Return a loader as a source for ``nvidia.dali.fn.external_source``, which can be checkpointed.

    Parameters
    ----------
    loader : Loader
        Dense images, float32 or float16; the source is its only user.
    fill_last_batch : bool
        Repeat the last sample until the last batch is as large as the others.
    prefetch_queue_depth : int
        Of the pipeline, or more: so many batches stay valid. (:func:`e2eio.dali.inputs` sets it.)

    Returns
    -------
    Source
        A callable of one argument, a BatchInfo or an index.

    Examples
    --------
    >>> loader = e2eio.Loader("data/top", batch_size=64, fields=("X_jets", "y"))  # doctest: +SKIP
    >>> feed = e2eio.dali.source(loader)  # doctest: +SKIP
    >>> @pipeline_def(batch_size=64, num_threads=2, device_id=None, enable_checkpointing=True)  # doctest: +SKIP
    ... def graph():
    ...     images, labels = fn.external_source(feed, num_outputs=2, batch_info=True, no_copy=True)
    ...     return fn.flip(images, vertical=1, horizontal=0), labels
    """
    return Source(
        loader, fill_last_batch=fill_last_batch, prefetch_queue_depth=prefetch_queue_depth
    )


def _check_loader(loader: object) -> None:
    if not isinstance(loader, Loader):
        raise ConfigError(f"loader is {loader!r}; expected an e2eio.Loader")
    form, dtype = loader.options["form"], loader.options["dtype"]
    if form != "dense":
        raise ConfigError(f"form is {form!r}; expected 'dense': DALI has no sparse tensors")
    if dtype not in ("float32", "float16"):
        raise ConfigError(
            f"dtype is {dtype!r}; expected 'float32' or 'float16': DALI's torch plugin has no other; "
            "convert the batches with .to(torch.bfloat16)"
        )


def _filled(array: NDArray[Any], batch_size: int) -> NDArray[Any]:
    missing = batch_size - len(array)
    return array if missing <= 0 else np.concatenate([array, np.repeat(array[-1:], missing, 0)])
