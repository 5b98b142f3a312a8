"""Which samples crash their reader: parts of a source are read in processes of their own, in ever smaller ones."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

from e2eio.conversion.plan import PlanOptions, Task
from e2eio.conversion.reading import WantedRows
from e2eio.errors import ImporterError
from e2eio.importers import open_source
from e2eio.production import Job, WorkerCrash

__all__ = ["find_crashes", "first_unread"]

_REMEDY: Final = "fetch the file again, or leave the file out"


def first_unread(task: Task, n_done: int) -> int:
    """Return the row after the `n_done` wanted rows that a task's reader has given; the end, if it has given all."""
    crashed = {row for row, _ in task.crashed}
    left = n_done
    for row in range(task.begin, task.end):
        if left == 0:
            return row
        left -= not (_has(task.exclude, row) or row in crashed)
    return task.end


def find_crashes(
    task: Task, options: PlanOptions, crash: WorkerCrash, do: Callable[[Job], Any]
) -> Task:
    """Return the task with the rows around which its source is to be read: each crashes a reader by itself.

    Excluded rows are among them, whatever they do. A part of the source that crashes a process is read again in halves,
    in a process that none has crashed yet, from the first row that was not given, until one row is left whose reading
    alone does it: that takes about ``log2(rows)`` processes, of half a second each.

    Parameters
    ----------
    task : Task
    options : PlanOptions
        More than `skip_bad` rows are not looked for.
    crash : WorkerCrash
        Of the task.
    do : callable
        Has a worker process do a job; returns its result, or the `WorkerCrash`.

    Raises
    ------
    ImporterError
        There are more than that; or the crash itself, where no row alone does it.
    E2eioError
        A process was killed.
    """
    found = {**dict.fromkeys(task.exclude, "excluded"), **dict(task.crashed)}
    todo = _halves(found, first_unread(task, crash.n_told), task.end) if options.skip_bad else []
    while todo:
        begin, end = todo.pop()
        part = replace(task, begin=begin, end=end, exclude=(), crashed=_within(found, begin, end))
        again = do(_reading(part, options))
        if not isinstance(again, WorkerCrash):
            continue
        unread = first_unread(part, again.n_told)
        if end - begin == 1 and unread == begin:
            found[begin] = again.found
            _require_few(task, options, len(found) - len(task.exclude), begin, again)
        else:
            todo += _halves(found, unread, end)
    if len(found) == len(task.crashed):
        raise crash.error
    return replace(task, crashed=_within(found, task.begin, task.end))


def _halves(found: Mapping[int, str], begin: int, end: int) -> list[tuple[int, int]]:
    """Return what of [begin, end) is to be read apart, the first part last."""
    rows = [row for row in range(begin, end) if row not in found]
    if len(rows) < 2:
        return [(row, row + 1) for row in rows]
    middle = rows[len(rows) // 2]
    return [(middle, rows[-1] + 1), (rows[0], middle)]


def _within(found: Mapping[int, str], begin: int, end: int) -> tuple[tuple[int, str], ...]:
    return tuple(sorted((row, how) for row, how in found.items() if begin <= row < end))


def _reading(part: Task, options: PlanOptions) -> Job:
    def place(_: int) -> tuple[str, str]:
        return f"reading samples {part.begin} to {part.end - 1} of it", _REMEDY

    return Job(part.path, place, _read, (part, options), "reader", ImporterError, may_crash=True)


def _read(part: Task, options: PlanOptions, tick: Callable[[int], None]) -> None:
    """Read a part as a conversion does, and keep nothing."""
    tick(0)
    with closing(open_source(part.path, part.imports(options))) as source:
        rows = WantedRows(source, part.exclude, part.end - part.begin, part.crashed)
        for piece in rows.read(part.begin, part.end):
            tick(len(piece.images))


def _require_few(
    task: Task, options: PlanOptions, n_bad: int, row: int, crash: WorkerCrash
) -> None:
    if n_bad > options.skip_bad:
        raise ImporterError(
            f"too many bad samples: {task.path}: found {n_bad} or more, expected at most skip_bad = "
            f"{options.skip_bad}; the last one, sample {row}: its reader crashed: {crash.found}",
            task.path,
            sample=row,
        ) from crash.error


def _has(ascending: Sequence[int], number: int) -> bool:
    place = bisect_left(ascending, number)
    return place < len(ascending) and ascending[place] == number
