"""A delivered batch: memory of the ring, lent until the last array over it dies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio import _core

__all__ = ["Lease", "coo_arrays", "wire_array"]

_TYPE_STRINGS = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}


class Lease:
    """Keeps a slot out of the ring for as long as an array over it lives.

    The array of :meth:`array` has the lease as its base; numpy drops it with the last view, and the slot
    returns to the ring.

    Parameters
    ----------
    batch : _core.Batch
    dtype : str
        "float32", "float16" or "bfloat16" (the latter as uint16 words, since numpy has none).
    on_dirty : callable
        Called if the batch turns out to have been written into.
    """

    __slots__ = ("__array_interface__", "_batch", "_on_dirty", "_was_written")

    def __init__(self, batch: _core.Batch, dtype: str, on_dirty: Callable[[], None]) -> None:
        self._batch = batch
        self._on_dirty = on_dirty
        self._was_written: Callable[[], bool] | None = None
        self.__array_interface__ = {
            "version": 3,
            "shape": batch.shape,
            "typestr": _TYPE_STRINGS[dtype],
            "data": (batch.address, True),
        }

    def array(self, *, writable: bool) -> NDArray[Any]:
        """Return the batch as a numpy array over the slot; numpy keeps a read-only one read-only."""
        self.__array_interface__["data"] = (self._batch.address, not writable)
        return np.asarray(self)

    def watch(self, was_written: Callable[[], bool]) -> None:
        """Ask this when the lease ends; if true, the slot is cleared in full before its next use."""
        self._was_written = was_written

    def __del__(self) -> None:
        dirty = self._was_written is not None and self._was_written()
        if dirty:
            self._on_dirty()
        self._batch.release(dirty)


class _Window:
    """The base of an array over memory of a batch: the batch lives, and is lent, as long as one of these."""

    __slots__ = ("__array_interface__", "_batch")

    def __init__(
        self, batch: _core.Batch, address: int, shape: tuple[int, ...], type_string: str
    ) -> None:
        self._batch = batch
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": type_string,
            "data": (address, False),
        }


def coo_arrays(batch: _core.Batch, dtype: str) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Return coordinates int32 [nnz, 4] and values [nnz] of a coo batch, without a copy.

    They may be written into: sparse batches are written from end to end when their memory is used again.
    bfloat16 values are uint16 words.
    """
    if batch.coo is None:
        raise ValueError("not a coo batch; make the pipeline with form='coo'")
    coordinates, values, n = batch.coo
    return (
        np.asarray(_Window(batch, coordinates, (n, 4), "<i4")),
        np.asarray(_Window(batch, values, (n,), _TYPE_STRINGS[dtype])),
    )


def wire_array(batch: _core.Batch) -> NDArray[np.uint8]:
    """Return the buffer of a wire batch, uint8 [n_bytes], without a copy; it may be written into."""
    if batch.wire is None:
        raise ValueError("not a wire batch; make the pipeline with form='wire'")
    address, n_bytes = batch.wire
    return np.asarray(_Window(batch, address, (n_bytes,), "|u1"))
