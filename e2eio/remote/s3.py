"""Ranges of objects of S3 and what speaks like it: each request is bound to the version that was opened."""

from __future__ import annotations

from typing import Any

from e2eio.remote.ranges import AsyncFiles, FileState, Tail, checked_length
from e2eio.remote.urls import RemoteUrl

__all__ = ["S3Files"]


class S3Files(AsyncFiles):
    """Objects of a bucket, with the credentials of s3fs's file system."""

    async def _get(self, url: RemoteUrl, **headers: str) -> tuple[bytes, Any]:
        self._fs.retries = 1  # tries are counted by who calls
        bucket, key, version = self._fs.split_path(self._path(url))
        if version:
            headers["VersionId"] = version
        answer = await self._fs._call_s3("get_object", Bucket=bucket, Key=key, **headers)
        async with answer["Body"] as body:
            return await body.read(), answer

    async def read_tail(self, url: RemoteUrl, n_bytes: int) -> Tail:
        """Return the last `n_bytes` of an object, by one request."""
        data, answer = await self._get(url, Range=f"bytes=-{n_bytes}")
        size = str(answer.get("ContentRange", "")).rpartition("/")[2]
        state = FileState(int(size) if size.isdecimal() else len(data), answer.get("ETag", ""))
        data = checked_length(data, min(n_bytes, state.n_bytes))
        return Tail(state, state.n_bytes - len(data), data)

    async def read_range(
        self, url: RemoteUrl, begin: int, end: int, state: FileState | None
    ) -> bytes:
        """Return bytes [begin, end)."""
        if begin == end:
            return b""
        same = {"IfMatch": state.identity} if state is not None and state.identity else {}
        data, _ = await self._get(url, Range=f"bytes={begin}-{end - 1}", **same)
        return checked_length(data, end - begin)

    async def close(self) -> None:
        """Close the connections."""
        client = getattr(self._fs, "_s3", None)
        if client is not None:
            await client.__aexit__(None, None, None)
            self._fs._s3 = None
