"""One file on a server."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from e2eio.remote.faults import Fault, try_often
from e2eio.remote.ranges import FileState, Tail
from e2eio.remote.urls import RemoteUrl, StorageOptions

if TYPE_CHECKING:
    from e2eio.remote.cache import CachedBlocks
    from e2eio.remote.service import Service

__all__ = ["RemoteFile"]


class RemoteFile:
    """A file on a server, opened: its size and what tells it from another one are known then.

    Thread rule: coroutines run in the service's thread.
    """

    def __init__(self, url: RemoteUrl, options: StorageOptions) -> None:
        self.url = url
        self.options = options
        self.server = (
            url.protocol,
            urlsplit(url.whole).netloc,
            json.dumps(dict(options), sort_keys=True, default=repr),
        )
        self.state = FileState(0, "")
        self.cache: CachedBlocks | None = None

    async def open(self, service: Service, n_tail_bytes: int) -> Tail:
        """Find out size and identity, and return the last bytes, by one request where the server can."""
        return (await self._opened(service, n_tail_bytes))[0]

    async def _opened(self, service: Service, n_tail_bytes: int) -> tuple[Tail, int]:
        opened = await try_often(
            lambda: service.slot(lambda: self._tail(service, n_tail_bytes)),
            service.limits,
            what="open",
        )
        self.state = opened[0].state
        return opened

    async def open_ends(
        self, service: Service, n_head_bytes: int, n_tail_bytes: int
    ) -> tuple[Tail, bytes]:
        """As `open`, with the first bytes too, both at once."""

        async def head() -> bytes:
            reader = await service.reader(self)
            return await reader.read_range(self.url, 0, n_head_bytes, None)

        first, (tail, _) = await asyncio.gather(
            try_often(lambda: service.slot(head), service.limits, what="open"),
            self._opened(service, n_tail_bytes),
        )
        return tail, first[0]

    async def names(self, service: Service) -> list[str]:
        """Return the names in the directory that it is."""

        async def names() -> list[str]:
            return await (await service.reader(self)).names(self.url)

        return (await try_often(lambda: service.slot(names), service.limits, what="list"))[0]

    def begin_in_child(self) -> None:
        """Forget what the parent has under way, in a forked child."""
        if self.cache is not None:
            self.cache.begin_in_child()

    def keep_for_later(self, n_bytes: int) -> None:
        """Do without asking the server: the size is known, and there is a copy of the file."""
        self.state = FileState(n_bytes, "")

    async def _tail(self, service: Service, n_bytes: int) -> Tail:
        reader = await service.reader(self)
        return await reader.read_tail(self.url, n_bytes)

    async def read(
        self, service: Service, begin: int, end: int, *, past_cache: bool = False
    ) -> tuple[bytes, int]:
        """Return bytes [begin, end), and how many tries failed before.

        Raises
        ------
        Fault
            It could not be read.
        """
        if self.cache is None:
            return await self.fetch(service, begin, end)
        return await self.cache.read(service, self, begin, end, past_cache=past_cache)

    async def fetch(self, service: Service, begin: int, end: int) -> tuple[bytes, int]:
        """Return bytes [begin, end) from the server."""
        try:
            return await try_often(
                lambda: service.slot(lambda: self._range(service, begin, end)), service.limits
            )
        except Fault as fault:
            fault.what = f"read {end - begin} bytes at byte {begin}"
            raise

    async def _range(self, service: Service, begin: int, end: int) -> bytes:
        reader = await service.reader(self)
        return await reader.read_range(self.url, begin, end, self.state)
