"""Ranges over HTTP: every answer is checked, status, range, length and identity."""

from __future__ import annotations

import re
from typing import Any, Final

from e2eio.remote.faults import Fault, changed_fault, status_fault
from e2eio.remote.ranges import AsyncFiles, FileState, Tail, checked_length
from e2eio.remote.urls import RemoteUrl

__all__ = ["HttpFiles"]

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_MAX_WHOLE_BYTES: Final = 64 << 20  # taken from a server that sends files whole or not at all


async def _body(answer: Any, n_bytes: int) -> bytes:
    """Return a body of so many bytes; no more of it is ever held."""
    data: bytes = await answer.content.readexactly(n_bytes)
    if await answer.content.read(1):
        raise Fault(f"got more than {n_bytes} bytes, as were announced", passing=True)
    return data


class HttpFiles(AsyncFiles):
    """Files of an HTTP server, with the session and the headers of fsspec's file system."""

    #: Headers of answers that tell a file from the one that may replace it, the best one first.
    _IDENTITY: tuple[str, ...] = ("ETag", "Last-Modified")

    async def _request(
        self, url: RemoteUrl, state: FileState | None
    ) -> tuple[Any, str, dict[str, Any]]:
        """Return the session, what to ask it for, and with which options."""
        session = await self._fs.set_session()
        target = self._fs.encode_url(url.whole.partition("#")[0])
        return session, target, dict(self._fs.kwargs)

    async def _get(
        self, url: RemoteUrl, byte_range: str, state: FileState | None = None
    ) -> tuple[bytes, int, FileState]:
        """Return what the server sends, the place of its first byte, and the state of the file."""
        session, target, given = await self._request(url, state)
        headers = {**given.pop("headers", {}), "Range": byte_range, "Accept-Encoding": "identity"}
        async with session.get(target, headers=headers, **given) as answer:
            if answer.status == 206:
                return await self._part(answer)
            if answer.status == 200:
                return await self._whole(answer)
            raise status_fault(
                answer.status, answer.reason or "", answer.headers.get("Retry-After")
            )

    async def _part(self, answer: Any) -> tuple[bytes, int, FileState]:
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if found is None:
            raise Fault("the server does not say which bytes it sends", passing=False)
        begin, last, n_bytes = (int(group) for group in found.groups())
        n_expected = last + 1 - begin
        length = answer.headers.get("Content-Length")
        if not 0 < n_expected <= _MAX_WHOLE_BYTES or (
            length is not None and length != str(n_expected)
        ):
            raise Fault(f"the server announces {length} bytes of {n_expected}", passing=True)
        data = await _body(answer, n_expected)
        return data, begin, FileState(n_bytes, self._identity(answer.headers))

    async def _whole(self, answer: Any) -> tuple[bytes, int, FileState]:
        length = answer.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_WHOLE_BYTES:
            raise Fault(
                "the server does not send parts of files (it ignores Range)",
                passing=False,
                remedy="copy the file here, or take a server that does",
            )
        data = await _body(answer, int(length))
        return data, 0, FileState(len(data), self._identity(answer.headers))

    def _identity(self, headers: Any) -> str:
        return next((str(headers[name]) for name in self._IDENTITY if headers.get(name)), "")

    async def read_tail(self, url: RemoteUrl, n_bytes: int) -> Tail:
        """Return the last `n_bytes` of a file, by one request."""
        try:
            data, begin, state = await self._get(url, f"bytes=-{n_bytes}")
        except Fault as fault:
            if fault.passing or fault.errno:
                raise
            return await super().read_tail(url, n_bytes)  # an empty file, or no such ranges there
        skip = max(0, len(data) - n_bytes)
        return Tail(state, begin + skip, data[skip:])

    async def read_range(
        self, url: RemoteUrl, begin: int, end: int, state: FileState | None
    ) -> bytes:
        """Return bytes [begin, end)."""
        if begin == end:
            return b""
        data, first, now = await self._get(url, f"bytes={begin}-{end - 1}", state)
        if state is not None and now.n_bytes != state.n_bytes:
            raise changed_fault(f"found {now.n_bytes} bytes, expected {state.n_bytes}")
        if state is not None and "" != now.identity != state.identity != "":
            raise changed_fault(f"found {now.identity}, expected {state.identity}")
        return checked_length(data[max(0, begin - first) :][: end - begin], end - begin)
