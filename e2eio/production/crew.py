"""Who does the jobs: this process, or worker processes of its own; and how many samples are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from e2eio.errors import ConfigError
from e2eio.production.finished import FinishedShard
from e2eio.production.target import ShardTask
from e2eio.production.workers import Job, Workers, may_start_processes, usable_processes
from e2eio.progress import Progress

__all__ = ["Crew", "start_progress"]

T = TypeVar("T", bound=ShardTask)
AnyCrew = TypeVar("AnyCrew", bound="Crew")


class Crew:
    """Does jobs; a context manager that ends what it has started. One thread at a time may use it.

    Parameters
    ----------
    processes : int or None
        At most; None: as many as there are usable cores.
    isolate : bool
        Do jobs in other processes even where one would do.

    Raises
    ------
    ConfigError
        A number of processes below 1.
    """

    def __init__(self, processes: int | None, isolate: bool = False) -> None:
        if processes is not None and processes < 1:
            raise ConfigError(
                f"wrong number of processes: found {processes!r}, expected at least 1"
            )
        self._n_processes = processes or usable_processes()
        self._isolate = isolate and may_start_processes()
        self._workers = Workers()

    def __enter__(self: AnyCrew) -> AnyCrew:
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.close()

    def do(
        self, jobs: Sequence[Job], tick: Callable[[int], None], *, at_most: int | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Do jobs, and yield the number and result of each as it is done.

        Parameters
        ----------
        jobs : sequence of Job
        tick : callable
            Told what the jobs tell.
        at_most : int, optional
            Processes.

        Raises
        ------
        E2eioError
            Of the first job that fails; the others are stopped.
        """
        n_processes = min(self._n_processes, len(jobs), at_most or len(jobs))
        if self._isolate or n_processes > 1:
            yield from self._workers.run(jobs, n_processes, tick)
            return
        for index, job in enumerate(jobs):
            yield index, job.function(*job.arguments, tick)


def start_progress(
    out: Path,
    tasks: Sequence[T],
    finished: Sequence[FinishedShard],
    n_samples: int,
    progress: Progress,
) -> tuple[list[T], Callable[[int], None]]:
    """Return the tasks that are left, and what is to be told the number of samples done."""
    done = {shard.index for shard in finished}
    if finished:
        progress.note(f"{out}: going on from {len(done)} of {len(tasks)} shards")
    n_done = sum(task.n_samples for task in tasks if task.index in done)
    progress.start(n_samples, n_done)

    def tick(n_more: int) -> None:
        nonlocal n_done
        n_done += n_more
        progress.update(n_done)

    return [task for task in tasks if task.index not in done], tick
