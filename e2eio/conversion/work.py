"""Writing of one shard, the work of one task: in this process, a worker, or on another machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio import _core, manifest
from e2eio.conversion.changes import SourceWatch
from e2eio.conversion.plan import PlanOptions, Task
from e2eio.conversion.reading import LeftOut, Rows, WantedRows
from e2eio.errors import CorruptShardError, ImporterError
from e2eio.importers import open_source
from e2eio.manifest import ShardEntry
from e2eio.production import FinishedShard
from e2eio.production.skipped import SkippedSamples, shard_report, write_report
from e2eio.schema import Schema
from e2eio.shards import open_shard, open_writer, written_statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio._core import ShardWriter
    from e2eio.importers import ImageSource

__all__ = ["encode_shard", "write_shard"]

_CHECK_SLICE: Final = 4_096  # samples decoded between two ticks


def write_shard(
    task: Task,
    schema: Schema,
    options: PlanOptions,
    out: Path,
    tick: Callable[[int], None],
) -> FinishedShard:
    """Write one task's shard: all that a worker does, on whatever machine.

    May be called again, also for a shard that is there: the same task gives the same bytes, and the
    shard is there complete or not at all. Everything it takes and returns can be pickled, if `tick`
    can.

    With ``options.check`` the shard is read again before it gets its name, decoded, and compared sample
    by sample with what the importer gave, by the digests of docs/format.md, section 7.1. That takes about 12 us a jet at
    x1, of 400 and more that reading it from Parquet takes.

    Parameters
    ----------
    task : Task
    schema : Schema
    options : PlanOptions
    out : path
        Directory of the dataset; it exists.
    tick : callable
        Told, every chunk, the number of samples done since it was last told; what it raises ends
        the work, and leaves no file.

    Raises
    ------
    ImporterError, ShardIOError, SchemaMismatchError
        The source cannot be read, or has changed; the shard cannot be written.
    CorruptShardError
        What was written is not what was read.
    """
    path = out / task.file
    source = open_source(task.path, task.imports(options))
    try:
        watch = SourceWatch(source, task, schema)
        writer = open_writer(
            path,
            schema,
            shard_id=task.shard_id,
            compression_level=options.compression_level,
            overwrite=True,  # what is there was found to be no finished shard
            nonfinite={"keep": "keep", "zero": "zero"}.get(options.nan, "skip"),  # type: ignore[arg-type]
        )
        try:
            copy = _Copy(task, schema, options, writer)
            skipped = copy.read(source, tick)
            watch.require_unchanged(options)
            if options.check:
                _require_same(task, writer.complete(), writer.sample_digests(), tick)
            write_report(shard_report(path), skipped)
            writer.finish()
        except BaseException:
            writer.abort()
            raise
    finally:
        source.close()
    return FinishedShard(
        task.index,
        ShardEntry(task.file, writer.n_samples, writer.n_bytes, writer.digest),
        written_statistics(writer),
        manifest.content_digest(writer.sample_digests()),
        writer.n_rounded,
        writer.n_zeroed + copy.n_zeroed,
        skipped,
    )


def encode_shard(
    task: Task, schema: Schema, options: PlanOptions, tick: Callable[[int], None]
) -> bytes:
    """Return the bytes of one task's shard, the same that `write_shard` gives a file.

    Parameters and errors are those of `write_shard`. Nothing may be left out.
    """
    source = open_source(task.path, task.imports(options))
    try:
        watch = SourceWatch(source, task, schema)
        writer, finished = _core.ShardWriter.in_memory(
            schema.to_core(), task.shard_id, options.compression_level
        )
        _Copy(task, schema, options, writer).read(source, tick)
        watch.require_unchanged(options)
        writer.finish()
    finally:
        source.close()
    return finished.take()


def _require_same(
    task: Task, path: str, given: NDArray[np.uint64], tick: Callable[[int], None]
) -> None:
    """Raise CorruptShardError unless the shard at `path` holds the samples that were given."""
    reader = open_shard(path)
    if reader.n_samples != len(given):
        raise _wrong(task, f"found {reader.n_samples} samples", f"{len(given)}", None)
    for begin in range(0, len(given), _CHECK_SLICE):
        part = given[begin : begin + _CHECK_SLICE]
        found = reader.sample_digests(begin, begin + len(part))
        if not np.array_equal(found, part):
            sample = begin + int(np.argmax(found != part))
            digests = (int(found[sample - begin]), int(given[sample]))
            found_text, given_text = (f"digest {digest:016x}" for digest in digests)
            raise _wrong(task, f"found {found_text} of sample {sample}", given_text, sample)
        tick(0)


def _wrong(task: Task, found: str, expected: str, sample: int | None) -> CorruptShardError:
    return CorruptShardError(
        f"shard is not what was imported: {task.file}: {found}, expected {expected}, as {task.path} "
        "gave; check memory and disk of this machine, then convert again; if it stays, report it",
        task.file,
        sample=sample,
    )


class _Copy:
    """Gives samples to a writer, and does to those that are not finite what the options say.

    One thread at a time may use it.
    """

    def __init__(
        self, task: Task, schema: Schema, options: PlanOptions, writer: ShardWriter
    ) -> None:
        self._task = task
        self._names = [field.name for field in schema.scalars]
        self._floats = [field.name for field in schema.scalars if field.dtype.startswith("float")]
        self._policy = options.nan
        self._skip_bad = options.skip_bad
        self._writer = writer
        self._n_given = 0
        self._not_finite: list[LeftOut] = []
        self.n_zeroed = 0

    def read(self, source: ImageSource, tick: Callable[[int], None]) -> tuple[SkippedSamples, ...]:
        """Append all samples of the task; return what was left out, as `end`."""
        task = self._task
        tick(0)
        rows = WantedRows(source, task.exclude, self._skip_bad, task.crashed)
        for piece in rows.read(task.begin, task.end):
            self.append(piece)
            tick(len(piece.images))
        skipped = self.end(rows.left_out)
        tick(sum(rows.n_samples for rows in rows.left_out))
        return skipped

    def append(self, rows: Rows) -> None:
        """Append samples that follow those before."""
        self._n_given += len(rows.images)
        if self._policy == "zero":
            self._zero(rows.scalars)
        bad = self._bad_scalars(rows) if self._policy in ("error", "skip") else ()
        begin = 0
        for row in [*bad, len(rows.images)]:
            self._give(rows, begin, row)
            if row < len(rows.images):
                self._leave_out(rows.begin + row, "a scalar field is not finite")
            begin = row + 1

    def end(self, unreadable: list[LeftOut]) -> tuple[SkippedSamples, ...]:
        """Return all that was left out; check that everything else is there.

        Raises
        ------
        ImporterError
            The importer gave fewer samples than it has.
        """
        task = self._task
        n_left_out = sum(rows.n_samples for rows in unreadable)
        if self._n_given + n_left_out != task.n_samples:
            raise ImporterError(
                f"samples are missing: {task.path}: found {self._n_given} and {n_left_out} left out "
                f"in [{task.begin}, {task.end}), expected {task.n_samples} in all; please report it",
                task.path,
            )
        both = [(rows, False) for rows in unreadable] + [(rows, True) for rows in self._not_finite]
        both.sort(key=lambda pair: pair[0].begin)
        return tuple(
            SkippedSamples(
                task.file, task.shard_id.hex(), task.path, rows.begin, rows.end, rows.reason, kind
            )
            for rows, kind in both
        )

    def _give(self, rows: Rows, begin: int, end: int) -> None:
        if begin < end:
            columns = [rows.scalars[name][begin:end] for name in self._names]
            for row in self._writer.append(rows.images[begin:end], columns).tolist():
                self._leave_out(rows.begin + begin + row, "a pixel is not finite")

    def _leave_out(self, row: int, reason: str) -> None:
        if self._policy == "error":
            raise ImporterError(
                f"not finite: {self._task.path}: found that {reason} in sample {row}, expected no "
                "NaN and no infinity; leave it out (exclude or nan='skip'), or pass nan='zero' or "
                "'keep'",
                self._task.path,
                sample=row,
            )
        self._not_finite.append(LeftOut(row, row + 1, reason))

    def _bad_scalars(self, rows: Rows) -> list[int]:
        bad = np.zeros(len(rows.images), bool)
        for name in self._floats:
            bad |= ~np.isfinite(rows.scalars[name])
        return [int(row) for row in np.flatnonzero(bad)]

    def _zero(self, scalars: dict[str, NDArray[Any]]) -> None:
        for name in self._floats:
            finite = np.isfinite(scalars[name])
            if not finite.all():
                self.n_zeroed += int(np.count_nonzero(~finite))
                scalars[name] = np.where(finite, scalars[name], scalars[name].dtype.type(0))
