"""From the pipeline's batches to the consumer's: waiting for one, and its fields as arrays."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from e2eio.batches.forms import Wire
from e2eio.batches.lease import Lease, coo_arrays, wire_array
from e2eio.options import SAMPLE_ID, checked_dtype, checked_fields

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from e2eio import _core
    from e2eio.batches.frameworks import Framework
    from e2eio.dataset import Dataset

__all__ = [
    "SLOW_BATCH_S",
    "BatchAssembly",
    "SlowWarning",
    "WriteWarning",
    "assembly_of",
    "wait_for_batch",
]

_WAIT_S = 0.1  # how long a wait lasts before Python may deliver a signal

#: Seconds without a batch after which a loader without a timeout says so, once.
SLOW_BATCH_S = 60.0


class SlowWarning:
    """Says what the consumer of a loader waits for, the first time that a batch takes very long.

    Thread rule: one thread at a time.
    """

    def __init__(self, loader: str) -> None:
        self._loader = loader  # as users call it
        self._said = False

    def note(self, waited_s: float, dataset: Dataset, *, stacklevel: int) -> None:
        """Note that a batch of the dataset has been waited for that long."""
        if waited_s > SLOW_BATCH_S and not self._said:
            self._said = True
            warnings.warn(
                f"no batch for {waited_s:.0f} s: still reading {dataset!r}; if the storage is not just slow, pass "
                f"timeout= to {self._loader} to have an error instead",
                stacklevel=stacklevel,
            )


class WriteWarning:
    """Says that a lent batch was written into, the first time that it was.

    Thread rule: any thread; two of them may both say it.
    """

    def __init__(self) -> None:
        self._said = False

    def note(self) -> None:
        """Note that a batch was."""
        if not self._said:
            self._said = True
            warnings.warn(
                "a batch was changed in place; it is cleared in full, which is slow: pass writable=True "
                "to e2eio.Loader, or copy the batch first",
                stacklevel=2,
            )


@dataclass(frozen=True, slots=True)
class BatchAssembly:
    """Makes the arrays of a batch. Thread rule: any thread.

    Parameters
    ----------
    framework : Framework
        What the arrays are.
    fields : tuple of str
        Names of what is delivered, in order.
    as_dict : bool
        Batches are dicts, else tuples.
    image_name : str
        The one of `fields` that the core decodes.
    scalars_at : callable
        Returns a scalar field, by name, of samples by their numbers.
    dtype, form, writable
        As in :class:`e2eio.Loader`.
    """

    framework: Framework
    fields: tuple[str, ...]
    as_dict: bool
    image_name: str
    scalars_at: Callable[[str, NDArray[np.int64]], NDArray[Any]]
    dtype: str
    form: str
    writable: bool

    def assemble(self, batch: _core.Batch, on_write: Callable[[], None]) -> Any:
        """Return the batch as the framework's arrays, in the order of the fields.

        `on_write` is called if it turns out to have been written into, and is not writable.
        """
        ids = batch.ids
        values: dict[str, Any] = {}
        for name in self.fields:
            if name == self.image_name:
                values[name] = self._image(batch, on_write)
            elif name == SAMPLE_ID:
                values[name] = self.framework.scalar(ids)
            else:
                values[name] = self.framework.scalar(self.scalars_at(name, ids))
        return values if self.as_dict else tuple(values[name] for name in self.fields)

    def _image(self, batch: _core.Batch, on_write: Callable[[], None]) -> Any:
        if self.form == "wire":
            return Wire(wire_array(batch))
        if self.form == "coo":
            return self.framework.coo(*coo_arrays(batch, self.dtype), batch.shape, dtype=self.dtype)
        lease = Lease(batch, self.dtype, on_write)
        return self.framework.image(lease, dtype=self.dtype, writable=self.writable)


def assembly_of(
    dataset: Dataset,
    framework: Framework,
    fields: Sequence[str] | None,
    dtype: str,
    form: str,
    writable: bool,
) -> BatchAssembly:
    """Return what makes the batches of a dataset.

    Raises
    ------
    ConfigError
        There is no such field or dtype, or the framework has no such dtype.
    """
    framework.check_dtype(checked_dtype(dtype))
    return BatchAssembly(
        framework,
        fields=checked_fields(dataset, fields),
        as_dict=fields is None,
        image_name=dataset.schema.image.name,
        scalars_at=dataset.scalars_at,
        dtype=dtype,
        form=form,
        writable=writable,
    )


def wait_for_batch(
    pipeline: _core.Pipeline,
    timeout_s: float | None,
    *,
    note_wait: Callable[[float], None],
    late: Callable[[float], Exception],
    ended: Callable[[], bool] = lambda: False,
) -> _core.Batch | None:
    """Return the next batch; None: the epoch is over. Signals are delivered meanwhile.

    Parameters
    ----------
    pipeline : _core.Pipeline
    timeout_s : float or None
        None: wait for ever.
    note_wait : callable
        Called now and then with the seconds waited so far.
    late : callable
        Returns the error to raise when `timeout_s` have passed.
    ended : callable
        Returns whether somebody else has ended the iteration.
    """
    begin = time.monotonic()
    while True:
        batch = pipeline.next(_WAIT_S)
        if batch is not None:
            return batch
        if ended() or pipeline.exhausted:
            return None
        waited_s = time.monotonic() - begin
        note_wait(waited_s)
        if timeout_s is not None and waited_s > timeout_s:
            raise late(timeout_s)
