"""The child process of a maker: reads sources and encodes shards, as it is asked on its standard input.

Requests and replies are pickles, each after its size in 8 bytes. When the input ends, the work under way is
given up at its next chunk and the process ends; if it does not come to one, it is ended all the same.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from e2eio.conversion.plan import Plan, PlanOptions, SourceFile, Task, make_plan
from e2eio.conversion.sources import common_schema, read_source
from e2eio.conversion.work import encode_shard, write_shard
from e2eio.direct.cache import CacheDirectory
from e2eio.errors import E2eioError, ImporterError
from e2eio.importers import open_source, read_scalars

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.schema import Schema

__all__ = ["CompleteCache", "MakeShard", "PlanSources", "ReadScalars", "serve"]

SIZE: Final = struct.Struct("<Q")

_SHARD_BYTES: Final = 256 << 20  # dense
_MOST_SAMPLES: Final = 1024  # so that the first batch comes soon
_LEAST_SAMPLES: Final = 64
_MOST_SHARDS: Final = 512  # each is an open file, of which a process often may have 1024
_GRACE_S: Final = 1.0


class _StoppedError(Exception):
    """Nobody waits for the reply any more."""


_stopped = threading.Event()


def _tick(_: int) -> None:
    if _stopped.is_set():
        raise _StoppedError


@dataclass(frozen=True, slots=True)
class PlanSources:
    """Asks for the plan of sources."""

    paths: tuple[str, ...]
    options: PlanOptions

    def run(self) -> Plan:
        """Return the plan: small shards, but no more of them than a process may hold open."""
        imports = self.options.imports
        sources = [read_source(path, imports.label, imports) for path in self.paths]
        schema = common_schema(sources)
        files = tuple(file for _, file in sources)
        total = sum(file.n_samples for file in files)
        n_channels, height, width = schema.image.shape
        fitting = _SHARD_BYTES // (4 * n_channels * height * width)
        n = min(_MOST_SAMPLES, max(_LEAST_SAMPLES, fitting))
        options = PlanOptions(self.options.imports, shard_samples=max(n, -(-total // _MOST_SHARDS)))
        return make_plan(schema, files, options)

    def about(self) -> str:
        """Return what the work is about, for errors."""
        return ", ".join(self.paths)


@dataclass(frozen=True, slots=True)
class MakeShard:
    """Asks for a shard.

    Parameters
    ----------
    task : Task
    schema : Schema
    options : PlanOptions
    directory : str or None
        Cache to write into; None: return the bytes.
    awaited : bool
        Wait if another process makes it.
    """

    task: Task
    schema: Schema
    options: PlanOptions
    directory: str | None
    awaited: bool

    def run(self) -> bytes | bool:
        """Return the bytes; of a cache, whether the shard is there: False, if another process makes it."""
        if self.directory is None:
            return encode_shard(self.task, self.schema, self.options, _tick)
        cache = CacheDirectory(Path(self.directory))
        with cache.making(self.task, wait=self.awaited) as mine:
            if not mine:
                return False
            if cache.find(self.task) is None:
                done = write_shard(self.task, self.schema, self.options, cache.path, _tick)
                cache.note(done)
        return True

    def about(self) -> str:
        """Return what the work is about, for errors."""
        return f"{self.task.path}, rows {self.task.begin} to {self.task.end - 1}"


@dataclass(frozen=True, slots=True)
class ReadScalars:
    """Asks for the scalar columns of all samples."""

    sources: tuple[SourceFile, ...]
    schema: Schema
    options: PlanOptions

    def run(self) -> list[NDArray[Any]]:
        """Return one array per scalar field, each over all sources."""
        parts: list[list[NDArray[Any]]] = [[] for _ in self.schema.scalars]
        for file in self.sources:
            source = open_source(file.path, replace(self.options.imports, label=file.label))
            try:
                _tick(0)
                columns = read_scalars(source)
            finally:
                source.close()
            for part, field in zip(parts, self.schema.scalars, strict=True):
                column = np.asarray(columns[field.name], dtype=field.dtype)
                if len(column) != file.n_samples:
                    raise ImporterError(
                        f"source changed: {file.path}: found {len(column)} samples, expected "
                        f"{file.n_samples} as at the start; make the Dataset again",
                        file.path,
                    )
                part.append(column)
        return [np.concatenate(part) for part in parts]

    def about(self) -> str:
        """Return what the work is about, for errors."""
        return ", ".join(file.path for file in self.sources)


@dataclass(frozen=True, slots=True)
class CompleteCache:
    """Asks for the manifest of a cache that has all shards; written to the end even if nobody waits for it."""

    plan: Plan
    directory: str

    def run(self) -> bool:
        """Return whether it could be."""
        return CacheDirectory(Path(self.directory)).complete(self.plan)

    def about(self) -> str:
        """Return what the work is about, for errors."""
        return self.directory


Request = PlanSources | MakeShard | ReadScalars | CompleteCache


def _answer(request: Request) -> object:
    try:
        return request.run()
    except _StoppedError:
        raise
    except E2eioError as error:
        return error
    except Exception as error:  # a bug of ours, or of the package that reads the format
        return ImporterError(
            f"cannot read: {request.about()}: found {type(error).__name__}: {error}, expected readable "
            "samples; try 'e2eio convert' on it, and report this if it can"
        )


def _read(stream: BinaryIO, requests: queue.SimpleQueue[Request | None]) -> None:
    while len(size := stream.read(SIZE.size)) == SIZE.size:
        requests.put(pickle.loads(stream.read(SIZE.unpack(size)[0])))
    _stopped.set()
    requests.put(None)
    time.sleep(_GRACE_S)
    os._exit(1)


def serve() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a format's package prints must not come between the replies.
    with os.fdopen(os.dup(1), "wb") as replies, os.fdopen(os.dup(0), "rb") as stream:
        os.dup2(2, 1)
        requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(stream, requests), daemon=True).start()
        with suppress(_StoppedError, BrokenPipeError):
            while (request := requests.get()) is not None:
                reply = pickle.dumps(_answer(request), protocol=pickle.HIGHEST_PROTOCOL)
                replies.write(SIZE.pack(len(reply)))
                replies.write(reply)
                replies.flush()
    os._exit(0)  # not through the ends of other threads
