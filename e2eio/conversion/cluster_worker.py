"""What a conversion does within the workers of a cluster: one task at a time, until it is told to stop."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2eio import manifest
from e2eio.conversion.plan import PlanOptions, Task
from e2eio.conversion.work import write_shard
from e2eio.errors import ConfigError, ImporterError, ShardNotFoundError
from e2eio.importers import open_source
from e2eio.production import FinishedShard
from e2eio.schema import Schema

__all__ = ["ADDRESS", "ClusterJob", "busy_here", "convert_here", "stop_here"]

#: What is no path of a file system.
ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]*://.+")


class _StoppedError(Exception):
    """The client wants no more shards."""


@dataclass(frozen=True, slots=True)
class ClusterJob:
    """What all tasks of one conversion have in common."""

    token: str
    schema: Schema
    options: PlanOptions
    out: str
    converter: str


# Of a worker process, which may have several threads.
_lock = threading.Lock()
_stopped: set[str] = set()
_busy: Counter[str] = Counter()


def stop_here(token: str) -> None:
    """Have the tasks of a conversion end at their next tick."""
    _stopped.add(token)


def busy_here(token: str) -> int:
    """Return how many tasks of a conversion are under way."""
    return _busy[token]


def convert_here(task: Task, job: ClusterJob) -> FinishedShard:
    """Do one task.

    Raises
    ------
    ConfigError, ShardNotFoundError, ImporterError
        This machine has another version of the package than the client, or does not see the same files.
    E2eioError
        As `write_shard`.
    """

    def tick(n_samples: int) -> None:
        del n_samples  # the client counts finished shards
        if job.token in _stopped:
            raise _StoppedError

    with _lock:
        _busy[job.token] += 1
    try:
        tick(0)
        _check_worker(task, job)
        return write_shard(task, job.schema, job.options, Path(job.out), tick)
    finally:
        with _lock:
            _busy[job.token] -= 1


def _check_worker(task: Task, job: ClusterJob) -> None:
    """Raise unless this machine has the program, the source and the target that the client has."""
    host = socket.gethostname()
    shared = "sources and target must lie on a file system that all workers share"
    if manifest.converter_name() != job.converter:
        raise ConfigError(
            f"versions differ: worker on {host}: found {manifest.converter_name()}, expected "
            f"{job.converter} as the client's; install the same version everywhere"
        )
    for path in (task.path, job.out):
        if not ADDRESS.match(path) and not Path(path).exists():
            raise ShardNotFoundError(f"no such file on worker {host}: {path}: {shared}", path)
    source = open_source(task.path, task.imports(job.options))
    source.close()
    if source.fingerprint != task.fingerprint:
        raise ImporterError(
            f"source differs on worker {host}: {task.path}: found another file than the client's, or "
            f"it has changed; {shared}",
            task.path,
        )
