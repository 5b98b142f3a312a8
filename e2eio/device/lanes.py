"""Where copies and kernels run beside the consumer's work: a stream of the card, or the host itself."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Protocol

import torch

from e2eio.errors import ConfigError

__all__ = ["CudaLane", "HostLane", "Lane", "lane_for", "usable_device"]


class Lane(Protocol):
    """A queue of work on one device, beside the one that the consumer's work goes into."""

    device: torch.device

    def work(self) -> AbstractContextManager[Any]:
        """Queue what is launched in this context here."""

    def mark(self) -> Any:
        """Return an event that is over when all that is queued here now has been done."""

    def is_over(self, event: Any) -> bool:
        """Whether that point was passed. Does not wait."""

    def finish(self, event: Any) -> None:
        """Wait on the host until that point is passed."""

    def keep(self, tensors: list[torch.Tensor]) -> None:
        """Keep the memory of the consumer's tensors until what is queued here now is done."""

    def hand_over(self, event: Any, tensors: list[torch.Tensor]) -> None:
        """Let the consumer's stream wait for the event, and keep the memory until its work is done."""

    def consumed(self) -> Any:
        """Return what is over when all work is done that the consumer has queued so far."""

    def wait_for(self, event: Any) -> None:
        """Let what is queued here from now on wait for what :meth:`consumed` returned."""


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    # One for all epochs: torch's allocator keeps the freed memory of each stream for that stream alone.
    return torch.cuda.Stream(device)


class CudaLane:
    """A side stream: the consumer's stream waits for events, nobody waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = _side_stream(device)
        self._consumer: torch.cuda.Stream | None = None  # that was handed the latest batch

    def work(self) -> AbstractContextManager[Any]:
        """See :class:`Lane`."""
        return torch.cuda.stream(self._stream)

    def mark(self) -> torch.cuda.Event:
        """See :class:`Lane`."""
        event = torch.cuda.Event()
        event.record(self._stream)
        return event

    def is_over(self, event: torch.cuda.Event) -> bool:
        """See :class:`Lane`."""
        return bool(event.query())

    def finish(self, event: torch.cuda.Event) -> None:
        """See :class:`Lane`."""
        event.synchronize()

    def keep(self, tensors: list[torch.Tensor]) -> None:
        """See :class:`Lane`."""
        for tensor in tensors:
            tensor.record_stream(self._stream)

    def hand_over(self, event: torch.cuda.Event, tensors: list[torch.Tensor]) -> None:
        """See :class:`Lane`."""
        current = self._consumer = torch.cuda.current_stream(self.device)
        current.wait_event(event)
        for tensor in tensors:
            tensor.record_stream(current)

    def consumed(self) -> list[torch.cuda.Event]:
        """See :class:`Lane`."""
        current = torch.cuda.current_stream(self.device)
        streams = [current]
        if self._consumer is not None and self._consumer != current:
            streams.append(self._consumer)  # the last reference was dropped by another thread
        events = [torch.cuda.Event() for _ in streams]
        for event, stream in zip(events, streams, strict=True):
            event.record(stream)
        return events

    def wait_for(self, event: list[torch.cuda.Event]) -> None:
        """See :class:`Lane`."""
        for each in event:
            self._stream.wait_event(each)


class HostLane:
    """No queue: everything is done when it returns."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def work(self) -> AbstractContextManager[Any]:
        """See :class:`Lane`."""
        return nullcontext()

    def mark(self) -> None:
        """See :class:`Lane`."""

    def is_over(self, event: None) -> bool:
        """See :class:`Lane`."""
        del event
        return True

    def finish(self, event: None) -> None:
        """See :class:`Lane`."""

    def keep(self, tensors: list[torch.Tensor]) -> None:
        """See :class:`Lane`."""

    def hand_over(self, event: None, tensors: list[torch.Tensor]) -> None:
        """See :class:`Lane`."""

    def consumed(self) -> None:
        """See :class:`Lane`."""

    def wait_for(self, event: None) -> None:
        """See :class:`Lane`."""


def usable_device(device: str | torch.device) -> torch.device:
    """Return a device that this process has.

    Raises
    ------
    ConfigError
        There is none of that kind or number; the message says what torch finds.
    """
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device is {device!r}; expected 'cpu', 'cuda' or 'cuda:N'") from error
    if wanted.type == "cpu":
        return wanted
    if wanted.type != "cuda":
        raise ConfigError(
            f"device is {device!r}; expected 'cpu', 'cuda' or 'cuda:N'. For TPUs see e2eio.jax and e2eio.xla"
        )
    if not torch.backends.cuda.is_built():
        raise ConfigError(
            f"device is {device!r}, but this torch ({torch.__version__}) is built without CUDA; "
            "install a CUDA build, or pass device='cpu'"
        )
    n_devices = torch.cuda.device_count()
    named: int | None = wanted.index  # torch says int, and means None for "cuda"
    try:
        number = torch.cuda.current_device() if n_devices > 0 else 0
    except RuntimeError as error:  # a driver of another version, a forked child
        raise ConfigError(
            f"device is {device!r}, but torch cannot use it: {str(error).strip()[:300]}; check nvidia-smi and the "
            "driver, make the loader in a process that was not forked, or pass device='cpu'"
        ) from error
    number = number if named is None else named
    if number >= n_devices:
        raise ConfigError(
            f"device is {device!r}, but torch finds {n_devices} of them; check nvidia-smi, the driver and "
            "CUDA_VISIBLE_DEVICES, or pass device='cpu'"
        )
    return torch.device("cuda", number)


def lane_for(device: torch.device) -> Lane:
    """Return a new lane of the device."""
    return CudaLane(device) if device.type == "cuda" else HostLane(device)
