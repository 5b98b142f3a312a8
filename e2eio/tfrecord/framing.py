"""The framing of TFRecord files: length, payload, and a masked crc32c of each.

A record is

    uint64  length of the payload in bytes
    uint32  masked crc32c of the 8 bytes before
    bytes   payload
    uint32  masked crc32c of the payload

all little-endian, and a file is records one after the other, either as they are or inside of one
gzip or zlib stream. The format is TensorFlow's: tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, Protocol

from e2eio import _core
from e2eio.errors import ConfigError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "HEADER_BYTES",
    "MAX_RECORD_BYTES",
    "ByteStream",
    "Compression",
    "RecordError",
    "RecordReader",
    "RecordWriter",
    "begins_like_a_record",
    "masked_crc32c",
]

Compression = Literal["", "GZIP", "ZLIB"]

HEADER_BYTES: Final = 12
FOOTER_BYTES: Final = 4

#: Longest payload that is read; an image of a sample may have no more (`e2eio.schema`).
MAX_RECORD_BYTES: Final = 1 << 30

_MASK_DELTA: Final = 0xA282EAD8  # tensorflow/core/lib/hash/crc32c.h
_WORD: Final = 0xFFFFFFFF
_WINDOW_BITS: Final = {"GZIP": 31, "ZLIB": 15}


class RecordError(Exception):
    """A record that is not what the format says.

    Parameters
    ----------
    what, found, expected : str
    offset_bytes : int
        Of the record, counted in the (inflated) stream.
    """

    def __init__(self, what: str, found: str, expected: str, offset_bytes: int) -> None:
        super().__init__(f"{what}: found {found}, expected {expected}")
        self.what = what
        self.found = found
        self.expected = expected
        self.offset_bytes = offset_bytes


class ByteStream(Protocol):
    """Bytes one after the other."""

    def read(self, n_bytes: int, /) -> bytes:
        """Return the next `n_bytes` bytes, fewer only at the end."""

    def skip(self, n_bytes: int, /) -> int:
        """Pass over as many bytes; return how many there were."""


def masked_crc32c(data: bytes | bytearray | memoryview) -> int:
    """Return the crc32c of `data` as TFRecord files store it: rotated by 15 bits, and a constant added.

    Examples
    --------
    >>> hex(masked_crc32c(b"123456789"))
    '0xc78ab0e5'
    """
    crc = _core.crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _WORD


def begins_like_a_record(head: bytes) -> bool:
    """Return whether the first bytes of a stream are a length with its masked crc32c."""
    if len(head) < HEADER_BYTES:
        return False
    return masked_crc32c(head[:8]) == int.from_bytes(head[8:HEADER_BYTES], "little")


class RecordReader:
    """Reads records one after the other; every checksum is verified. One thread at a time.

    Parameters
    ----------
    stream : ByteStream
    offset_bytes : int
        Where in the file, or in what is inflated from it, the stream stands.
    max_bytes : int
        Longest payload to expect; a longer one is an error, before anything is read for it.

    Examples
    --------
    >>> import io
    >>> class Bytes(io.BytesIO):
    ...     def skip(self, n_bytes):
    ...         return len(self.read(n_bytes))
    >>> stream = Bytes()
    >>> with RecordWriter(stream) as writer:
    ...     writer.write(b"one")
    >>> _ = stream.seek(0)
    >>> reader = RecordReader(stream)
    >>> bytes(reader.read()), reader.read()
    (b'one', None)
    """

    def __init__(
        self, stream: ByteStream, offset_bytes: int = 0, max_bytes: int = MAX_RECORD_BYTES
    ) -> None:
        self._stream = stream
        self._header: bytes | None = None  # of the next record, where it came with the last one
        self.offset_bytes = offset_bytes
        self.max_bytes = max_bytes

    def read(self) -> memoryview | None:
        """Return the payload of the next record, or None at the end.

        Raises
        ------
        RecordError
            The record is truncated or damaged, or longer than `max_bytes`.
        """
        n_bytes = self._next_length()
        if n_bytes is None:
            return None
        stop = n_bytes + FOOTER_BYTES
        body = self._stream.read(stop + HEADER_BYTES)  # with the next header: half the calls
        if len(body) < stop:
            raise self._truncated(HEADER_BYTES + len(body), n_bytes)
        payload = memoryview(body)[:n_bytes]
        found = masked_crc32c(payload)
        stored = int.from_bytes(body[n_bytes:stop], "little")
        if found != stored:
            raise self._wrong_crc("payload", found, stored)
        self._header = body[stop:]
        self.offset_bytes += HEADER_BYTES + stop
        return payload

    def skip(self) -> bool:
        """Pass over the next record, verifying its length alone; return False at the end.

        Raises
        ------
        RecordError
            As `read`, but for what is in the payload.
        """
        n_bytes = self._next_length()
        if n_bytes is None:
            return False
        passed = self._stream.skip(n_bytes + FOOTER_BYTES)
        if passed < n_bytes + FOOTER_BYTES:
            raise self._truncated(HEADER_BYTES + passed, n_bytes)
        self._header = None
        self.offset_bytes += HEADER_BYTES + n_bytes + FOOTER_BYTES
        return True

    def _next_length(self) -> int | None:
        header = self._stream.read(HEADER_BYTES) if self._header is None else self._header
        self._header = header
        if not header:
            return None
        if len(header) < HEADER_BYTES:
            raise RecordError(
                "truncated record",
                f"{len(header)} bytes",
                f"{HEADER_BYTES} of a header",
                self.offset_bytes,
            )
        found, stored = masked_crc32c(header[:8]), int.from_bytes(header[8:], "little")
        if found != stored:
            raise self._wrong_crc("length", found, stored)
        n_bytes = int.from_bytes(header[:8], "little")
        if n_bytes > self.max_bytes:
            raise RecordError(
                "record too long",
                f"{n_bytes} bytes",
                f"at most {self.max_bytes}",
                self.offset_bytes,
            )
        return n_bytes

    def _truncated(self, found: int, n_bytes: int) -> RecordError:
        expected = HEADER_BYTES + n_bytes + FOOTER_BYTES
        return RecordError("truncated record", f"{found} bytes", f"{expected}", self.offset_bytes)

    def _wrong_crc(self, part: str, found: int, stored: int) -> RecordError:
        return RecordError(
            f"wrong checksum of a record's {part}",
            f"masked crc32c {found:#010x}",
            f"{stored:#010x}, as stored",
            self.offset_bytes,
        )


class RecordWriter:
    """Writes records; one thread at a time. The stream is the caller's, who closes it.

    Parameters
    ----------
    stream : binary file
    compression : {"", "GZIP", "ZLIB"}
        TensorFlow's names.
    level : int
        Of zlib, 0 to 9.

    Raises
    ------
    ConfigError
        There is no such compression.
    """

    def __init__(self, stream: BinaryIO, compression: Compression = "", level: int = 6) -> None:
        if compression and compression not in _WINDOW_BITS:
            raise ConfigError(
                f"unknown compression: found {compression!r}, expected '', 'GZIP' or 'ZLIB'"
            )
        self._stream = stream
        self._deflate = (
            zlib.compressobj(level, zlib.DEFLATED, _WINDOW_BITS[compression])
            if compression
            else None
        )

    def write(self, payload: bytes | bytearray | memoryview) -> None:
        """Append a record."""
        length = struct.pack("<Q", len(payload))
        self._put(length + struct.pack("<I", masked_crc32c(length)))
        self._put(payload)
        self._put(struct.pack("<I", masked_crc32c(payload)))

    def finish(self) -> None:
        """Write what the compressor has kept; the file is then complete. May be called again."""
        if self._deflate is not None:
            self._stream.write(self._deflate.flush())
            self._deflate = None

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        self._stream.write(data if self._deflate is None else self._deflate.compress(data))

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()
