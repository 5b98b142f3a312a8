"""Where copies and kernels run beside the consumer's work: a stream of the card, or the host itself."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
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

    def hand_over(self, event: Any, tensors: list[torch.Tensor]) -> None:
        """Let the consumer's stream wait for the event, and keep the memory until its work is done."""

    def consumed(self) -> Any:
        """Return an event for all work that the consumer has queued so far."""

    def wait_for(self, event: Any) -> None:
        """Let what is queued here from now on wait for an event of :meth:`consumed`."""


class CudaLane:
    """A side stream: the consumer's stream waits for events, nobody waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

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

    def hand_over(self, event: torch.cuda.Event, tensors: list[torch.Tensor]) -> None:
        """See :class:`Lane`."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(event)
        for tensor in tensors:
            tensor.record_stream(current)

    def consumed(self) -> torch.cuda.Event:
        """See :class:`Lane`."""
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self.device))
        return event

    def wait_for(self, event: torch.cuda.Event) -> None:
        """See :class:`Lane`."""
        self._stream.wait_event(event)


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
    number = torch.cuda.current_device() if named is None and n_devices > 0 else named or 0
    if number >= n_devices:
        raise ConfigError(
            f"device is {device!r}, but torch finds {n_devices} of them; check nvidia-smi, the driver and "
            "CUDA_VISIBLE_DEVICES, or pass device='cpu'"
        )
    return torch.device("cuda", number)


def lane_for(device: torch.device) -> Lane:
    """Return a new lane of the device."""
    return CudaLane(device) if device.type == "cuda" else HostLane(device)
