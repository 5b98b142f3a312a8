"""The directory in which shards of a direct dataset are kept, by several processes at once."""

from __future__ import annotations

import fcntl
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

from e2eio import _core, manifest
from e2eio.errors import E2eioError
from e2eio.manifest import ChannelStatistics, Manifest, Provenance, ShardEntry, SourceEntry
from e2eio.shards import StoredShards, decode_statistics, open_shard

if TYPE_CHECKING:
    from e2eio.conversion.plan import Plan, Task
    from e2eio.importers import ImportOptions
    from e2eio.production import FinishedShard

__all__ = ["CacheDirectory", "CachedShards", "about_bytes", "directory_name"]
__all__ += ["id_digest", "open_cached", "open_without_sources"]

_SOURCES: Final = "sources.json"
_LOCKS: Final = ".making"  # byte i is locked by whoever makes shard i; the system unlocks it


def id_digest(shard_id: str) -> str:
    """Return what stands for a shard in the digest of a direct dataset: the same before it is made."""
    return f"direct-{shard_id}"


def directory_name(plan: Plan) -> str:
    """Return the name of the plan's directory within the cache: the first source's, and a digest of all."""
    digest = manifest.dataset_digest(task.shard_id.hex() for task in plan.tasks)
    return f"{PurePath(plan.sources[0].path).name}-{digest[:16]}"


class CacheDirectory:
    """The shards of one plan. Thread rule: any thread, and any process.

    A shard is under its name when it is complete, and not before; its statistics lie beside it until
    ``dataset.json`` is written, which says that all are there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self, plan: Plan) -> None:
        """Make the directory, and note which sources it is of."""
        target = self.path / _SOURCES
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                names = [source.path for source in plan.sources]
                _write_json(target, _request(names, plan.options.imports))
        except OSError as error:
            raise manifest.io_error("cannot write to the cache", self.path, error) from error

    def find(self, task: Task) -> _core.ShardReader | None:
        """Return the task's shard, if it is there and whole."""
        path = self.path / task.file
        if not path.exists():
            return None
        try:
            reader = open_shard(path)
        except E2eioError:
            return None  # damaged: it is made again
        same = reader.digest.partition("-")[2] == task.shard_id.hex()
        return reader if same and reader.n_samples == task.n_samples else None

    @contextmanager
    def making(self, task: Task, *, wait: bool) -> Iterator[bool]:
        """Hold the right to make a shard; False: another process has it."""
        with (self.path / _LOCKS).open("ab") as locks:
            try:
                flags = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
                fcntl.lockf(locks, flags, 1, task.index)
            except (BlockingIOError, PermissionError):
                yield False
                return
            except OSError:  # a file system without locks: made twice, it is the same
                yield True
                return
            for left in self.path.glob(f"{task.file}.e2eio-tmp-*"):
                left.unlink(missing_ok=True)  # of a process that was killed
            yield True

    def note(self, shard: FinishedShard) -> None:
        """Keep what is known of a shard that was just made."""
        content = {
            "entry": asdict(shard.entry),
            "statistics": [asdict(channel) for channel in shard.statistics],
            "content": shard.content,
            "n_rounded": shard.n_rounded,
        }
        _write_json(self._notes(shard.entry.file), content)

    def _notes(self, file: str) -> Path:
        return self.path / f"{file}.json"

    def complete(self, plan: Plan) -> bool:
        """Write ``dataset.json`` if all shards and what is known of them are there."""
        shards, statistics, contents, rounded = [], [], [], []
        try:
            for task in plan.tasks:
                entry, of_channels, content, n_rounded = self._noted(task)
                contents.append(content)
                shards.append(entry)
                statistics.append(of_channels)
                rounded.append(n_rounded)
        except E2eioError:
            return False  # a shard has been damaged since
        sources = tuple(SourceEntry(s.path, s.n_bytes, s.n_samples) for s in plan.sources)
        known = [count for count in rounded if count is not None]
        provenance = Provenance(
            sources,
            manifest.converter_name(),
            plan.options.to_json(),
            manifest.creation_time(),
            sum(known) if len(known) == len(rounded) else None,
        )
        merged = manifest.merge_statistics(statistics, len(plan.schema.channels))
        manifest.write(
            self.path, Manifest(plan.schema, tuple(shards), merged, provenance, tuple(contents))
        )
        return True

    def _noted(self, task: Task) -> tuple[ShardEntry, Sequence[ChannelStatistics], str, int | None]:
        try:
            noted = json.loads(self._notes(task.file).read_text(encoding="utf-8"))
            statistics = [ChannelStatistics(**each) for each in noted["statistics"]]
            return ShardEntry(**noted["entry"]), statistics, noted["content"], noted["n_rounded"]
        except (OSError, ValueError, KeyError, TypeError):  # its maker was killed before the note
            reader = open_shard(self.path / task.file)
            entry = ShardEntry(task.file, reader.n_samples, reader.n_bytes, reader.digest)
            content = manifest.content_digest(reader.sample_digests(0, reader.n_samples))
            return entry, decode_statistics(reader), content, None


class CachedShards(StoredShards):
    """A cache that is complete. Thread rule: any thread.

    Samples, digest and the size that plans go by are those of the shards before they were made.
    """

    def __init__(self, content: Manifest, readers: Sequence[_core.ShardReader]) -> None:
        super().__init__(readers, content.statistics)
        self.source_sizes = tuple(each.n_samples for each in content.provenance.sources)
        self.digests = tuple(id_digest(each.digest.partition("-")[2]) for each in content.shards)
        self.n_bytes = about_bytes(content.n_samples)


def about_bytes(n_samples: int) -> int:
    """Return the stored size that the plan of an epoch goes by: the same before and after shards are made."""
    return 3_500 * n_samples


def open_cached(directory: Path, plan: Plan | None = None) -> CachedShards | None:
    """Return the shards in the directory if it holds the plan's dataset, whole; else None."""
    try:
        content = manifest.read(directory)
        readers = [open_shard(directory / entry.file) for entry in content.shards]
    except E2eioError:
        return None
    for reader, entry in zip(readers, content.shards, strict=True):
        if reader.digest != entry.digest or reader.n_samples != entry.n_samples:
            return None
    ids = [entry.digest.partition("-")[2] for entry in content.shards]
    if plan is not None and ids != [task.shard_id.hex() for task in plan.tasks]:
        return None
    return CachedShards(content, readers)


def open_without_sources(
    cache: Path, paths: Sequence[str], imports: ImportOptions
) -> CachedShards | None:
    """Return the complete cache of sources that are not there any more, the newest if there are several; or None."""
    asked = _request(paths, imports)
    found = []
    for notes in cache.glob(f"*/{_SOURCES}"):
        try:
            noted = json.loads(notes.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        listed = notes.with_name(manifest.FILE_NAME)
        if noted == asked and listed.exists():
            found.append((listed.stat().st_mtime_ns, notes.parent))
    for _, directory in sorted(found, reverse=True):
        shards = open_cached(directory)
        if shards is not None:
            warnings.warn(
                f"sources are missing: {paths[0]}: going on with what {directory} has of them",
                stacklevel=2,
            )
            return shards
    return None


def _request(paths: Sequence[str], imports: ImportOptions) -> dict[str, Any]:
    return {"sources": [str(Path(path).absolute()) for path in paths], "options": repr(imports)}


def _write_json(target: Path, content: object) -> None:
    temporary = target.with_name(f"{target.name}.tmp-{os.getpid()}-{id(content):x}")
    try:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
