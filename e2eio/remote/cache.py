"""Copies of remote shards in a directory, named by their digests, for several processes at once.

``<digest>.e2e`` is a whole shard. Until it is whole, ``<digest>.part`` holds the blocks that were fetched, and
``<digest>.map`` says which, each with its checksum: a block that was not written in full is fetched again.
"""

from __future__ import annotations

import asyncio
import errno
import os
import struct
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2eio import _core
from e2eio.errors import E2eioError, ShardIOError
from e2eio.remote.faults import Fault

if TYPE_CHECKING:
    from e2eio.manifest import ShardEntry
    from e2eio.remote.file import RemoteFile
    from e2eio.remote.service import Service

__all__ = ["BLOCK_BYTES", "CachedBlocks", "kept_shard"]

#: What is fetched and kept as a whole.
BLOCK_BYTES: Final = 256 << 10
_MAX_RUN: Final = 16  # blocks of one request
_ROUNDS: Final = 4  # of fetching what is missing, at most
_MARK: Final = struct.Struct("<II")  # 1 if the block is there, its crc32c


_Fetched = tuple[range, bytes, int]  # blocks, their bytes, tries that failed before


def kept_shard(directory: Path | None, entry: ShardEntry | None) -> Path | None:
    """Return the whole copy of a shard, or None."""
    if directory is None or entry is None:
        return None
    path = directory / f"{entry.digest}.e2e"
    try:
        return path if path.stat().st_size == entry.n_bytes else None
    except OSError:
        return None


