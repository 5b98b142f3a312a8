"""The directory that a dataset is written into: what is there, what of it counts, who else writes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol

from e2eio import manifest
from e2eio.errors import (
    CorruptShardError,
    E2eioError,
    ShardExistsError,
    ShardNotFoundError,
)
from e2eio.manifest import Manifest, ShardEntry
from e2eio.production.finished import FinishedShard
from e2eio.production.skipped import (
    REPORT_NAME,
    SkippedSamples,
    read_report,
    shard_report,
    write_report,
)
from e2eio.shards import SHARD_NAME, decode_statistics, open_shard, shard_name, shard_paths

__all__ = ["ShardPlan", "ShardRange", "ShardTask", "Target"]

# A complete shard of a conversion that failed: not under a final name, but there for the next run.
_KEPT: Final = ".kept"
_TEMPORARY: Final = ".e2eio-tmp-"


class ShardTask(Protocol):
    """One shard to write, and how it is recognised."""

    @property
    def index(self) -> int:
        """Of the shard."""

    @property
    def file(self) -> str:
        """Its name."""

    @property
    def n_samples(self) -> int:
        """Samples that it will have, if none is skipped."""

    @property
    def shard_id(self) -> bytes:
        """16 bytes: a digest of all that decides its bytes."""


@dataclass(frozen=True, slots=True)
class ShardRange:
    """A ShardTask that is the samples [begin, end) of a dataset."""

    index: int
    begin: int
    end: int
    shard_id: bytes

    @property
    def file(self) -> str:
        """Name of the shard."""
        return shard_name(self.index)

    @property
    def n_samples(self) -> int:
        """Samples that the shard will have."""
        return self.end - self.begin


class ShardPlan(Protocol):
    """All shards of a dataset."""

    @property
    def tasks(self) -> Sequence[ShardTask]:
        """In the order of the shards."""

    @property
    def max_skipped(self) -> int:
        """Unreadable samples that a shard may lack."""


class Target:
    """The directory `path`, locked as long as the context lasts.

    Parameters
    ----------
    path : path
        Made if it does not exist.

    Raises
    ------
    ShardExistsError
        It is no directory, or another run is writing into it.
    ShardIOError
        The system refused.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._made = False
        self._handle = -1

    def __enter__(self) -> Target:
        try:
            self._made = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except (FileExistsError, NotADirectoryError) as error:
            raise ShardExistsError(
                f"target is no directory: {self.path}: expected a directory or a free name; "
                "choose another",
                str(self.path),
                errno=error.errno,
            ) from error
        except OSError as error:
            raise manifest.io_error("cannot make directory", self.path, error) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._handle)
            raise ShardExistsError(
                f"target is in use: {self.path}: another run is writing into it; wait for it",
                str(self.path),
                errno=error.errno,
            ) from error
        except OSError:
            pass  # a file system without locks: then it is the caller's care
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove_temporaries()
        os.close(self._handle)
        if error is not None and self._made and not any(self.path.iterdir()):
            self.path.rmdir()

    def begin(
        self, plan: ShardPlan, *, overwrite: bool, resume: bool
    ) -> Manifest | list[FinishedShard]:
        """Return the manifest if the plan's dataset is there, whole; else make ready, and return its finished shards.

        Raises
        ------
        ShardExistsError
            The directory holds something else, and is not to be overwritten.
        """
        if overwrite:
            self._clear()
            return []
        complete = self._complete(plan) if resume else None
        if complete is not None:
            return complete
        self._refuse_foreign(plan, resume)
        finished = self._finished(plan) if resume else []
        self._remove_manifest()  # incomplete before its shards change
        return finished

    @contextmanager
    def filling(self, plan: ShardPlan) -> Iterator[None]:
        """Write shards and manifest within: if that fails, no shard stays under a final name.

        After a KeyboardInterrupt complete ones do.
        """
        try:
            yield
        except Exception:
            self._take_back(plan.tasks)
            raise
        self._remove_kept()

    def _complete(self, plan: ShardPlan) -> Manifest | None:
        """Return the manifest if the directory holds the plan's dataset, whole; else None."""
        content = self._manifest()
        if content is None or not _same(content, plan):
            return None
        for task, entry in zip(plan.tasks, content.shards, strict=True):
            found = self._entry(self.path / entry.file, task, plan)
            if found is None or found != entry:
                return None
        return content

    def _skipped(self, task: ShardTask) -> tuple[SkippedSamples, ...]:
        """Return what an earlier run has left out of the task's shard, as far as it is known."""
        reports = (shard_report(self.path / task.file), self.path / REPORT_NAME)
        for report in reports:
            wanted = (task.file, task.shard_id.hex())
            found = tuple(s for s in read_report(report) if (s.shard, s.shard_id) == wanted)
            if found:
                return found
        return ()

    def _finished(self, plan: ShardPlan) -> list[FinishedShard]:
        """Return the plan's shards that an earlier run has finished; their pixels are checked."""
        shards = []
        for task in plan.tasks:
            path = self.path / task.file
            kept = path.with_name(path.name + _KEPT)
            if not path.exists() and self._entry(kept, task, plan) is not None:
                kept.rename(path)
            entry = self._entry(path, task, plan)
            if entry is None:
                continue
            try:
                reader = open_shard(path)
                statistics = decode_statistics(reader)
                content = manifest.content_digest(reader.sample_digests(0, reader.n_samples))
            except E2eioError:  # damaged since: it is written again
                continue
            skipped = self._skipped(task)
            shards.append(
                FinishedShard(task.index, entry, statistics, content, None, None, skipped)
            )
        return shards

    def _refuse_foreign(self, plan: ShardPlan, resume: bool) -> None:
        """Raise ShardExistsError if the directory holds anything that this plan has not written."""
        content = self._manifest()
        if content is not None and not (resume and _same(content, plan)):
            raise self._exists(manifest.FILE_NAME, "a dataset of other sources or options")
        tasks = {task.file: task for task in plan.tasks}
        for path in shard_paths(self.path):
            if not resume:
                raise self._exists(path.name, "a shard")
            task = tasks.get(path.name)
            if task is None or not _may_be(path, task):
                raise self._exists(path.name, "a shard of other sources or options")

    def _clear(self) -> None:
        """Remove the dataset that is there, for it is to be overwritten."""
        self._remove_kept()
        names = [manifest.FILE_NAME, REPORT_NAME]
        names += [path.name for path in self.path.iterdir() if _is_shard(path.name)]
        try:
            for name in names:
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise manifest.io_error("cannot remove a file in", self.path, error) from error

    def _remove_manifest(self) -> None:
        """Make the dataset incomplete before its shards change."""
        (self.path / manifest.FILE_NAME).unlink(missing_ok=True)

    def report(self, skipped: Sequence[SkippedSamples]) -> None:
        """Write what was left out of all shards, or remove the report of an earlier dataset."""
        write_report(self.path / REPORT_NAME, skipped)

    def _remove_kept(self) -> None:
        """Remove what is of no use beside a complete dataset."""
        for pattern in (f"shard-*.e2e{_KEPT}", shard_report(Path("shard-*.e2e")).name):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    def _take_back(self, tasks: Sequence[ShardTask]) -> None:
        """After a failure, rename finished shards: none stays under a final name."""
        self._remove_manifest()
        for task in tasks:
            path = self.path / task.file
            if path.exists():
                path.rename(path.with_name(path.name + _KEPT))

    def _remove_temporaries(self) -> None:
        """Remove what runs that were killed have left; the lock says that none is running."""
        for path in self.path.glob(f"*{_TEMPORARY}*"):
            name = path.name.partition(_TEMPORARY)[0]
            if _is_shard(name) or name in (manifest.FILE_NAME, REPORT_NAME.partition(".")[0]):
                path.unlink(missing_ok=True)

    def _manifest(self) -> Manifest | None:
        try:
            return manifest.read(self.path)
        except (ShardNotFoundError, CorruptShardError):
            return None  # the shards tell for themselves

    def _entry(self, path: Path, task: ShardTask, plan: ShardPlan) -> ShardEntry | None:
        """Return the entry of the shard at `path` if it is the one that `task` makes."""
        entry = _entry(path, task)
        if entry is None:
            return None
        skipped = self._skipped(task)
        n_skipped = sum(rows.n_samples for rows in skipped)
        n_bad = sum(rows.n_samples for rows in skipped if not rows.not_finite)
        if entry.n_samples + n_skipped != task.n_samples or n_bad > plan.max_skipped:
            return None  # the latter: it would be an error now
        return entry

    def _exists(self, name: str, found: str) -> ShardExistsError:
        return ShardExistsError(
            f"target exists: {self.path / name}: found {found}, expected none; choose another "
            "directory, or pass overwrite to replace it",
            str(self.path / name),
        )


def _same(content: Manifest, plan: ShardPlan) -> bool:
    ids = [shard.digest.partition("-")[2] for shard in content.shards]
    return ids == [task.shard_id.hex() for task in plan.tasks]


def _is_shard(name: str) -> bool:
    return SHARD_NAME.fullmatch(name.removesuffix(_KEPT)) is not None


def _may_be(path: Path, task: ShardTask) -> bool:
    """Return whether nothing says that the shard is not the task's; it may be damaged."""
    try:
        reader = open_shard(path)
    except E2eioError:
        return True
    return reader.digest.partition("-")[2] == task.shard_id.hex()


def _entry(path: Path, task: ShardTask) -> ShardEntry | None:
    if not _may_be(path, task):
        return None
    try:
        reader = open_shard(path)
    except E2eioError:
        return None
    return ShardEntry(task.file, reader.n_samples, reader.n_bytes, reader.digest)
