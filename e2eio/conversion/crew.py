"""Who does the tasks of a conversion: processes of this machine, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2eio.conversion.crashes import find_crashes, first_unread
from e2eio.conversion.plan import Plan, Task
from e2eio.conversion.work import write_shard
from e2eio.errors import ConfigError, ImporterError
from e2eio.production import Crew, FinishedShard, Job, WorkerCrash
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
        yield from self._write_here(plan, tasks, out, tick, progress)

    def _write_here(
        self,
        plan: Plan,
        tasks: Sequence[Task],
        out: Path,
        tick: Callable[[int], None],
        progress: Progress,
    ) -> Iterator[FinishedShard]:
        """Do tasks; those whose reader crashes come last, again and again, without the samples that do it."""
        crashes = []
        for index, done in self.do([_writing(task, plan, out) for task in tasks], tick):
            if not isinstance(done, WorkerCrash):
                yield done
                continue
            tick(-done.n_told)
            crashes.append((tasks[index], done))

        for task, crash in crashes:
            progress.note(
                f"{task.path}: its reader crashed: {crash.found}; looking for the samples"
            )
            known = find_crashes(task, plan.options, crash, self._do_one)
            yield from self._write_here(plan, [known], out, tick, progress)

    def _do_one(self, job: Job) -> Any:
        ((_, result),) = self._workers.run([job], 1, lambda _: None)
        return result


def _writing(task: Task, plan: Plan, out: Path) -> Job:
    def place(n_done: int) -> tuple[str, str]:
        first = min(first_unread(task, n_done), task.end - 1)
        numbers = f"{task.first_sample + first}-{task.first_sample + task.end - 1}"
        return (
            f"reading samples {first} to {task.end - 1} of it, of which it gave none",
            "fetch the file again, leave the file out, or leave out the samples that do it, which "
            f"are among {numbers}, by exclude, or have them found by skip_bad",
        )

    arguments = (task, plan.schema, plan.options, out)
    # What is excluded may be read around, and what does it be found.
    may_crash = plan.options.skip_bad > 0 or bool(task.exclude)
    return Job(task.path, place, write_shard, arguments, "reader", ImporterError, may_crash)
