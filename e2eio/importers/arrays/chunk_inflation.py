"""Rows of a chunked array whose chunks are deflated, inflated by threads of this package.

libhdf5 decodes under one lock. A chunk's stored bytes are copied out under it, which takes next to
nothing, and zlib works on them without any lock. What a chunk inflates to is known before, and not
a byte more is made of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.importers.inflation import InflationError, inflater, reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ChunkDamagedError", "ChunkLayout", "InflatedRows"]

#: Inflated at a time: it stays in the cache until it is copied to where it belongs.
_PIECE_BYTES: Final = 1 << 20


class ChunkDamagedError(Exception):
    """A chunk does not inflate to what it should; the text says what was found."""


@dataclass(frozen=True, slots=True)
class ChunkLayout:
    """How an array is stored.

    Parameters
    ----------
    shape, chunk : tuple of int
        Of the array and of a chunk; chunks at the far edges are stored in full.
    dtype : numpy dtype
        Stored, in the stored byte order.
    filters : tuple of str
        ``"shuffle"`` and ``"deflate"``, in the order in which they were applied.
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype[Any]
    filters: tuple[str, ...]


class InflatedRows:
    """Reader of such an array.

    Parameters
    ----------
    layout : ChunkLayout
    fetch : callable
        Given the first index of a chunk, returns which filters were left out (bit i: filter i)
        and the stored bytes; called by several threads.
    n_threads : int

    Raises
    ------
    ChunkDamagedError
        By `read`.
    """

    def __init__(
        self,
        layout: ChunkLayout,
        fetch: Callable[[tuple[int, ...]], tuple[int, bytes]],
        n_threads: int,
    ) -> None:
        self._layout = layout
        self._fetch = fetch
        self._n_threads = n_threads
        self._chunk_bytes = int(np.prod(layout.chunk)) * layout.dtype.itemsize

    @property
    def step(self) -> int:
        """Rows of a chunk."""
        return self._layout.chunk[0]

    def read(self, begin: int, end: int) -> NDArray[Any]:
        """Return the rows [begin, end), a fresh array in native byte order."""
        layout = self._layout
        out = np.empty((end - begin, *layout.shape[1:]), layout.dtype)
        first = begin - begin % layout.chunk[0]
        axes = [range(first, end, layout.chunk[0])]
        axes += [range(0, n, c) for n, c in zip(layout.shape[1:], layout.chunk[1:], strict=True)]
        origins = list(itertools.product(*axes))
        n_threads = min(self._n_threads, len(origins))
        if n_threads > 1:
            with ThreadPoolExecutor(n_threads, "e2eio-inflate") as threads:
                runs = [origins[number::n_threads] for number in range(n_threads)]
                for done in [threads.submit(self._fill, run, begin, out) for run in runs]:
                    done.result()
        else:
            self._fill(origins, begin, out)
        if not out.dtype.isnative:
            out = out.byteswap(inplace=True).view(out.dtype.newbyteorder())
        return out

    def _fill(self, origins: Sequence[tuple[int, ...]], begin: int, out: NDArray[Any]) -> None:
        layout = self._layout
        spare = np.empty(layout.chunk, layout.dtype)
        for origin in origins:
            mask, raw = self._fetch(origin)
            # Where in `out` the chunk goes, and which part of it that is.
            low = (origin[0] - begin, *origin[1:])
            high = [min(a + c, n) for a, c, n in zip(low, layout.chunk, out.shape, strict=True)]
            into = tuple(slice(max(a, 0), b) for a, b in zip(low, high, strict=True))
            target = out[into]
            if target.shape == layout.chunk and target.flags.c_contiguous:
                self._decode(mask, raw, target)
            else:
                self._decode(mask, raw, spare)
                part = (slice(max(-a, 0), b - a) for a, b in zip(low, high, strict=True))
                target[...] = spare[tuple(part)]

    def _decode(self, mask: int, raw: bytes, chunk: NDArray[Any]) -> None:
        applied = {name for bit, name in enumerate(self._layout.filters) if not mask >> bit & 1}
        values = chunk.reshape(-1).view(np.uint8)
        if "deflate" in applied:
            pieces = _inflated(raw, self._chunk_bytes)
        elif len(raw) == self._chunk_bytes:
            pieces = iter((raw,))
        else:
            raise ChunkDamagedError(f"{len(raw)} bytes, expected {self._chunk_bytes}")
        if "shuffle" in applied:
            _unshuffle(pieces, values, self._layout.dtype.itemsize)
            return
        at = 0
        for piece in pieces:
            values[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
            at += len(piece)


def _inflated(raw: bytes, n_bytes: int) -> Iterator[bytes]:
    """Yield the inflated bytes in pieces, `n_bytes` in all; zlib verifies their Adler-32."""
    stream = inflater()
    left = n_bytes
    try:
        while left:
            piece = stream.decompress(raw, min(left, _PIECE_BYTES))
            if not piece:
                raise ChunkDamagedError(f"{n_bytes - left} inflated bytes, expected {n_bytes}")
            left -= len(piece)
            raw = stream.unconsumed_tail
            yield piece
        more = b"" if stream.eof else stream.decompress(raw, 1)
    except InflationError as error:
        raise ChunkDamagedError(reason(error)) from error
    if more:
        raise ChunkDamagedError(f"more than {n_bytes} inflated bytes, expected {n_bytes}")
    if not stream.eof:
        raise ChunkDamagedError("no end of the deflated bytes, expected one")


def _unshuffle(pieces: Iterator[bytes], values: NDArray[np.uint8], itemsize: int) -> None:
    """Put first bytes of all values, then second bytes ..., where they belong."""
    planes = values.reshape(-1, itemsize)
    n = len(planes)
    at = 0
    for piece in pieces:
        numbers = np.frombuffer(piece, np.uint8)
        while len(numbers):
            plane, row = divmod(at, n)
            part = numbers[: n - row]
            planes[row : row + len(part), plane] = part
            at += len(part)
            numbers = numbers[len(part) :]
