"""Processes that do jobs: a parser that crashes on a hostile file takes only its process along.

Each is an interpreter of its own at the end of a pipe, which is all that joins it to the caller: a
worker whose pipe is closed stops at its next tick, and a pipe whose worker is gone says so.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import ModuleType
from typing import Any, Final

from e2eio.errors import E2eioError, InternalError
from e2eio.remote import KnownUrls

__all__ = [
    "Job",
    "WorkerCrash",
    "Workers",
    "interrupts_blocked",
    "main_hidden",
    "may_start_processes",
    "usable_processes",
]

_POLL_S: Final = 0.2
_END_S: Final = 10.0  # for a process whose pipe has ended
_KILLED: Final = "SIGKILL"


class _StoppedError(Exception):
    """The caller wants no more."""


@dataclass(frozen=True, slots=True)
class Job:
    """A call for a worker.

    Parameters
    ----------
    path : str
        File that it is about.
    place : callable
        Called here if the worker dies, with the sum of what it had told: returns what it was doing,
        to follow "its process was", and what to do about it.
    function : callable
        Of a module of this package; called with `arguments` and ``tick(n)``, which is to be called
        every few seconds, and whose error is to be passed on.
    arguments : tuple
    who : str
        What crashes if the worker does.
    error : type
        What is raised then.
    may_crash : bool
        A crash is yielded, as a `WorkerCrash`, and not raised.
    """

    path: str
    place: Callable[[int], tuple[str, str]]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    who: str
    error: type[E2eioError] = E2eioError
    may_crash: bool = False


@dataclass(frozen=True, slots=True)
class WorkerCrash:
    """What came of a job whose process crashed.

    Parameters
    ----------
    found : str
        Signal or exit code, as in ``"SIGSEGV"``.
    n_told : int
        Sum of what the job had told.
    error : E2eioError
        What says so.
    """

    found: str
    n_told: int
    error: E2eioError


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    index: int = -1  # of its job
    told: int = 0  # during this job


def may_start_processes() -> bool:
    """Return whether this process may have children; those of some pools may not."""
    return not multiprocessing.current_process().daemon


def usable_processes() -> int:
    """Return the number of cores that this process may use, or 1 if it may start no process."""
    if not may_start_processes():
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """Worker processes, started when they are needed, until they are closed.

    Ctrl-C reaches the caller alone. Closing stops the workers at their next tick, and waits for
    them. One thread at a time may use it.
    """

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, _Worker] = {}

    def close(self) -> None:
        """Stop the workers and wait for them; may be called again."""
        workers = [*self._idle, *self._busy.values()]
        self._idle, self._busy = [], {}
        for worker in workers:
            worker.pipe.close()
        for worker in workers:
            worker.process.join()

    def run(
        self, jobs: Sequence[Job], n_processes: int, tick: Callable[[int], None]
    ) -> Iterator[tuple[int, Any]]:
        """Do all jobs, and yield the number and result of each as it is done, or how it crashed.

        Parameters
        ----------
        jobs : sequence of Job
        n_processes : int
            At most.
        tick : callable
            Told what the jobs tell.

        Raises
        ------
        E2eioError
            A worker has crashed, or was killed; the message names its file, and what to do. A crash
            is the job's `error`.
        Exception
            What a job has raised.
        """
        while len(self._idle) < min(n_processes, len(jobs)):
            self._idle.append(_start())
        waiting = list(enumerate(jobs))[::-1]
        while waiting or self._busy:
            while waiting and len(self._busy) < n_processes:
                index, job = waiting.pop()
                worker = self._idle.pop() if self._idle else _start()
                worker.index, worker.told = index, 0
                self._busy[worker.pipe] = worker
                _send(worker, job)
            for pipe in wait(list(self._busy), _POLL_S):
                worker = self._busy[pipe]  # type: ignore[index]
                kind, value = _receive(worker, jobs[worker.index])
                if kind == "tick":
                    worker.told += value
                    tick(value)
                    continue
                self._busy.pop(worker.pipe)
                if kind == "crash":
                    worker.pipe.close()
                    yield worker.index, value
                    continue
                self._idle.append(worker)
                if kind == "error":
                    raise value
                yield worker.index, value


def _start() -> _Worker:
    context = multiprocessing.get_context("spawn")  # a fork would inherit Arrow's threads
    ours, theirs = context.Pipe()
    with theirs, interrupts_blocked(), main_hidden():
        process = context.Process(target=_serve, args=(theirs, KnownUrls()), daemon=True)
        process.start()
    return _Worker(process, ours)


def _send(worker: _Worker, job: Job) -> None:
    with suppress(OSError):  # it has died: receiving tells how
        worker.pipe.send((job.function, job.arguments))


def _receive(worker: _Worker, job: Job) -> tuple[str, Any]:
    try:
        message: tuple[str, Any] = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join(_END_S)
        crash = _death(worker, job)
        if not job.may_crash or crash.found == _KILLED:
            raise crash.error from None
        return "crash", crash
    return message


def _death(worker: _Worker, job: Job) -> WorkerCrash:
    exit_code = worker.process.exitcode
    doing, remedy = job.place(worker.told)
    if exit_code == -signal.SIGKILL:
        killed = E2eioError(
            f"worker was killed: {job.path}: found SIGKILL while it was {doing}, as from the "
            "system when memory is short; use fewer processes, then run it again to go on",
            job.path,
        )
        return WorkerCrash(_KILLED, worker.told, killed)
    if exit_code is None or exit_code >= 0:
        found = f"exit code {exit_code}"
    else:
        try:
            found = signal.Signals(-exit_code).name
        except ValueError:
            found = f"signal {-exit_code}"
    error = job.error(
        f"{job.who} crashed: {job.path}: found {found} while its process was {doing}, expected "
        f"a result or an error; {remedy}",
        job.path,
    )
    return WorkerCrash(found, worker.told, error)


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Have the processes that are started in the block never see Ctrl-C."""
    resource_tracker.ensure_running()  # the first process would start it, and that unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def main_hidden() -> Iterator[None]:
    """Have the processes that are started in the block not run the caller's program again.

    A spawned process imports the main module, in case what it is to call is defined there. Our
    workers need this package alone, and a program that calls `convert` at its top level would
    start a second conversion in each of them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(pipe: Connection, _: KnownUrls) -> None:
    """Do jobs until the pipe ends. The credentials in URLs have come with the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def tick(n_samples: int) -> None:
        try:
            pipe.send(("tick", n_samples))
            stopped = pipe.poll()  # nothing comes in mid-job but the end
        except OSError:
            stopped = True
        if stopped:
            raise _StoppedError

    with suppress(EOFError, OSError, _StoppedError):
        while True:
            function, arguments = pipe.recv()
            pipe.send(_do(function, arguments, tick))


def _do(
    function: Callable[..., Any], arguments: tuple[Any, ...], tick: Callable[[int], None]
) -> tuple[str, Any]:
    try:
        return "done", function(*arguments, tick)
    except _StoppedError:
        raise
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return "error", InternalError(f"{type(error).__name__}: {error}; please report it")
        return "error", error
