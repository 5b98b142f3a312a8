"""Bytes of a file one after the other, as they are or inflated from gzip or zlib, in bounded pieces."""

from __future__ import annotations

import os
from typing import BinaryIO, Final, Literal, Protocol

from e2eio.errors import ImporterError
from e2eio.importers.files import open_binary, system_error
from e2eio.importers.inflation import InflationError, inflater, reason

__all__ = ["Compression", "InflatedStream", "PlainStream", "Stream", "find_compression"]
__all__ += ["inflated_head", "open_stream"]

Compression = Literal["", "gzip", "zlib"]

_WINDOW_BITS: Final = {"gzip": 31, "zlib": 15}
_GZIP: Final = b"\x1f\x8b"
_PIECE_BYTES: Final = 32 << 10  # read at once: what is left of it is copied at every call of zlib
_SKIP_BYTES: Final = 1 << 20


def find_compression(head: bytes) -> Compression:
    """Return how a file is compressed that begins so."""
    if head.startswith(_GZIP):
        return "gzip"
    # RFC 1950: method 8, a window of 2^8 to 2^15 bytes, and a check of the two bytes; no dictionary.
    if len(head) > 1 and head[0] & 0x0F == 8 and head[0] >> 4 < 8 and head[1] & 0x20 == 0:
        return "zlib" if int.from_bytes(head[:2], "big") % 31 == 0 else ""
    return ""


def inflated_head(head: bytes, n_bytes: int) -> bytes:
    """Return the first bytes of what a file holds that begins with `head`; none if it is damaged."""
    compression = find_compression(head)
    if not compression:
        return head[:n_bytes]
    found = b""
    try:
        while head and len(found) < n_bytes:  # the first members of a gzip file may be short
            engine = inflater(_WINDOW_BITS[compression])
            found += engine.decompress(head, n_bytes - len(found))
            head = engine.unused_data
    except InflationError:
        pass
    return found


class Stream(Protocol):
    """Bytes one after the other; one thread at a time."""

    def read(self, n_bytes: int, /) -> bytes:
        """Return the next `n_bytes` bytes, fewer only at the end."""

    def skip(self, n_bytes: int, /) -> int:
        """Pass over as many bytes; return how many there were."""

    def close(self) -> None:
        """Close the file; may be called again."""


def open_stream(path: str, compression: Compression, offset_bytes: int = 0) -> Stream:
    """Open a file at an offset, which is 0 if it is compressed.

    Raises
    ------
    ShardNotFoundError, ShardIOError, ImporterError
        As `open_binary`.
    """
    raw = open_binary(path)
    try:
        if compression:
            return InflatedStream(path, raw, compression)
        return PlainStream(path, raw, offset_bytes)
    except BaseException:
        raw.close()
        raise


class PlainStream:
    """A file as it is; one thread at a time.

    Parameters
    ----------
    path : str
        For messages.
    raw : binary file
        Closed with this.
    offset_bytes : int
        Where to begin.
    """

    def __init__(self, path: str, raw: BinaryIO, offset_bytes: int = 0) -> None:
        self._path, self._raw = path, raw
        try:
            self._n_bytes = raw.seek(0, os.SEEK_END)
            self._at = raw.seek(offset_bytes)
        except OSError as error:
            raise system_error(path, error) from error

    def read(self, n_bytes: int, /) -> bytes:
        """Return the next `n_bytes` bytes, fewer only at the end."""
        # Never more than there are, so that a false size allocates nothing.
        wanted = max(0, min(n_bytes, self._n_bytes - self._at))
        try:
            data = self._raw.read(wanted)
        except OSError as error:
            raise system_error(self._path, error) from error
        self._at += len(data)
        return data

    def skip(self, n_bytes: int, /) -> int:
        """Pass over as many bytes without reading them; return how many there were."""
        passed = max(0, min(n_bytes, self._n_bytes - self._at))
        try:
            self._raw.seek(passed, os.SEEK_CUR)
        except OSError as error:
            raise system_error(self._path, error) from error
        self._at += passed
        return passed

    def close(self) -> None:
        """Close the file; may be called again."""
        self._raw.close()


class InflatedStream:
    """What a gzip or zlib file holds; one thread at a time.

    A gzip file may have several members, one after the other. Checksums are verified where a member
    ends; whoever reads on until nothing comes has verified all of them.

    Parameters
    ----------
    path : str
        For messages.
    raw : binary file
        At its begin; closed with this.
    compression : {"gzip", "zlib"}
    """

    def __init__(self, path: str, raw: BinaryIO, compression: Compression) -> None:
        self._path, self._raw = path, raw
        self._compression = compression
        self._engine = inflater(_WINDOW_BITS[compression])
        self._rest = b""  # read, not yet inflated
        self._n_read = 0

    def read(self, n_bytes: int, /) -> bytes:
        """Return the next `n_bytes` bytes, fewer only at the end.

        Raises
        ------
        ImporterError
            The stream is truncated or damaged, or something follows it.
        ShardIOError
            The system refused to read.
        """
        pieces, left = [], n_bytes
        while left:
            piece = self._inflate(left)
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def skip(self, n_bytes: int, /) -> int:
        """Inflate as many bytes and forget them; return how many there were; errors as `read`."""
        left = n_bytes
        while left:
            piece = self._inflate(min(left, _SKIP_BYTES))
            if not piece:
                break
            left -= len(piece)
        return n_bytes - left

    def close(self) -> None:
        """Close the file; may be called again."""
        self._raw.close()

    def _inflate(self, n_bytes: int) -> bytes:
        """Return 1 to `n_bytes` bytes, or none at the end."""
        while True:
            if self._engine.eof and not self._begin_member():
                return b""
            data = self._rest or self._fill()
            try:
                piece = self._engine.decompress(data, n_bytes)
            except InflationError as error:
                raise self._error("damaged", repr(reason(error)), "a valid stream") from error
            self._rest = self._engine.unconsumed_tail
            if piece:
                return piece
            if not data and not self._engine.eof:
                raise self._error("truncated", "the end of the file", "the rest of it")

    def _begin_member(self) -> bool:
        """Go on with the next member; return False if there is none."""
        rest = self._engine.unused_data or self._fill()
        if not rest:
            self._rest = b""
            return False
        if len(rest) == 1:
            rest += self._fill()
        self._rest = rest
        if self._compression != "gzip" or not rest.startswith(_GZIP):
            raise self._error("bytes after the end of", repr(rest[:4]), "the end of the file")
        self._engine = inflater(_WINDOW_BITS["gzip"])
        return True

    def _fill(self) -> bytes:
        try:
            data = self._raw.read(_PIECE_BYTES)
        except OSError as error:
            raise system_error(self._path, error) from error
        self._n_read += len(data)
        return data

    def _error(self, what: str, found: str, expected: str) -> ImporterError:
        at = self._n_read - len(self._rest)
        return ImporterError(
            f"{what} {self._compression} stream: {self._path} near byte {at}: found {found}, "
            f"expected {expected}; fetch the file again",
            self._path,
            offset_bytes=at,
        )
