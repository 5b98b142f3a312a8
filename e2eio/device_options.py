"""The loader's arguments about devices: what is checked, and loaded, only if there is one."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any, NamedTuple

from e2eio.errors import ConfigError

__all__ = ["DeviceTarget", "device_batches", "device_target"]

_PAGEABLE = (0, 0, 0, 0, 0, 0)


class DeviceTarget(NamedTuple):
    """Where a loader delivers.

    Attributes
    ----------
    device : torch.device or None
        None: the host.
    form : str
        Of batches in host memory.
    page_lock : tuple of int
        What the core locks memory with: addresses of functions, flags and a context.
    """

    device: Any
    form: str
    page_lock: tuple[int, ...]


def device_target(device: Any, pin_memory: object, framework: str, form: str) -> DeviceTarget:
    """Return where to deliver.

    Raises
    ------
    ConfigError
        There is no such device, or it goes with something else.
    """
    if not isinstance(pin_memory, bool) and pin_memory != "auto":
        raise ConfigError(f"pin_memory is {pin_memory!r}; expected True, False or 'auto'")
    if str(device).split(":")[0] == "cpu":  # torch knows "cpu:0" as well
        return DeviceTarget(None, form, _page_lock() if pin_memory is True else _PAGEABLE)
    if framework != "torch" or form == "wire":
        raise ConfigError(
            f"device is {str(device)!r} with framework={framework!r} and form={form!r}; expected framework='torch' "
            "and form='dense' or 'coo', or device='cpu'"
        )
    found = import_module("e2eio.device.lanes").usable_device(device)
    lock = _PAGEABLE if pin_memory is False else _page_lock(found)
    return DeviceTarget(found, "wire" if form == "dense" else form, lock)


def _page_lock(device: Any = None) -> tuple[int, ...]:
    lock: tuple[int, ...] = import_module("e2eio.device.page_lock").cuda_page_lock(device)
    if lock == _PAGEABLE:
        warnings.warn(
            "pin_memory is asked for, but there is no CUDA runtime that could lock memory to its pages; it stays pageable",
            stacklevel=4,
        )
    return lock


def device_batches(batches: Any, device: Any, **options: Any) -> Any:
    """Return a loader's batches on a device: :class:`e2eio.device.loading.DeviceBatches`."""
    return import_module("e2eio.device.loading").DeviceBatches(batches, device, **options)