class CachedBlocks:
    """What a cache directory has of one shard.

    Thread rule: coroutines run in the service's thread, all else in its helpers. Processes share the files: two that
    fetch the same block write the same bytes.

    Parameters
    ----------
    directory : path
    digest : str
        Of the shard.
    n_bytes : int
        Size of the shard.
    reader : weakref
        What reads the shard, and is to read the copy once that is whole.

    Raises
    ------
    ShardIOError
        The directory cannot be written into.
    """

    def __init__(
        self,
        directory: Path,
        digest: str,
        n_bytes: int,
        reader: weakref.ref[_core.ShardReader],
    ) -> None:
        self._whole = directory / f"{digest}.e2e"
        self._part = directory / f"{digest}.part"
        self._map = directory / f"{digest}.map"
        self._digest = digest
        self._n_bytes = n_bytes
        self._n_blocks = -(-n_bytes // BLOCK_BYTES)
        self._reader = reader
        self._pending: dict[int, asyncio.Task[_Fetched]] = {}  # by block
        self._rest: asyncio.Task[None] | None = None
        self._adopted = False
        self._n_put = 0  # runs that were fetched
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if self._whole.exists() and self._whole.stat().st_size != n_bytes:
                self._whole.unlink(missing_ok=True)
            if not self._whole.exists():
                self._make_parts()
        except OSError as error:
            raise ShardIOError(
                f"cannot write: cache {directory}: {error.strerror}; choose another directory",
                str(directory),
                errno=error.errno,
            ) from error

    def begin_in_child(self) -> None:
        """Forget what the parent has under way, in a forked child."""
        self._pending = {}
        self._rest = None

    async def read(
        self, service: Service, file: RemoteFile, begin: int, end: int, *, past_cache: bool
    ) -> tuple[bytes, int]:
        """Return bytes [begin, end) of the shard, and how many tries failed before."""
        blocks = range(begin // BLOCK_BYTES, -(-end // BLOCK_BYTES))
        if past_cache:
            data, n_retries = await file.fetch(service, begin, end)
            await asyncio.to_thread(self._repair, begin, data)
            return data, n_retries
        found: dict[int, bytes] = {}
        missing = list(blocks)
        n_put = -1
        while missing and n_put != self._n_put:  # a block may come while it is looked for
            n_put = self._n_put
            found |= await asyncio.to_thread(self._found, missing)
            missing = [block for block in missing if block not in found]
        for run in _runs([block for block in missing if block not in self._pending]):
            self._begin(service, file, run)
        n_retries = 0
        for task in {self._pending[block] for block in missing}:
            run, data, n_more = await asyncio.shield(task)
            n_retries += n_more
            for index, block in enumerate(run):
                found[block] = data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]
        joined = b"".join(found[block] for block in blocks)
        skip = begin - blocks.start * BLOCK_BYTES
        return joined[skip : skip + end - begin], n_retries

    def _begin(self, service: Service, file: RemoteFile, run: range) -> asyncio.Task[_Fetched]:
        task = asyncio.ensure_future(self._fetch(service, file, run))
        self._pending |= dict.fromkeys(run, task)
        task.add_done_callback(_looked_at)
        return task

    async def _fetch(self, service: Service, file: RemoteFile, run: range) -> _Fetched:
        try:
            end = min(self._n_bytes, run.stop * BLOCK_BYTES)
            data, n_retries = await file.fetch(service, run.start * BLOCK_BYTES, end)
            n_missing = await asyncio.to_thread(self._put, run, data)
            if n_missing == 0:
                await asyncio.to_thread(self._finish)
            if n_missing <= self._n_blocks // 2 and self._rest is None and not self._adopted:
                # Ends of the file are read by nobody, and the records of other ranks not here.
                self._rest = asyncio.ensure_future(self._fetch_rest(service, file))
            return run, data, n_retries
        finally:
            self._n_put += 1
            for block in run:
                self._pending.pop(block, None)

    async def _fetch_rest(self, service: Service, file: RemoteFile) -> None:
        # Who reads fetches too, so what is missing is looked up before each request.
        for _ in range(_ROUNDS * (self._n_blocks // _MAX_RUN + 1)):
            n_put = self._n_put
            marked = await asyncio.to_thread(self._marked)
            missing = [block for block, is_there in enumerate(marked) if not is_there]
            if not missing:
                await asyncio.to_thread(self._finish)
            if self._adopted:
                return
            if n_put != self._n_put or not missing:  # damaged blocks are missing now
                continue
            new = [block for block in missing if block not in self._pending]
            with suppress(Fault):  # who needs the bytes will say so
                if new:
                    await self._begin(service, file, next(_runs(new)))
                else:
                    await asyncio.shield(self._pending[missing[0]])

    def _found(self, blocks: Sequence[int]) -> dict[int, bytes]:
        """Return those of the blocks that are there, undamaged."""
        for _ in range(2):  # the copy may get its name between the two looks
            with suppress(FileNotFoundError):
                found = self._found_in_whole(blocks)
                self._adopt()
                return found
            with suppress(FileNotFoundError):
                return self._found_in_part(blocks)
        return {}  # somebody clears the cache

    def _found_in_whole(self, blocks: Sequence[int]) -> dict[int, bytes]:
        with self._whole.open("rb") as whole:
            return {
                block: os.pread(whole.fileno(), BLOCK_BYTES, block * BLOCK_BYTES)
                for block in blocks
            }

    def _found_in_part(self, blocks: Sequence[int]) -> dict[int, bytes]:
        found = {}
        with self._part.open("rb") as part, self._map.open("r+b") as marks:
            for block in blocks:
                data = os.pread(part.fileno(), BLOCK_BYTES, block * BLOCK_BYTES)
                mark = os.pread(marks.fileno(), _MARK.size, block * _MARK.size)
                if mark == _MARK.pack(1, _core.crc32c(data)):
                    found[block] = data
                elif mark[:1] == b"\1":  # damaged
                    os.pwrite(marks.fileno(), _MARK.pack(0, 0), block * _MARK.size)
        return found

    def _marked(self) -> list[bool]:
        try:
            marks = self._map.read_bytes().ljust(self._n_blocks * _MARK.size, b"\0")
        except FileNotFoundError:
            return [self._whole.exists()] * self._n_blocks
        return [mark == 1 for mark, _ in _MARK.iter_unpack(marks)]

    def _make_parts(self) -> None:
        for path, n_bytes in (
            (self._part, self._n_bytes),
            (self._map, self._n_blocks * _MARK.size),
        ):
            with path.open("ab") as stream:
                if stream.tell() != n_bytes:
                    stream.truncate(n_bytes)

    def _put(self, run: range, data: bytes) -> int:
        """Write blocks; return how many are missing still."""
        try:
            if not self._whole.exists():
                self._make_parts()
                with self._part.open("r+b") as part, self._map.open("r+b") as marks:
                    os.pwrite(part.fileno(), data, run.start * BLOCK_BYTES)
                    for index, block in enumerate(run):
                        content = data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]
                        mark = _MARK.pack(1, _core.crc32c(content))
                        os.pwrite(marks.fileno(), mark, block * _MARK.size)
        except FileNotFoundError:  # somebody clears the cache, or has finished the copy
            pass
        except OSError as error:
            raise _refused(self._part, error) from error
        return self._marked().count(False)

    def _finish(self) -> None:
        """Give the copy its name if it is the shard, and have it read."""
        try:
            if not self._whole.exists():
                for begin in range(0, self._n_blocks, _MAX_RUN):
                    run = range(begin, min(begin + _MAX_RUN, self._n_blocks))
                    if len(self._found(run)) < len(run):
                        return
                if _core.ShardReader(str(self._part)).digest != self._digest:
                    self._map.unlink(missing_ok=True)  # begin anew
                    return
                self._part.rename(self._whole)
            self._part.unlink(missing_ok=True)
            self._map.unlink(missing_ok=True)
        except E2eioError:
            self._map.unlink(missing_ok=True)
            return
        except OSError as error:
            if not self._whole.exists():  # else another process was first
                raise _refused(self._whole, error) from error
        self._adopt()

    def _adopt(self) -> None:
        reader = self._reader()
        if reader is not None and not self._adopted:
            self._adopted = True
            _core.adopt(reader, str(self._whole))

    def _repair(self, begin: int, data: bytes) -> None:
        """Put bytes in the place of damaged ones, or have them fetched again."""
        try:
            if self._whole.exists():
                with self._whole.open("r+b") as copy:
                    os.pwrite(copy.fileno(), data, begin)
                return
            with self._map.open("r+b") as marks:
                for block in range(begin // BLOCK_BYTES, -(-(begin + len(data)) // BLOCK_BYTES)):
                    os.pwrite(marks.fileno(), _MARK.pack(0, 0), block * _MARK.size)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _refused(self._whole, error) from error


def _looked_at(task: asyncio.Task[_Fetched]) -> None:
    """Have nobody complain of an error that nobody waits for."""
    if not task.cancelled():
        task.exception()


def _runs(blocks: Sequence[int]) -> Iterator[range]:
    """Yield neighbours together, as few as one request may fetch."""
    begin = 0
    for i in range(1, len(blocks) + 1):
        if i == len(blocks) or blocks[i] != blocks[i - 1] + 1 or i - begin == _MAX_RUN:
            yield range(blocks[begin], blocks[i - 1] + 1)
            begin = i


def _refused(path: Path, error: OSError) -> Fault:
    return Fault(
        f"the cache {path} cannot be written ({error.strerror})",
        passing=False,
        errno=error.errno or errno.EIO,
        remedy="make room, or choose another directory",
    )
