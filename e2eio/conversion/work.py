"""Doing the tasks of a plan: here, or in worker processes that the caller's Ctrl-C does not reach."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np

from e2eio.conversion.plan import PlanOptions, Task
from e2eio.conversion.target import FinishedShard
from e2eio.errors import E2eioError, SchemaMismatchError
from e2eio.importers import Chunk, ImageSource, open_source
from e2eio.manifest import ShardEntry
from e2eio.schema import Schema
from e2eio.shards import open_writer, written_statistics

__all__ = ["run_here", "run_in_processes", "usable_processes", "write_shard"]

_POLL_S: Final = 0.2


class _StoppedError(Exception):
    """The caller wants no more shards."""


def usable_processes() -> int:
    """Return the number of cores that this process may use, or 1 if it may start no process."""
    if multiprocessing.current_process().daemon:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_here(
    tasks: Sequence[Task],
    schema: Schema,
    options: PlanOptions,
    out: Path,
    tick: Callable[[int], None],
) -> list[FinishedShard]:
    """Write the shards one after the other in this process.

    Parameters
    ----------
    tasks : sequence of Task
    schema : Schema
    options : PlanOptions
    out : path
    tick : callable
        Told the number of samples done since it was last told.
    """
    return [write_shard(task, schema, options, out, tick) for task in tasks]


def run_in_processes(
    tasks: Sequence[Task],
    schema: Schema,
    options: PlanOptions,
    out: Path,
    tick: Callable[[int], None],
    n_processes: int,
) -> list[FinishedShard]:
    """Write the shards in `n_processes` processes; the parameters are those of `run_here`.

    If one fails, or the caller is interrupted, the others stop at their next chunk and leave no
    unfinished file.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit Arrow's threads
    stop, count = context.Event(), context.Value("q", 0)
    pool = ProcessPoolExecutor(n_processes, context, _begin_worker, (stop, count))
    try:
        with _interrupts_blocked(), _main_hidden():
            futures = [pool.submit(_work, task, schema, options, str(out)) for task in tasks]
        return _collect(futures, count, tick)
    except BrokenProcessPool as error:
        raise E2eioError(
            "a worker process died: conversion: found no reason, expected it to finish; "
            "if memory was short, use fewer processes; then convert again to go on"
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(
    futures: list[Future[FinishedShard]], count: Synchronized[int], tick: Callable[[int], None]
) -> list[FinishedShard]:
    shards = []
    pending, told = set(futures), 0
    while pending:
        done, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        shards += [future.result() for future in done]
        now = count.value
        tick(now - told)
        told = now
    return shards


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Have the processes that are started in the block never see Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _main_hidden() -> Iterator[None]:
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


_stop: Event | None = None
_count: Synchronized[int] | None = None


def _begin_worker(stop: Event, count: Synchronized[int]) -> None:
    global _stop, _count  # what a pool hands to its workers can go nowhere else
    _stop, _count = stop, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(task: Task, schema: Schema, options: PlanOptions, out: str) -> FinishedShard:
    return write_shard(task, schema, options, Path(out), _tell)


def _tell(n_samples: int) -> None:
    if _stop is not None and _stop.is_set():
        raise _StoppedError
    if _count is not None:
        with _count.get_lock():
            _count.value += n_samples


def write_shard(
    task: Task,
    schema: Schema,
    options: PlanOptions,
    out: Path,
    tick: Callable[[int], None],
) -> FinishedShard:
    """Write one task's shard: all that a worker does, on whatever machine.

    May be called again, also for a shard that is there: the same task gives the same bytes, and the
    shard is there complete or not at all. Everything it takes and returns can be pickled, if `tick`
    can.

    Parameters
    ----------
    task : Task
    schema : Schema
    options : PlanOptions
    out : path
        Directory of the dataset; it exists.
    tick : callable
        Told, every chunk, the number of samples done since it was last told; what it raises ends
        the work, and leaves no file.

    Raises
    ------
    ImporterError, ShardIOError, SchemaMismatchError
        The source cannot be read, or has changed; the shard cannot be written.
    """
    source = open_source(task.path, options.imports)
    try:
        _check_unchanged(source, schema)
        writer = open_writer(
            out / task.file,
            schema,
            shard_id=task.shard_id,
            compression_level=options.compression_level,
            overwrite=True,  # what is there was found to be no finished shard
        )
        try:
            tick(0)
            for images, scalars in _wanted(source, task):
                writer.append(images, [scalars[field.name] for field in schema.scalars])
                tick(len(images))
            writer.finish()
        except BaseException:
            writer.abort()
            raise
    finally:
        source.close()
    entry = ShardEntry(task.file, writer.n_samples, writer.n_bytes, writer.digest)
    return FinishedShard(task.index, entry, written_statistics(writer), writer.n_rounded)


def _check_unchanged(source: ImageSource, schema: Schema) -> None:
    if source.schema != schema:
        raise SchemaMismatchError(
            f"source changed: {source.path}: found another schema than at the start; convert again",
            source.path,
        )


def _wanted(source: ImageSource, task: Task) -> Iterator[Chunk]:
    """Yield the task's chunks, cut around excluded samples so that they stay views."""
    begin = task.begin
    for images, scalars in source.chunks(task.begin, task.end):
        end = begin + len(images)
        gaps = [row - begin for row in task.exclude if begin <= row < end]
        for before, after in pairwise([-1, *gaps, len(images)]):
            part = slice(before + 1, after)
            if part.start < part.stop:
                yield images[part], {name: np.asarray(s[part]) for name, s in scalars.items()}
        begin = end
