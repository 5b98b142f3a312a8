"""Who does the tasks of a conversion: processes of this machine, or a Dask cluster."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from e2eio.conversion.plan import Plan, Task
from e2eio.conversion.work import write_shard
from e2eio.errors import ConfigError, ImporterError
from e2eio.production import Crew, FinishedShard, Job
from e2eio.progress import Progress

if TYPE_CHECKING:
    from e2eio.conversion.cluster import Cluster

__all__ = ["ConversionCrew"]


class ConversionCrew(Crew):
    """Does tasks of conversions too, in whatever place.

    Parameters
    ----------
    processes, isolate
        As of Crew.
    dask : bool, str, path, Client or None
        A Dask cluster, as of `convert`; None or False: this machine.

    Raises
    ------
    ConfigError
        A number of processes below 1, or one beside a cluster that has its own.
    """

    def __init__(self, processes: int | None, isolate: bool, dask: Cluster | None = None) -> None:
        super().__init__(processes, isolate)
        if dask is not None and not isinstance(dask, bool) and processes is not None:
            raise ConfigError(
                f"both processes={processes} and a Dask cluster that is running: expected one of "
                "them; the cluster has the workers that it has"
            )
        self._asked = processes
        self._dask = None if dask is False else dask

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
        for _, shard in self.do(jobs, tick):
            yield shard


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
    return Job(task.path, place, write_shard, arguments, "reader", ImporterError)


def _has(ascending: Sequence[int], number: int) -> bool:
    place = bisect_left(ascending, number)
    return place < len(ascending) and ascending[place] == number
