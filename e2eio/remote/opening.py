"""Shards and datasets by URL."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from e2eio import _core, manifest
from e2eio.errors import CorruptShardError, E2eioError, ShardIOError, ShardNotFoundError
from e2eio.manifest import ChannelStatistics, Manifest, ShardEntry
from e2eio.remote.cache import CachedBlocks, kept_shard
from e2eio.remote.faults import Fault
from e2eio.remote.file import RemoteFile
from e2eio.remote.service import Service, current_service
from e2eio.remote.urls import RemoteUrl, StorageOptions

__all__ = ["Opened", "open_dataset", "open_shard", "shard_urls"]

_TAIL_BYTES: Final = 64 << 10
_HEAD_BYTES: Final = 64  # fetched beside the tail: a request more, a round trip fewer
_MANIFEST_BYTES: Final = 64 << 20
_AT_ONCE: Final = 16  # shards that are opened
_MERGE_GAP_BYTES: Final = 256 << 10  # transferred in a few ms: less than a request takes

#: Shards, and the statistics of their channels where a manifest has them.
Opened = tuple[list[_core.ShardReader], "tuple[ChannelStatistics, ...] | None"]
CachePath = str | os.PathLike[str] | None
T = TypeVar("T")


def open_dataset(url: RemoteUrl, options: StorageOptions, cache: CachePath = None) -> Opened:
    """Open the shards at a URL: of a directory with ``dataset.json``, of one with ``*.e2e``, or one shard.

    Raises
    ------
    ShardNotFoundError, ShardIOError
        There is nothing, or the server cannot be read from.
    CorruptShardError
        A shard is damaged, or not the one that ``dataset.json`` lists.
    """
    service = current_service()
    opening = _Opening(service, options, cache)
    try:
        if _is_shard(url):
            return opening.shards([(url, None)]), None
        listed = opening.manifest_or_none(url)
        if listed is None:
            return opening.unlisted(url), None
        if not listed.shards:
            raise ShardNotFoundError(f"no dataset: {url}: lists no shards", path=str(url))
        entries = [(url.child(entry.file), entry) for entry in listed.shards]
        return opening.shards(entries), listed.statistics
    finally:
        service.release()


def open_shard(
    url: RemoteUrl, options: StorageOptions, cache: CachePath = None
) -> _core.ShardReader:
    """Open one shard by its URL; errors are those of :func:`open_dataset`."""
    service = current_service()
    try:
        return _Opening(service, options, cache).shards([(url, None)])[0]
    finally:
        service.release()


def shard_urls(url: RemoteUrl) -> tuple[Manifest | None, list[RemoteUrl]]:
    """Return the manifest at a URL, if there is one, and the shards of the dataset, unopened.

    Errors are those of :func:`open_dataset`, those of the shards not among them.
    """
    service = current_service()
    opening = _Opening(service, StorageOptions(), None)
    try:
        listed = None if _is_shard(url) else opening.manifest_or_none(url)
        if listed is not None:
            return listed, [url.child(entry.file) for entry in listed.shards]
        return None, [url] if _is_shard(url) else opening.found(url) or [url]
    finally:
        service.release()


def _is_shard(url: RemoteUrl) -> bool:
    return url.name.endswith(".e2e")


class _Opening:
    """Opens shards in threads, and can be ended while these wait for a server. Thread rule: any thread."""

    def __init__(self, service: Service, options: StorageOptions, cache: CachePath) -> None:
        self._service = service
        self._options = options
        self._cache = None if cache is None else Path(cache)
        self._lock = threading.Lock()
        self._numbers: set[int] = set()  # of sources that are being opened
        self._futures: set[Future[Any]] = set()
        self._ended = False

    def manifest(self, url: RemoteUrl) -> Manifest:
        service, file = self._service, RemoteFile(url.child(manifest.FILE_NAME), self._options)
        tail = self._wait(file, lambda: file.open(service, _MANIFEST_BYTES))
        if tail.begin > 0:
            raise ShardIOError(
                f"cannot read: {file.url}: found {tail.state.n_bytes} bytes, expected at most "
                f"{_MANIFEST_BYTES}; copy the dataset here",
                str(file.url),
            )
        return manifest.parse(str(file.url), tail.data)

    def manifest_or_none(self, url: RemoteUrl) -> Manifest | None:
        try:
            return self.manifest(url)
        except ShardNotFoundError:
            return None

    def found(self, url: RemoteUrl) -> list[RemoteUrl]:
        service, file = self._service, RemoteFile(url, self._options)
        try:
            names = self._wait(file, lambda: file.names(service))
        except E2eioError:  # no directory, or one that does not tell its content
            names = []
        return [url.child(name) for name in sorted(names) if name.endswith(".e2e")]

    def unlisted(self, url: RemoteUrl) -> list[_core.ShardReader]:
        found = self.found(url)
        if found:
            return self.shards([(each, None) for each in found])
        try:
            return self.shards([(url, None)])
        except ShardNotFoundError:
            raise ShardNotFoundError(
                f"no dataset: {url}: found neither {manifest.FILE_NAME} nor *.e2e; check the URL",
                path=str(url),
            ) from None

    def shards(
        self, entries: Sequence[tuple[RemoteUrl, ShardEntry | None]]
    ) -> list[_core.ShardReader]:
        """Open shards, several at once, in order. The caller's thread can be interrupted."""
        with ThreadPoolExecutor(min(_AT_ONCE, len(entries)), "e2eio-open") as pool:
            futures = [pool.submit(self._shard, url, entry) for url, entry in entries]
            try:
                return [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                self._end()
                raise
            finally:
                del futures  # as in _wait

    def _shard(self, url: RemoteUrl, entry: ShardEntry | None) -> _core.ShardReader:
        kept = kept_shard(self._cache, entry)
        file = RemoteFile(url, self._options)
        if kept is not None and entry is not None:
            try:
                return self._kept(file, kept, entry)
            except E2eioError:  # damaged: it is fetched again
                kept.unlink(missing_ok=True)
        service = self._service
        tail, head = self._wait(file, lambda: file.open_ends(service, _HEAD_BYTES, _TAIL_BYTES))
        reader = self._served(file, [(0, head), (tail.begin, tail.data)])
        if entry is not None and reader.digest != entry.digest:
            raise CorruptShardError(
                f"wrong shard: {url}: found digest {reader.digest}, expected {entry.digest} from "
                f"{manifest.FILE_NAME}; convert the dataset again",
                path=str(url),
            )
        if self._cache is not None:
            file.cache = CachedBlocks(
                self._cache, reader.digest, file.state.n_bytes, weakref.ref(reader)
            )
        return reader

    def _kept(self, file: RemoteFile, kept: Path, entry: ShardEntry) -> _core.ShardReader:
        """Open a shard that the cache has whole; the server is asked for what turns out to be damaged."""
        file.keep_for_later(entry.n_bytes)
        reader = self._served(file, [], str(kept))
        if reader.digest != entry.digest:
            raise CorruptShardError(f"damaged cache: {kept}", str(kept))
        file.cache = CachedBlocks(kept.parent, entry.digest, entry.n_bytes, weakref.ref(reader))
        return reader

    def _served(
        self, file: RemoteFile, parts: list[tuple[int, bytes]], local: str = ""
    ) -> _core.ShardReader:
        queue = self._service.queue
        number = queue.add_source()
        self._service.files[number] = file
        with self._lock:
            self._numbers.add(number)
        if self._ended:
            queue.fail_source(number, "io", "opening was stopped", str(file.url), 0)
        try:
            reader = _core.open_served(
                queue,
                number,
                str(file.url),
                f"remote {file.url.protocol}",
                file.state.n_bytes,
                _MERGE_GAP_BYTES,
                parts,
                local,
            )
        finally:
            with self._lock:
                self._numbers.discard(number)
        return reader

    def _wait(self, file: RemoteFile, coroutine: Callable[[], Awaitable[T]]) -> T:
        future = self._service.call(coroutine)
        with self._lock:
            self._futures.add(future)
        if self._ended:
            future.cancel()
        try:
            return future.result()
        except Fault as fault:
            raise fault.error(str(file.url)) from fault
        finally:
            future.cancel()
            with self._lock:
                self._futures.discard(future)
            del future  # it holds the error, which holds this frame

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            futures, numbers = list(self._futures), list(self._numbers)
        for future in futures:
            future.cancel()
        for number in numbers:
            self._service.queue.fail_source(number, "io", "opening was stopped", "", 0)
