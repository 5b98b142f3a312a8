"""Who does the tasks of a conversion: this process, worker processes of its own, or a Dask cluster."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2eio.conversion.plan import Plan, Task
from e2eio.conversion.work import FinishedShard, write_shard
from e2eio.conversion.workers import Job, Workers, may_start_processes, usable_processes
from e2eio.errors import ConfigError
from e2eio.progress import Progress

if TYPE_CHECKING:
    from e2eio.conversion.cluster import Cluster

__all__ = ["Crew", "do_jobs"]


class Crew:
    """Does tasks; a context manager that ends what it has started. One thread at a time may use it.

    Parameters
    ----------
    processes : int or None
        At most; None: as many as there are usable cores.
    isolate : bool
        Read sources in other processes even where one would do.
    dask : bool, str, path, Client or None
        A Dask cluster, as of `convert`; None or False: this machine.

    Raises
    ------
    ConfigError
        A number of processes below 1, or one beside a cluster that has its own.
    """

    def __init__(self, processes: int | None, isolate: bool, dask: Cluster | None = None) -> None:
        if processes is not None and processes < 1:
            raise ConfigError(
                f"wrong number of processes: found {processes!r}, expected at least 1"
            )
        if dask is not None and not isinstance(dask, bool) and processes is not None:
            raise ConfigError(
                f"both processes={processes} and a Dask cluster that is running: expected one of "
                "them; the cluster has the workers that it has"
            )
        self.n_processes = processes or usable_processes()
        self._asked = processes
        self._isolate = isolate and may_start_processes()
        self._workers = Workers()
        self._dask = None if dask is False else dask

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.close()

    def workers(self, n_wanted: int) -> Workers | None:
        """Return the workers of this machine, or None: this process is to do it."""
        return self._workers if self._isolate or min(n_wanted, self.n_processes) > 1 else None

    def write(
        self,
        plan: Plan,
        tasks: Sequence[Task],
        out: Path,
        tick: Callable[[int], None],
        progress: Progress,
    ) -> Iterator[FinishedShard]:
        """Do tasks and yield each shard as it is finished.

        Parameters
        ----------
        plan : Plan
        tasks : sequence of Task
            Of the plan.
        out : path
            Directory of the shards.
        tick : callable
            Told the number of samples done since it was last told.
        progress : Progress
            Told of what a cluster does.

        Raises
        ------
        E2eioError
            Of the first task that fails; the others are stopped.
        """
        if self._dask is not None:
            from e2eio.conversion.cluster import run_on_cluster

            yield from run_on_cluster(
                tasks,
                plan,
                out,
                tick,
                cluster=self._dask,
                n_processes=self._asked,
                progress=progress,
            )
            return
        jobs = [_writing(task, plan, out) for task in tasks]
        n_processes = min(self.n_processes, len(jobs))
        for _, shard in do_jobs(self.workers(len(jobs)), jobs, n_processes, tick):
            yield shard


def do_jobs(
    workers: Workers | None, jobs: Sequence[Job], n_processes: int, tick: Callable[[int], None]
) -> Iterator[tuple[int, Any]]:
    """Do jobs in workers, or here where there are none; yield the number and result of each."""
    if workers is not None:
        yield from workers.run(jobs, n_processes, tick)
        return
    for index, job in enumerate(jobs):
        yield index, job.function(*job.arguments, tick)


def _writing(task: Task, plan: Plan, out: Path) -> Job:
    def place(n_done: int) -> tuple[str, str]:
        rows = [row for row in range(task.begin, task.end) if not _has(task.exclude, row)]
        first = rows[n_done] if n_done < len(rows) else task.end - 1
        numbers = f"{task.first_sample + first}-{task.first_sample + task.end - 1}"
        return (
            f"reading samples {first} to {task.end - 1} of it, of which it gave none",
            "fetch the file again, leave the file out, or leave out the samples that do it, which "
            f"are among {numbers}, by exclude",
        )

    arguments = (task, plan.schema, plan.options, out)
    return Job(task.path, place, write_shard, arguments)


def _has(ascending: Sequence[int], number: int) -> bool:
    place = bisect_left(ascending, number)
    return place < len(ascending) and ascending[place] == number
