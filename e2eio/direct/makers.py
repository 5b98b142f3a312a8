"""Threads that have shards made, and hand them to the core."""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from typing import TYPE_CHECKING, Any, Final

from e2eio import _core
from e2eio.direct.child import CompleteCache, MakeShard, ReadScalars
from e2eio.direct.processes import Child, ask_once
from e2eio.distributed import share_of_cores
from e2eio.errors import ConfigError, E2eioError, InternalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.conversion.plan import Plan
    from e2eio.direct.cache import CacheDirectory

__all__ = ["Makers", "memory_limit"]

_MEMORY_SHARE: Final = 0.5  # of what is free when the dataset is opened


def memory_limit() -> int:
    """Return how many bytes of shards may be held in memory: ``E2EIO_DIRECT_MEMORY``, else half of what is free.

    Raises
    ------
    ConfigError
        The variable is no positive number.
    """
    given = os.environ.get("E2EIO_DIRECT_MEMORY")
    if given:
        try:
            n_bytes = int(float(given))
        except (ValueError, OverflowError):
            n_bytes = 0
        if n_bytes < 1:
            raise ConfigError(
                f"E2EIO_DIRECT_MEMORY is {given!r}; expected a number of bytes above 0, as 8e9"
            )
        return n_bytes
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123
            known = dict(line.split(":") for line in lines)
        available = 1024 * int(known["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        pass  # another system: free pages, without what the page cache would give up
    return int(_MEMORY_SHARE * available)


def _n_makers() -> int:
    if multiprocessing.parent_process() is not None:
        return 1  # a worker, whose siblings use the other cores
    return share_of_cores(_core.usable_cores())


class Makers:
    """The maker threads of one dataset. None runs before awaken(), and none when all shards are there.

    Each has a child process, and waits in the core for a shard that is wanted. They are daemons, which wait outside
    of Python, and hold no reference to the dataset, whose end ends them.

    Thread rule: any thread. Not for forked children, which have makers of their own.

    Parameters
    ----------
    plan : Plan
    late : LateShards
        Of the plan's shards.
    cache : CacheDirectory or None
        None: shards are kept in memory.
    held_bytes : int
        Shards that are there.
    child : Child or None
        A process that has planned, for the first maker.
    """

    def __init__(
        self,
        plan: Plan,
        late: _core.LateShards,
        cache: CacheDirectory | None,
        held_bytes: int,
        child: Child | None = None,
    ) -> None:
        self._spare = child
        self._plan = plan
        self._late = late
        self._cache = cache
        self._pid = os.getpid()
        self._lock = threading.Lock()  # of what follows
        self._threads: list[threading.Thread] = []
        self._children: list[Child] = []
        self._held_bytes = held_bytes
        self._limit_bytes = memory_limit() if cache is None else 0
        self._closed = False

    @property
    def held_bytes(self) -> int:
        """Bytes of the shards that are held in memory: they stay."""
        return self._held_bytes if self._cache is None else 0

    def warn_of_memory(self, n_bytes: int) -> None:
        """Say so if about that many bytes of shards will not be held."""
        if self._cache is None and n_bytes > self._limit_bytes:
            warnings.warn(
                f"memory may be short: {self._plan.sources[0].path}: all shards will take about {n_bytes} bytes, "
                f"and at most {self._limit_bytes} are held (E2EIO_DIRECT_MEMORY, else half of what is free); "
                "pass cache='directory', or convert the files",
                stacklevel=2,
            )

    def awaken(self) -> None:
        """Have threads run if shards are missing."""
        n_missing = self._late.n_missing
        if n_missing == 0:
            return
        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if self._closed or self._threads:
                return
            for _ in range(min(_n_makers(), n_missing)):
                thread = threading.Thread(target=self._run, name="e2eio-maker", daemon=True)
                self._threads.append(thread)
                thread.start()

    def read_scalars(self) -> list[NDArray[Any]]:
        """Return the scalar fields of all samples, read by a process of its own."""
        plan = self._plan
        columns: list[NDArray[Any]] = ask_once(ReadScalars(plan.sources, plan.schema, plan.options))
        return columns

    def _run(self) -> None:
        with self._lock:
            child, self._spare = self._spare or Child(), None
            self._children.append(child)
        try:
            while (wanted := self._late.next_wanted()) is not None:
                index, awaited = wanted
                try:
                    self._make(child, index, awaited)
                except BaseException as error:  # somebody waits for it
                    self._late.fail(index, _told(error))
        finally:
            with self._lock:
                self._children.remove(child)
            child.close()

    def _make(self, child: Child, index: int, awaited: bool) -> None:
        plan, cache = self._plan, self._cache
        task = plan.tasks[index]
        reader = None if cache is None else cache.find(task)
        if reader is None:
            directory = None if cache is None else str(cache.path)
            reply = child.ask(MakeShard(task, plan.schema, plan.options, directory, awaited))
            if reply is False:
                self._late.put_off(index)
                return
            if cache is None:
                self._hold(len(reply))
                name = f"{task.path}[{task.begin}:{task.end}]"
                reader = _core.ShardReader.of_bytes(reply, name)
            else:
                reader = _found(cache, index, plan)
        self._late.attach(index, reader)
        if cache is not None and self._late.n_missing == 0:
            child.ask(CompleteCache(plan, str(cache.path)))

    def _hold(self, n_bytes: int) -> None:
        with self._lock:
            if self._held_bytes + n_bytes > self._limit_bytes:
                raise ConfigError(
                    f"out of memory for samples: {self._plan.sources[0].path}: found "
                    f"{self._held_bytes + n_bytes} bytes of shards, expected at most {self._limit_bytes} "
                    "(E2EIO_DIRECT_MEMORY, else half of what was free); pass cache='directory', or convert "
                    "the files"
                )
            self._held_bytes += n_bytes

    def close(self) -> None:
        """End the threads and what their children do; idempotent. Does not wait for them."""
        if os.getpid() != self._pid:
            return
        self._late.close()
        with self._lock:
            self._closed = True
            children = list(self._children)
            spare, self._spare = self._spare, None
        for child in children:
            child.stop()
        if spare is not None:
            spare.close()


def _found(cache: CacheDirectory, index: int, plan: Plan) -> _core.ShardReader:
    reader = cache.find(plan.tasks[index])
    if reader is None:
        path = cache.path / plan.tasks[index].file
        raise InternalError(f"no shard after it was made: {path}", str(path))
    return reader


def _told(error: BaseException) -> BaseException:
    if isinstance(error, E2eioError):
        return error
    return InternalError(f"making a shard: {type(error).__name__}: {error}")
