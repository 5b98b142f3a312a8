"""Arrays in NumPy's format: the header with dtype, order and shape, and the numbers after it."""

from __future__ import annotations

import io
import math
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.lib import format as npy_format

from e2eio.errors import ImporterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ArrayHeader", "check_size", "decode_array", "native", "pixel_dtype", "read_header"]
__all__ += ["scalar_dtype"]

_MAX_HEADER_BYTES: Final = 10_000  # numpy's own limit for files that are not trusted
_HEADER_READERS: Final[dict[tuple[int, int], Callable[..., Any]]] = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}


class _Readable(Protocol):
    def read(self, n_bytes: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """What an array is, and where its numbers begin.

    Parameters
    ----------
    shape : tuple of int
    fortran_order : bool
    dtype : numpy.dtype
        Of either byte order; not always of numbers.
    n_bytes : int
        Of the header.
    """

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    n_bytes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one element of the first axis."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def array_bytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


class _Bounded:
    """A stream that refuses to read more than a header may have, and counts."""

    def __init__(self, stream: _Readable) -> None:
        self._stream = stream
        self.n_read = 0

    def read(self, n_bytes: int) -> bytes:
        if n_bytes > _MAX_HEADER_BYTES:
            raise ValueError(f"a header of {n_bytes} bytes")
        data = self._stream.read(n_bytes)
        self.n_read += len(data)
        return data


def read_header(stream: _Readable, where: str, path: str) -> ArrayHeader:
    """Read the header at the begin of a stream, and stop behind it.

    Parameters
    ----------
    stream : binary file
    where : str
        Array and file, for messages.
    path : str
        The file.

    Raises
    ------
    ImporterError
        It is damaged.
    """
    bounded: Any = _Bounded(stream)
    try:
        version = npy_format.read_magic(bounded)
        read = _HEADER_READERS[version]  # 3.0 is for names of record fields that are not ASCII
        shape, fortran_order, dtype = read(bounded, max_header_size=_MAX_HEADER_BYTES)
    except (
        *(KeyError, ValueError, TypeError, SyntaxError, RecursionError, MemoryError),
        tokenize.TokenError,  # of numpy's second look, at headers that Python 2 may have written
    ) as error:
        found = (str(error).splitlines() or [type(error).__name__])[0]
        raise ImporterError(
            f"damaged array header: {where}: found {found!r}, expected a header of at most "
            f"{_MAX_HEADER_BYTES} bytes of NumPy's format 1.0 or 2.0; fetch or write the file again",
            path,
        ) from error
    if min(shape, default=0) < 0:
        raise ImporterError(
            f"damaged array header: {where}: found shape {shape}, expected no negative sizes; "
            "fetch or write the file again",
            path,
        )
    return ArrayHeader(tuple(map(int, shape)), bool(fortran_order), dtype, bounded.n_read)


def check_size(header: ArrayHeader, found: int, where: str, path: str) -> None:
    """Compare the bytes of header and array that there are with what the header says.

    Raises
    ------
    ImporterError
        They differ.
    """
    expected = header.n_bytes + header.array_bytes
    if found != expected and not header.dtype.hasobject:
        what = "truncated array" if found < expected else "bytes after the array"
        raise ImporterError(
            f"{what}: {where}: found {found} bytes, expected {expected} for {header.dtype} "
            f"{list(header.shape)}; fetch or write the file again",
            path,
        )


def decode_array(data: bytes, where: str, path: str) -> NDArray[Any]:
    """Return the array in `data`, read-only, in this machine's byte order.

    Raises
    ------
    ImporterError
        It is damaged, or of objects.
    """
    header = read_header(io.BytesIO(data), where, path)
    if header.dtype.hasobject:
        raise ImporterError(
            f"array of objects: {where}: found a pickle, which is not read as it may run any "
            "program, expected numbers; convert it to an array of numbers",
            path,
        )
    check_size(header, len(data), where, path)
    values = np.frombuffer(data, header.dtype, math.prod(header.shape), header.n_bytes)
    return native(values.reshape(header.shape, order="F" if header.fortran_order else "C"))


def pixel_dtype(dtype: np.dtype[Any]) -> str | None:
    """Return the dtype in which pixels are delivered, which holds them exactly; None: there is none."""
    if dtype.kind == "f" and dtype.itemsize in (2, 4, 8):
        return "float64" if dtype.itemsize == 8 else "float32"
    return "float32" if dtype.kind in "iu" and dtype.itemsize <= 2 else None


def scalar_dtype(dtype: np.dtype[Any]) -> str:
    """Return the dtype's name in this machine's byte order; what holds it exactly for float16."""
    name = dtype.newbyteorder("=").name
    return "float32" if name == "float16" else name


def native(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values in this machine's byte order, bit for bit."""
    if values.dtype.isnative:
        return values
    swapped: NDArray[Any] = values.byteswap().view(values.dtype.newbyteorder("="))
    return swapped
