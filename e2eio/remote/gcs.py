"""Ranges of objects of Google's storage and what speaks like it: each request is bound to what was opened."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from e2eio.errors import MissingDependencyError
from e2eio.remote.faults import denied_fault, fault_of, status_fault
from e2eio.remote.http import HttpFiles
from e2eio.remote.ranges import FileState, Tail
from e2eio.remote.urls import RemoteUrl

try:
    from gcsfs.core import GCSFileSystem
except ImportError as error:  # pragma: no cover - exercised without the extra
    raise MissingDependencyError(
        "package gcsfs is missing: it reads gs:// for fsspec; run pip install 'e2eio[remote]'"
    ) from error

__all__ = ["GcsFiles", "open_gcs"]


def open_gcs(options: dict[str, Any]) -> Any:
    """Return gcsfs's file system, which finds the credentials.

    Its newer class is passed over, which asks by gRPC what kind a bucket is before it reads from it.

    Raises
    ------
    Fault
        The credentials that were given cannot be used, or looked at.
    """
    try:
        return GCSFileSystem(**options)
    except Exception as error:  # of google.auth, requests, json: a token's file or its service
        fault = fault_of(error)
        if fault.passing:
            raise fault from error
        raise denied_fault(f"token or storage_options cannot be used ({fault.reason})") from error


class GcsFiles(HttpFiles):
    """Objects of a bucket by the JSON API, with the credentials and the session of gcsfs's file system.

    gcsfs itself would try six times, with pauses of up to 32 s, where tries are counted by who calls, and cannot
    say that an object was replaced. Source: https://cloud.google.com/storage/docs/json_api/v1/objects.
    """

    _IDENTITY = ("x-goog-generation",)

    async def _request(
        self, url: RemoteUrl, state: FileState | None
    ) -> tuple[Any, str, dict[str, Any]]:
        more = {"ifGenerationMatch": state.identity} if state is not None else {}
        return await self._asked(self._fs.url(self._path(url)), more)

    async def _asked(self, target: str, more: dict[str, str]) -> tuple[Any, str, dict[str, Any]]:
        await self._fs._set_session()
        # To refresh a token is a request that would keep the loop waiting.
        headers = await asyncio.to_thread(self._fs._get_headers, None)
        return self._fs.session, target, {"headers": headers, "params": self._fs._get_params(more)}

    async def _json(self, target: str, more: dict[str, str]) -> dict[str, Any]:
        session, target, given = await self._asked(target, more)
        async with session.get(target, **given) as answer:
            if answer.status != 200:
                retry_after = answer.headers.get("Retry-After")
                raise status_fault(answer.status, answer.reason or "", retry_after)
            found: dict[str, Any] = await answer.json(content_type=None)
            return found

    def _resource(self, bucket: str, key: str = "") -> str:
        return f"{self._fs.base}b/{quote(bucket, safe='')}/o" + (key and f"/{quote(key, safe='')}")

    async def read_tail(self, url: RemoteUrl, n_bytes: int) -> Tail:
        """Return the last `n_bytes` of an object, and its generation."""
        bucket, key, generation = self._fs.split_path(self._path(url))
        if not key:
            raise IsADirectoryError("a bucket")
        more = {"generation": generation} if generation else {}
        found = await self._json(self._resource(bucket, key), more)
        state = FileState(int(found["size"]), str(found["generation"]))
        begin = max(0, state.n_bytes - n_bytes)
        return Tail(state, begin, await self.read_range(url, begin, state.n_bytes, state))

    async def names(self, url: RemoteUrl) -> list[str]:
        """Return the names between a prefix and the next ``/``."""
        bucket, key, _ = self._fs.split_path(self._path(url))
        prefix = f"{key.rstrip('/')}/" if key else ""
        more = {"prefix": prefix, "delimiter": "/"}
        names: list[str] = []
        while True:
            page = await self._json(self._resource(bucket), more)
            names += [each["name"] for each in page.get("items", [])]
            names += page.get("prefixes", [])
            if not page.get("nextPageToken"):
                break
            more["pageToken"] = page["nextPageToken"]
        if not names:
            raise FileNotFoundError("no objects begin so")
        return [name[len(prefix) :].rstrip("/") for name in names if name != prefix]
