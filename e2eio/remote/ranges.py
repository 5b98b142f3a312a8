"""Ranges of a server's files, read through fsspec's own functions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from e2eio.remote.faults import Fault, changed_fault
from e2eio.remote.urls import RemoteUrl

__all__ = ["AsyncFiles", "FileState", "RangeReader", "Tail", "ThreadedFiles"]
__all__ += ["checked_length", "state_of"]

_IDENTITY: Final = (
    *("ETag", "etag", "generation", "VersionId", "version_id", "Last-Modified", "LastModified"),
    *("last_modified", "updated", "mtime", "modified", "created"),
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells a file from the one that may replace it.

    Parameters
    ----------
    n_bytes : int
    identity : str
        ETag, version or time of change; empty: the server gives none.
    """

    n_bytes: int
    identity: str


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a file: its last bytes, and what file it is."""

    state: FileState
    begin: int
    data: bytes


class RangeReader(Protocol):
    """Reads the files of one server. Every function may raise any exception, and runs in the loop's thread."""

    async def read_tail(self, url: RemoteUrl, n_bytes: int) -> Tail:
        """Return the last `n_bytes` of a file, all of a shorter one."""

    async def read_range(
        self, url: RemoteUrl, begin: int, end: int, state: FileState | None
    ) -> bytes:
        """Return bytes [begin, end); a Fault with `changed` if the file is not in that state (None: in any)."""

    async def names(self, url: RemoteUrl) -> list[str]:
        """Return the names in a directory."""

    async def close(self) -> None:
        """Close the connections."""


def checked_length(data: bytes, n_bytes: int) -> bytes:
    """Return the data if it is as long as that."""
    if len(data) != n_bytes:
        raise Fault(f"got {len(data)} bytes, expected {n_bytes}", passing=len(data) < n_bytes)
    return data


def state_of(info: dict[str, Any]) -> FileState:
    """Return what fsspec's `info` says of a file."""
    if info.get("type") == "directory":
        raise IsADirectoryError("a directory")
    if not isinstance(info.get("size"), int):
        raise Fault(
            "the server does not say how long it is", passing=False, remedy="copy the file here"
        )
    identity = next((str(info[key]) for key in _IDENTITY if info.get(key)), "")
    return FileState(int(info["size"]), identity)


def _last_name(entry: Any) -> str:
    name = entry["name"] if isinstance(entry, dict) else entry
    return str(name).rstrip("/").rpartition("/")[2]


class AsyncFiles:
    """File systems with coroutines: Google's storage and others."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def _path(self, url: RemoteUrl) -> str:
        return str(self._fs._strip_protocol(url.whole))

    async def read_tail(self, url: RemoteUrl, n_bytes: int) -> Tail:
        """Return the last `n_bytes` of a file."""
        self._fs.invalidate_cache()
        state = state_of(await self._fs._info(self._path(url)))
        begin = max(0, state.n_bytes - n_bytes)
        return Tail(state, begin, await self.read_range(url, begin, state.n_bytes, state))

    async def read_range(
        self, url: RemoteUrl, begin: int, end: int, state: FileState | None
    ) -> bytes:
        """Return bytes [begin, end)."""
        if begin == end:
            return b""
        data = await self._fs._cat_file(self._path(url), start=begin, end=end)
        return checked_length(bytes(data), end - begin)

    async def names(self, url: RemoteUrl) -> list[str]:
        """Return the names in a directory."""
        self._fs.invalidate_cache()
        return [_last_name(each) for each in await self._fs._ls(self._path(url), detail=False)]

    async def close(self) -> None:
        """Close the connections, where there are any."""
        session = getattr(self._fs, "_session", None)
        if session is not None and hasattr(session, "close"):
            done = session.close()
            if inspect.isawaitable(done):
                await done


class ThreadedFiles:
    """File systems without coroutines, as memory and local files, SFTP: read in threads."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self._threads = ThreadPoolExecutor(8, "e2eio-remote")

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _info(self, url: RemoteUrl) -> FileState:
        self._fs.invalidate_cache()
        return state_of(self._fs.info(self._fs._strip_protocol(url.whole)))

    async def read_tail(self, url: RemoteUrl, n_bytes: int) -> Tail:
        """Return the last `n_bytes` of a file."""
        state = await self._run(lambda: self._info(url))
        begin = max(0, state.n_bytes - n_bytes)
        return Tail(state, begin, await self.read_range(url, begin, state.n_bytes, state))

    async def read_range(
        self, url: RemoteUrl, begin: int, end: int, state: FileState | None
    ) -> bytes:
        """Return bytes [begin, end)."""

        def read() -> bytes:
            if begin == end:
                return b""
            path = self._fs._strip_protocol(url.whole)
            data = bytes(self._fs.cat_file(path, start=begin, end=end))
            if state is not None and len(data) != end - begin and self._info(url) != state:
                raise changed_fault("it is not as long as it was")
            return data

        return checked_length(await self._run(read), end - begin)

    async def names(self, url: RemoteUrl) -> list[str]:
        """Return the names in a directory."""
        path = self._fs._strip_protocol(url.whole)
        return [
            _last_name(each) for each in await self._run(lambda: self._fs.ls(path, detail=False))
        ]

    async def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
