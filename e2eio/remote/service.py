"""The thread that fetches bytes: for the core, which asks through a queue, and for streams.

One event loop per process serves all files. It begins with the first file that is opened, and ends when
nobody holds a file any more. A forked child begins its own.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from e2eio import _core
from e2eio.errors import E2eioError, ShardIOError
from e2eio.remote.faults import Fault, described, fault_of
from e2eio.remote.file import RemoteFile
from e2eio.remote.limits import Limits
from e2eio.remote.ranges import RangeReader
from e2eio.remote.urls import RemoteUrl, StorageOptions

__all__ = ["Service", "current_service"]

_END_S: Final = 5.0  # for connections to be closed, when the interpreter ends
_LINGER_S: Final = 0.2  # programs open one file after the other

T = TypeVar("T")


class Service:
    """Fetches bytes in a thread of its own.

    Thread rule: any thread, but for what says otherwise. The thread is a daemon, so that a dataset that is still
    held does not keep the interpreter from ending; it is then ended and joined before that does.
    """

    def __init__(self, queue: _core.ReadQueue, files: dict[int, RemoteFile]) -> None:
        self.queue = queue
        self.files = files  # by the number of the core's source; changed in the thread that opens
        self.limits = Limits.from_environment()
        self.pid = os.getpid()
        self.n_users = 0  # besides the core's sources; under _lock
        self.ended = False  # under _lock
        self._finishing = False  # of the thread
        self._readers: dict[tuple[str, str, str], asyncio.Task[RangeReader]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}  # by ticket
        self._loop = asyncio.new_event_loop()
        self._helpers = ThreadPoolExecutor(8, "e2eio-remote")  # names, disks
        self._loop.set_default_executor(self._helpers)
        self._slots = asyncio.Semaphore(self.limits.requests)
        self._thread = threading.Thread(target=self._run, name="e2eio-remote", daemon=True)
        self._thread.start()

    # ---- any thread

    def call(self, coroutine: Callable[[], Awaitable[T]]) -> Future[T]:
        """Have a coroutine run in the thread; to cancel the future cancels it."""

        async def run() -> T:
            return await coroutine()

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def wait(self, coroutine: Callable[[], Awaitable[T]]) -> T:
        """Return what a coroutine returns; an interrupt ends it."""
        future = self.call(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def release(self) -> None:
        """One user fewer."""
        with _lock:
            self.n_users -= 1
        if not self.ended and self.pid == os.getpid():
            self._loop.call_soon_threadsafe(self._end_if_idle)

    def end(self) -> None:
        """End the thread, and all that waits for it."""
        with _lock:
            self.ended = True
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop)
            self._thread.join(_END_S)

    # ---- the thread

    async def reader(self, file: RemoteFile) -> RangeReader:
        """Return what reads the file; one for all files of a server."""
        key = file.server
        if key not in self._readers:
            self._readers[key] = asyncio.ensure_future(
                asyncio.to_thread(_make_reader, file.url, file.options, self._loop)
            )
        try:
            return await asyncio.shield(self._readers[key])
        except BaseException:
            if self._readers.get(key) is not None and self._readers[key].done():
                self._readers.pop(key)
            raise

    async def slot(self, call: Callable[[], Awaitable[T]]) -> T:
        """Do a request, as soon as there are few enough under way."""
        async with self._slots:
            return await call()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.add_reader(self.queue.descriptor, self._take)
        try:
            self._loop.run_forever()
        finally:
            self._finishing = True
            with _lock:
                self.ended = True
            self._loop.run_until_complete(self._finish())
            self._loop.remove_reader(self.queue.descriptor)
            self._helpers.shutdown(wait=False, cancel_futures=True)
            self._loop.close()
            self.queue.close("reading was stopped: the program ends; begin again")

    async def _finish(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        readers = [task.result() for task in self._readers.values() if _succeeded(task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for reader in readers:
            await asyncio.gather(reader.close(), return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the next turn

    def _take(self) -> None:
        tickets, abandoned, removed = self.queue.take()
        for ticket, number, begin, n_bytes, past_cache in tickets:
            task = self._loop.create_task(
                self._serve(ticket, self.files[number], begin, begin + n_bytes, past_cache)
            )
            self._tasks[ticket] = task
        for ticket in abandoned:
            if ticket in self._tasks:
                self._tasks.pop(ticket).cancel()
        for number in removed:
            self.files.pop(number, None)
        if removed:
            self._end_if_idle()

    async def _serve(
        self, ticket: int, file: RemoteFile, begin: int, end: int, past_cache: bool
    ) -> None:
        try:
            data, n_retries = await file.read(self, begin, end, past_cache=past_cache)
            self.queue.complete(ticket, data, n_retries)
        except asyncio.CancelledError:
            self.queue.fail(ticket, "io", "reading was stopped", str(file.url), 0)
            raise
        except E2eioError as error:
            self.queue.fail(ticket, "io", str(error), str(file.url), 0)
        except Exception as error:
            fault = error if isinstance(error, Fault) else fault_of(error)
            self.queue.fail(ticket, *described(file.url, fault))
        finally:
            self._tasks.pop(ticket, None)

    def _end_if_idle(self) -> None:
        if self._idle():
            self._loop.call_later(_LINGER_S, self._end_now_if_idle)

    def _end_now_if_idle(self) -> None:
        with _lock:
            if not self._idle():
                return
            self.ended = True
        self._stop()

    def _stop(self) -> None:
        if not self._finishing:  # that is run by the loop as well
            self._loop.stop()

    def _idle(self) -> bool:
        return self.n_users == 0 and self.queue.n_sources == 0


def _succeeded(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _make_reader(
    url: RemoteUrl, options: StorageOptions, loop: asyncio.AbstractEventLoop
) -> RangeReader:
    from e2eio.remote.filesystem import make_reader

    return make_reader(url, options, loop)


_lock = threading.RLock()
_service: Service | None = None


def current_service() -> Service:
    """Return the service of this process, begun if there is none, with one user more: `release` it."""
    global _service
    with _lock:
        if _service is None or _service.ended:
            if _exiting:
                raise ShardIOError("cannot read a URL: the interpreter ends; read before that")
            _service = Service(_core.ReadQueue(), {})
        _service.n_users += 1
        return _service


_exiting = False


def _end_at_exit() -> None:
    global _exiting
    with _lock:
        _exiting = True
        service = _service
    if service is not None and not service.ended and service.pid == os.getpid():
        service.end()


def _begin_in_child() -> None:
    """Serve the files that a forked child has from its parent; its threads are not there."""
    global _lock, _service
    _lock = threading.RLock()
    parent, _service = _service, None
    if parent is None or parent.ended or parent.queue.n_sources == 0:
        return
    _forgotten.append(parent)  # its loop's sockets are the parent's: nobody may close them here
    for file in parent.files.values():
        file.begin_in_child()
    _service = Service(parent.queue, parent.files)


_forgotten: list[Service] = []

atexit.register(_end_at_exit)
os.register_at_fork(after_in_child=_begin_in_child)
