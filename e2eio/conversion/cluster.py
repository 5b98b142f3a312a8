"""Doing the tasks of a plan on a Dask cluster: local processes, or the nodes that a scheduler has.

The scheduler hands each task to a worker, and to another one if that dies. A task is a function of
the plan alone and its shard appears complete or not at all, so it does not matter how often it is
begun. Workers read the sources and write the shards; the client looks at what it can see of both,
and alone holds the lock of the target and writes the manifest.
"""

from __future__ import annotations

import os
import queue
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2eio import manifest
from e2eio.conversion.cluster_worker import ADDRESS, ClusterJob, busy_here, convert_here, stop_here
from e2eio.conversion.plan import Plan, Task
from e2eio.errors import ConfigError, E2eioError, MissingDependencyError, ShardIOError
from e2eio.production import FinishedShard
from e2eio.production.workers import interrupts_blocked, main_hidden, usable_processes

try:
    from dask import distributed
except ImportError as error:
    raise MissingDependencyError(
        "dask.distributed is not installed: converting on a Dask cluster needs it; "
        "pip install 'e2eio[dask]'"
    ) from error

if TYPE_CHECKING:
    from e2eio.progress import Progress

__all__ = ["Cluster", "is_scheduler", "run_on_cluster"]

#: What ``convert(dask=)`` takes: True, a scheduler's address or file, or a connected client.
Cluster = bool | str | os.PathLike[str] | distributed.Client

_POLL_S: Final = 0.2
_CONNECT_S: Final = 30.0
_STOP_S: Final = 60.0  # for running tasks to notice that they are to stop
# A network file system may show a new file of another machine that late (NFS: acdirmax).
_VISIBLE_S: Final = 90.0
_LEAST_IN_FLIGHT: Final = 256  # so that adaptive clusters see that there is work


def is_scheduler(text: str) -> bool:
    """Say whether `text` can name a scheduler: an address, or the file that one has written."""
    return ADDRESS.fullmatch(text) is not None or text.endswith(".json")


def run_on_cluster(
    tasks: Sequence[Task],
    plan: Plan,
    out: Path,
    tick: Callable[[int], None],
    *,
    cluster: Cluster,
    n_processes: int | None,
    progress: Progress,
) -> list[FinishedShard]:
    """Write the shards on the workers of a Dask cluster.

    Parameters
    ----------
    tasks, plan, out, tick
        As of `ConversionCrew.write`. A worker that sees another file under the name of a source refuses.
    cluster : True, str, path or Client
        True: processes of this machine. Else the address of a scheduler (``tcp://host:8786``), the
        file that ``dask scheduler --scheduler-file`` writes, or a client, which stays open.
    n_processes : int or None
        Of a cluster of this machine; None: as many as there are usable cores.
    progress : Progress
        Told which cluster it is, and if no worker comes.

    Raises
    ------
    ConfigError
        `cluster` is none of these, or the workers have another version of this package.
    E2eioError
        There is no such scheduler, or it went away, or a task has killed several workers.
    ImporterError, ShardIOError, SchemaMismatchError
        Of the first task that fails; the others are stopped.
    """
    if not tasks:
        return []
    with _connected(cluster, n_processes or usable_processes(), len(tasks)) as client:
        progress.note(f"on Dask: {_address(client)}, {_n_threads(client)} worker thread(s)")
        run = _Run(client, plan, out, tick, progress)
        try:
            return run.collect(tasks)
        except CancelledError as error:
            raise E2eioError(
                f"lost the Dask scheduler: {_address(client)}: its tasks are cancelled; "
                "start it again and convert again to go on"
            ) from error
        except distributed.KilledWorker as error:
            raise E2eioError(
                f"a task has killed {error.allowed_failures + 1} workers: {error.task}: the last "
                f"was {error.last_worker.address}; look at its log, and if memory was short, give "
                "workers more; if a sample crashes its reader, convert without Dask and with skip_bad; "
                "either goes on from what is done"
            ) from error
        finally:
            run.stop()


@contextmanager
def _connected(cluster: Cluster, n_processes: int, n_tasks: int) -> Iterator[distributed.Client]:
    if isinstance(cluster, distributed.Client):
        yield cluster
        return
    with ExitStack() as stack:
        if cluster is True:
            yield stack.enter_context(_local(min(n_processes, n_tasks)))
            return
        if not isinstance(cluster, str | os.PathLike) or not is_scheduler(os.fspath(cluster)):
            raise ConfigError(
                f"no Dask scheduler: found {cluster!r}, expected True, an address as in "
                "'tcp://host:8786', a scheduler file *.json, or a dask.distributed.Client"
            )
        yield stack.enter_context(_client(os.fspath(cluster)))


