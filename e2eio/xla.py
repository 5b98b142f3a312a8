"""Batches on an XLA device of torch_xla: the only module that imports torch_xla. Not yet run on a TPU.

>>> loader = e2eio.Loader("data/top", batch_size=64, shuffle=True, drop_last=True,
...     fields=("X_jets", "y"), rank=xr.global_ordinal(), world_size=xr.world_size())  # doctest: +SKIP
>>> for images, labels in e2eio.xla.device_loader(loader, torch_xla.device()):  # doctest: +SKIP
...     train_step(images, labels)
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from e2eio.adapters import torch as adapter
from e2eio.batches.read_ahead import ReadAhead
from e2eio.errors import ConfigError, MissingDependencyError
from e2eio.loader import Loader

__all__ = ["DeviceLoader", "HostEpoch", "device_loader"]


def device_loader(loader: Loader, device: Any, **kwargs: Any) -> DeviceLoader:
    """Return the loader's batches on an XLA device, sent ahead by torch_xla's threads.

    Takes the place of ``torch_xla.distributed.parallel_loader.MpDeviceLoader(loader, device, **kwargs)``, and differs in two
    points: an error in loading is raised, after the batches before it, where torch_xla ends the epoch as if nothing had
    happened; and leaving the loop early joins torch_xla's threads.

    torch_xla's threads hold 16 + 8 batches by default, and read them at times of their own: what they get are copies,
    which own their memory. The loader's state counts the batches that the loop was given. Written from the sources of
    torch_xla 2.9 and tested with a stand-in for its ParallelLoader, not on a TPU.

    Parameters
    ----------
    loader : Loader
        With this process's share (``rank=xr.global_ordinal(), world_size=xr.world_size()``) and ``form="dense"``.
    device : torch.device or str
        As of ``torch_xla.device()``.
    **kwargs
        Of torch_xla's ParallelLoader: ``loader_prefetch_size``, ``device_prefetch_size``, ``input_sharding``, ... A dict of
        ``input_sharding`` needs batches that are dicts (``fields=None``).

    Raises
    ------
    ConfigError
        The loader's form is not "dense".
    PlanMismatchError, RankMissingError
        At the first batch, where torch.distributed or MPI connects `world_size` processes: they would load different
        things, or some do not come.
    MissingDependencyError
        torch_xla is not installed.
    """
    if loader.options["form"] != "dense":
        raise ConfigError(
            f"form is {loader.options['form']!r}; expected 'dense': torch_xla sends tensors of one shape"
        )
    try:
        parallel_loader = import_module("torch_xla.distributed.parallel_loader")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "torch_xla is missing: needed for e2eio.xla; install the release that goes with your torch, "
            "as with 'pip install torch_xla[tpu]', or use e2eio.jax"
        ) from error
    return DeviceLoader(loader, device, parallel_loader.ParallelLoader, kwargs)


class DeviceLoader:
    """The epochs of a loader on an XLA device; each iteration is one. See :func:`device_loader`.

    Thread rule: one thread at a time. While an iteration lasts, torch_xla's threads are the loader's consumer.
    """

    def __init__(
        self, loader: Loader, device: Any, parallel_loader: Any, kwargs: dict[str, Any]
    ) -> None:
        self._loader = loader
        self._device = device
        self._parallel_loader = parallel_loader
        self._kwargs = kwargs

    def __len__(self) -> int:
        """Batches per epoch, equal on all ranks."""
        return len(self._loader)

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration this epoch (0 or more)."""
        self._loader.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        self._loader.check_processes()  # not in torch_xla's thread, which would keep the error until the end
        epoch = HostEpoch(self._loader)
        parallel = self._parallel_loader(epoch, [self._device], **self._kwargs)
        try:
            for batch in parallel.per_device_loader(self._device):
                epoch.use()
                yield batch
            epoch.end()
        finally:
            epoch.close()
            parallel.close()
        if epoch.error is not None:
            raise epoch.error

    def close(self) -> None:
        """Close the loader, joining its threads; idempotent."""
        self._loader.close()

    def __enter__(self) -> DeviceLoader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class HostEpoch(Iterator[Any]):
    """One epoch of a loader as torch_xla's loader thread needs it: owning tensors, and no exceptions.

    That thread has no one to tell of an exception: one of ``next`` ends the epoch early, one of ``iter`` leaves the
    consumer waiting for ever. So the loader is first touched in ``next``, and an error ends the epoch and is kept in `error`.

    Thread rule: one thread iterates; close() from any other.
    """

    def __init__(self, loader: Loader) -> None:
        self.error: Exception | None = None
        self._loader = loader
        self._batches: ReadAhead | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._loader)

    def __next__(self) -> Any:
        if self._closed or self.error is not None:
            raise StopIteration
        try:
            return _owning(next(self._started()))
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise StopIteration from error

    def _started(self) -> ReadAhead:
        if self._batches is None:
            self._batches = ReadAhead(self._loader.host_batches(), adapter)
        return self._batches

    def use(self) -> None:
        """Note that the loop has been given one more batch: the loader's state counts these."""
        if self._batches is not None:
            self._batches.use()

    def end(self) -> None:
        """Note that the loop knows that the epoch is over, if it is."""
        if self._batches is not None and self.error is None:
            self._batches.end()

    def close(self) -> None:
        """End the epoch, also for a thread that waits for its next batch; idempotent."""
        self._closed = True
        if self._batches is not None:
            self._batches.close()


def _owning(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {name: tensor.clone() for name, tensor in batch.items()}
    return tuple(tensor.clone() for tensor in batch)
