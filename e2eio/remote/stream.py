"""Files on servers as streams, for libraries that read foreign formats."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from concurrent.futures import Future
from typing import Final, TypeVar

from e2eio.remote.faults import Fault
from e2eio.remote.file import RemoteFile
from e2eio.remote.service import Service, current_service
from e2eio.remote.urls import RemoteUrl, StorageOptions

__all__ = ["RemoteStream", "open_stream"]

_BLOCK_BYTES: Final = 1 << 20
_KEPT: Final = 24  # blocks
_AHEAD: Final = 6  # blocks that are under way while a reader goes on

T = TypeVar("T")


class RemoteStream(io.RawIOBase):
    """The bytes of a file on a server; it can seek, and reads ahead of who does not.

    Thread rule: one thread at a time. Memory: 24 blocks of 1 MiB. In a forked child it goes on by connections
    of the child's own.

    Parameters
    ----------
    url : RemoteUrl
    options : StorageOptions

    Raises
    ------
    ShardNotFoundError, ShardIOError
        The server has no such file, or cannot be read from.
    ImporterError
        The file changes while it is read.
    """

    def __init__(self, url: RemoteUrl, options: StorageOptions) -> None:
        super().__init__()
        self._service: Service | None = None
        self._file = RemoteFile(url, options)
        self._blocks: OrderedDict[int, Future[tuple[bytes, int]]] = OrderedDict()
        self._at = 0
        self._last = -2  # block; the first one is often all that is wanted
        service = self._connected()
        tail = self._wait(service.call(lambda: self._file.open(service, _BLOCK_BYTES)))
        self._n_bytes = tail.state.n_bytes
        self._end = (tail.begin, tail.data)  # directories of files stand at their ends

    @property
    def name(self) -> str:
        """The URL, without credentials."""
        return str(self._file.url)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, counted from the start, from here or from the end."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._n_bytes}[whence]
        if origin + offset < 0:
            raise ValueError(f"seek to {origin + offset}; expected 0 or more")
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: object) -> int:
        """Fill the buffer with what comes next; return the number of bytes, 0 at the end."""
        to = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if self._at >= self._n_bytes or not len(to):
            return 0
        begin, data = self._end
        if self._at < begin:
            block = self._at // _BLOCK_BYTES
            begin, data = block * _BLOCK_BYTES, self._block(block)
        skip = self._at - begin
        n_bytes = min(len(to), len(data) - skip)
        to[:n_bytes] = memoryview(data)[skip : skip + n_bytes]
        self._at += n_bytes
        return n_bytes

    def close(self) -> None:
        """End what is under way; may be called again."""
        if not self.closed and self._service is not None:
            for future in self._blocks.values():
                future.cancel()
            self._service.release()
            self._service = None
        super().close()

    def _connected(self) -> Service:
        if self._service is not None and self._service.pid == os.getpid():
            return self._service
        self._blocks.clear()  # those of the parent, in a forked child
        self._service = current_service()
        return self._service

    def _block(self, block: int) -> bytes:
        n_ahead = _AHEAD if block == self._last + 1 else 0
        self._last = block
        for each in range(block, block + n_ahead + 1):
            self._ask(each)
        future = self._blocks[block]
        self._blocks.move_to_end(block)
        while len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)[1].cancel()
        try:
            return self._wait(future)[0]
        except BaseException:
            self._blocks.pop(block, None)
            raise

    def _ask(self, block: int) -> None:
        service, file = self._connected(), self._file
        begin = block * _BLOCK_BYTES
        if block in self._blocks or begin >= self._n_bytes:
            return
        end = min(self._n_bytes, begin + _BLOCK_BYTES)
        self._blocks[block] = service.call(lambda: file.read(service, begin, end))

    def _wait(self, future: Future[T]) -> T:
        try:
            return future.result()
        except Fault as fault:
            raise fault.error(self.name) from fault
        except BaseException:
            future.cancel()
            raise


def open_stream(url: RemoteUrl, options: StorageOptions | None = None) -> io.BufferedReader:
    """Open a file on a server for reading; errors are those of :class:`RemoteStream`."""
    return io.BufferedReader(RemoteStream(url, options or StorageOptions()), 1 << 16)