def _client(name: str) -> distributed.Client:
    try:
        if name.endswith(".json"):
            return distributed.Client(scheduler_file=name, timeout=_CONNECT_S)
        return distributed.Client(name, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        raise E2eioError(
            f"no Dask scheduler: {name}: {' '.join(str(error).split())}; start one with "
            "'dask scheduler', or check the address"
        ) from error


@contextmanager
def _local(n_workers: int) -> Iterator[distributed.Client]:
    """Start a cluster of this machine, whose processes neither see Ctrl-C nor run the caller's program.

    The main module stays hidden as long as the cluster lives, as a worker that was killed is started anew.
    Memory is not limited: a task holds one chunk of its source and one of its shard.
    """
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="e2eio-dask-"))
        stack.enter_context(main_hidden())
        # Started by the first process, it would unblock the signal again for the others.
        resource_tracker.ensure_running()
        with interrupts_blocked():
            cluster = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=n_workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address=None,
                    memory_limit=0,
                    silence_logs="CRITICAL",
                    local_directory=scratch,
                )
            )
            client = stack.enter_context(distributed.Client(cluster))
        yield client


class _Run:
    """One conversion on a cluster: what is under way, and how it is stopped. Thread rule: one thread."""

    def __init__(
        self,
        client: distributed.Client,
        plan: Plan,
        out: Path,
        tick: Callable[[int], None],
        progress: Progress,
    ) -> None:
        self._client = client
        self._out = out.absolute()
        self._tick = tick
        self._progress = progress
        self._token = uuid.uuid4().hex
        # What is left out stands in the tasks; the whole list need not travel with each of them.
        self._job = ClusterJob(
            self._token,
            plan.schema,
            replace(plan.options, exclude=()),
            str(self._out),
            manifest.converter_name(),
        )
        self._under_way: dict[distributed.Future[FinishedShard], Task] = {}
        self._done: queue.SimpleQueue[distributed.Future[FinishedShard]] = queue.SimpleQueue()
        self._unseen: dict[Path, float] = {}
        self._told_s = time.monotonic()

    def collect(self, tasks: Sequence[Task]) -> list[FinishedShard]:
        waiting = iter(tasks)
        shards: list[FinishedShard] = []
        while len(shards) < len(tasks) or self._unseen:
            self._submit(waiting)
            new = self._finished()
            shards += new
            self._tick(sum(_n_done(shard) for shard in new))
            self._look(new)
        return shards

    def stop(self) -> None:
        """End what is under way, and wait until no worker writes any more; a second Ctrl-C ends the waiting."""
        if not self._under_way:
            return
        try:
            self._client.cancel(list(self._under_way))
            self._client.run(stop_here, self._token, on_error="ignore")
            until = time.monotonic() + _STOP_S
            while time.monotonic() < until:
                if not any(self._client.run(busy_here, self._token, on_error="ignore").values()):
                    break
                time.sleep(_POLL_S)
        except (CancelledError, OSError):
            pass  # the scheduler has gone, and its workers follow it
        finally:
            self._under_way.clear()

    def _submit(self, tasks: Iterator[Task]) -> None:
        limit = max(_LEAST_IN_FLIGHT, 4 * _n_threads(self._client))
        while len(self._under_way) < limit:
            task = next(tasks, None)
            if task is None:
                return
            future = self._client.submit(
                convert_here,
                replace(task, path=_everywhere(task.path)),
                self._job,
                key=f"e2eio-{self._token}-{task.index}",
                pure=False,
            )
            self._under_way[future] = task
            future.add_done_callback(self._done.put)

    def _finished(self) -> list[FinishedShard]:
        """Wait a moment for tasks, and return those that are done."""
        futures = []
        try:
            futures.append(self._done.get(timeout=_POLL_S))
            while True:
                futures.append(self._done.get_nowait())
        except queue.Empty:
            pass
        if not futures:
            self._tell_if_idle()
            return []
        self._told_s = time.monotonic()
        shards = self._client.gather(futures)  # raises what a task has raised
        for future in futures:
            del self._under_way[future]
        return list(shards)

    def _tell_if_idle(self) -> None:
        now = time.monotonic()
        if now - self._told_s > _CONNECT_S and self._under_way:
            self._told_s = now
            if not _n_threads(self._client):
                self._progress.note("on Dask: waiting for the first worker")

    def _look(self, shards: Sequence[FinishedShard]) -> None:
        """Check that the workers write where this process reads."""
        now = time.monotonic()
        for shard in shards:
            self._unseen[self._out / shard.entry.file] = now
        for path, since in list(self._unseen.items()):
            if path.exists():
                del self._unseen[path]
            elif now - since > _VISIBLE_S:
                raise ShardIOError(
                    f"shard not seen: {path}: a worker has written it, and {socket.gethostname()} does "
                    "not find it; the target must lie on a file system that all machines share",
                    str(path),
                )


def _address(client: distributed.Client) -> str:
    return str(client.scheduler_info(n_workers=0)["address"])


def _n_done(shard: FinishedShard) -> int:
    return shard.entry.n_samples + sum(rows.n_samples for rows in shard.skipped)


def _n_threads(client: distributed.Client) -> int:
    return sum(client.nthreads().values())


def _everywhere(path: str) -> str:
    """Return a name that means the same in every working directory."""
    return path if ADDRESS.match(path) else str(Path(path).absolute())
