"""Rows of an array of Zarr's version 3 whose chunks are Zstandard frames in files, decoded to where they belong.

zarr decodes a chunk into memory of its own and copies it from there, and hands each one through an event loop and
a thread. Here a frame is decoded by one call, into the array that is returned: docs/design/0011-encoding.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zstandard

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ZstdLayout", "read_rows"]


@dataclass(frozen=True, slots=True)
class ZstdLayout:
    """How an array is stored: a chunk holds rows [k n, (k + 1) n), the last one as many as the others.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    n_rows : int
        n, of a chunk.
    dtype : numpy dtype
        In the machine's byte order, as in the files.
    file_of : callable
        Returns the file of chunk k.
    """

    shape: tuple[int, ...]
    n_rows: int
    dtype: np.dtype[Any]
    file_of: Callable[[int], Path]

    @property
    def chunk_bytes(self) -> int:
        """Decoded bytes of a chunk."""
        return int(np.prod(self.shape[1:])) * self.n_rows * self.dtype.itemsize


def read_rows(layout: ZstdLayout, begin: int, end: int) -> NDArray[Any] | None:
    """Return the rows [begin, end), a fresh array; None: a chunk is not there, or does not say how long it is.

    Raises
    ------
    ValueError, zstandard.ZstdError
        A chunk is damaged, or does not decode to what it should: not a byte more is made of it.
    OSError
        The system refused.
    """
    out = np.empty((end - begin, *layout.shape[1:]), layout.dtype)
    decoder = zstandard.ZstdDecompressor()
    n = layout.n_rows
    for chunk in range(begin // n, -(-end // n)):
        try:
            frame = layout.file_of(chunk).read_bytes()
        except FileNotFoundError:
            return None
        n_bytes = zstandard.frame_content_size(frame)
        if n_bytes < 0:
            return None
        if n_bytes != layout.chunk_bytes:
            raise ValueError(f"a chunk of {n_bytes} bytes, expected {layout.chunk_bytes}")
        low, high = max(begin, chunk * n), min(end, (chunk + 1) * n)
        target = out[low - begin : high - begin]
        if high - low == n:
            _decode(decoder, frame, target)
            continue
        spare = np.empty((n, *layout.shape[1:]), layout.dtype)
        _decode(decoder, frame, spare)
        target[...] = spare[low - chunk * n : high - chunk * n]
    return out


def _decode(decoder: zstandard.ZstdDecompressor, frame: bytes, to: NDArray[Any]) -> None:
    """Fill the memory of `to`, in one pass, as it has room for all."""
    memory = to.reshape(-1).view(np.uint8).data
    done = 0
    with decoder.stream_reader(frame) as stream:
        while done < len(memory):
            n_more = stream.readinto(memory[done:])
            if not n_more:
                raise ValueError(f"{done} decoded bytes of a chunk, expected {len(memory)}")
            done += n_more
