"""A wire batch on a device: typed views of its bytes, and what the host knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from e2eio.batches.forms import WIRE_HEADER, Wire
from e2eio.errors import ConfigError

__all__ = ["DTYPES", "WireView"]

#: The wire's dtype codes (cpp/e2eio/base/dtype.hpp).
DTYPES = {1: torch.float32, 101: torch.float16, 102: torch.bfloat16}
_VERSION = 1
_MOST_VALUES = 1 << 31  # places are unsigned on the wire, and int32 on the device


@dataclass(frozen=True)
class WireView:
    """The parts of a wire batch as tensors over one buffer.

    Sizes come from the host's copy of the header and the channel table, so that nothing has to be read back
    from the device.

    Attributes
    ----------
    channels : int32 [n_samples * n_channels, 4]
        first_position, first_value, n, and block + 65536 * dense, of each channel of each sample.
    positions : int32 [...]
        The payload as pixel positions.
    values : [...]
        The payload as values of the wire's dtype.
    shape : tuple of int
        (n, C, H, W) of the dense batch.
    n_words : int64 [n_samples * n_channels], numpy
        Stored pixels of each channel of each sample, on the host.
    blocks : int64 [n_samples * n_channels], numpy
        Edge of the square that each of them fills, on the host.
    """

    channels: torch.Tensor
    positions: torch.Tensor
    values: torch.Tensor
    shape: tuple[int, int, int, int]
    n_words: np.ndarray[Any, np.dtype[np.int64]]
    blocks: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def of(cls, wire: Wire, buffer: torch.Tensor | None = None) -> WireView:
        """Return the view of a batch.

        Parameters
        ----------
        wire : Wire
            The batch on the host.
        buffer : uint8 [n_bytes], or None
            The same bytes on a device; None: the host's own.

        Raises
        ------
        ConfigError
            The buffer is of another version or size.
        """
        header = wire.header
        if int(header["version"]) != _VERSION:
            raise ConfigError(
                f"wire batch of version {header['version']}; expected {_VERSION}: update e2eio"
            )
        if buffer is None:
            buffer = torch.from_numpy(wire.buffer)
        n_bytes = int(header["n_bytes"])
        if buffer.dtype != torch.uint8 or buffer.shape != (n_bytes,):
            raise ConfigError(
                f"wire buffer is {buffer.dtype} {tuple(buffer.shape)}; expected torch.uint8 ({n_bytes},)"
            )
        dtype = DTYPES[int(header["dtype"])]
        if (n_bytes - int(header["payload_offset"])) // dtype.itemsize >= _MOST_VALUES:
            raise ConfigError(
                f"wire batch of {n_bytes} bytes; expected less than 2^31 values: lower the batch size"
            )
        table = wire.channels
        n, c = table.shape
        begin = WIRE_HEADER.itemsize
        payload = buffer[int(header["payload_offset"]) :]
        return cls(
            channels=buffer[begin : begin + table.nbytes].view(torch.int32).view(n * c, 4),
            positions=payload.view(torch.int32),
            values=payload.view(dtype),
            shape=(n, c, int(header["height"]), int(header["width"])),
            n_words=table["n"].reshape(-1).astype(np.int64),
            blocks=table["block"].reshape(-1).astype(np.int64),
        )

    @property
    def n_pixels(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Pixels that each channel of each sample fills, blocks expanded; int64 [n * C] on the host."""
        n_pixels: np.ndarray[Any, np.dtype[np.int64]] = self.n_words * self.blocks**2
        return n_pixels
