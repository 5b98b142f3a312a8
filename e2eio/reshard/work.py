"""Writing of planned datasets: threads that decode and encode, targets that are there whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio import _core, manifest
from e2eio.dataset import Dataset
from e2eio.errors import CorruptShardError, E2eioError
from e2eio.manifest import Manifest, Provenance, ShardEntry
from e2eio.production import FinishedShard, ShardRange, Target, list_shards
from e2eio.progress import Progress
from e2eio.reshard.plan import Output
from e2eio.shards import open_shard, open_writer, written_statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["write_outputs"]

_POLL_S: Final = 0.2
_CHUNK_BYTES: Final = (
    8 << 20
)  # decoded at a time by each thread: it is still cached when it is encoded


class _StoppedError(Exception):
    """Another thread has failed, or the caller was interrupted."""


def write_outputs(
    dataset: Dataset,
    outputs: Sequence[Output],
    provenances: Sequence[Provenance],
    *,
    threads: int,
    overwrite: bool,
    resume: bool,
    progress: Progress,
    content: str | None = None,
) -> list[Manifest]:
    """Write datasets; the manifests come last, when all shards are there and were read back.

    Parameters
    ----------
    dataset : Dataset
        Whose samples.
    outputs, provenances : sequences of Output and Provenance
        One of each per dataset.
    threads : int
        Each writes a shard at a time.
    overwrite, resume : bool
        As those of `e2eio.convert`.
    progress : Progress
    content : str or None
        What the digest of the only output's samples has to be, if it is known.

    Raises
    ------
    ShardExistsError
        A target holds something else, or is in use.
    CorruptShardError
        A sample cannot be read, or a shard does not hold what was written into it.
    ShardIOError
        The system refused.
    """
    with ExitStack() as stack:
        targets = [stack.enter_context(Target(output.path)) for output in outputs]
        found = [
            target.begin(output, overwrite=overwrite, resume=resume)
            for target, output in zip(targets, outputs, strict=True)
        ]
        complete = [each for each in found if isinstance(each, Manifest)]
        if len(complete) == len(outputs):
            progress.note(f"{', '.join(str(output.path) for output in outputs)}: already written")
            return complete
        for target, output, before in zip(targets, outputs, found, strict=True):
            if not isinstance(before, Manifest):
                stack.enter_context(target.filling(output))
        return _Run(dataset, outputs, progress).write(provenances, found, threads, content)


class _Run:
    """One operation. Thread rule: `write` in the thread that made it; the threads that it starts run `_work`."""

    def __init__(
        self,
        dataset: Dataset,
        outputs: Sequence[Output],
        progress: Progress,
    ) -> None:
        self._dataset = dataset
        self._outputs = outputs
        self._progress = progress
        self._reader = _core.SampleReader(dataset.shards)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._n_done = 0

    def write(
        self,
        provenances: Sequence[Provenance],
        found: Sequence[Manifest | list[FinishedShard]],
        threads: int,
        content: str | None,
    ) -> list[Manifest]:
        done = [[] if isinstance(each, Manifest) else list(each) for each in found]
        tasks = [
            (number, task)
            for number, output in enumerate(self._outputs)
            if not isinstance(found[number], Manifest)
            for task in output.tasks
            if task.index not in {shard.index for shard in done[number]}
        ]
        total = sum(output.n_samples for output in self._outputs)
        self._n_done = total - sum(task.n_samples for _, task in tasks)
        self._progress.start(total, self._n_done)
        for number, shard in self._run_threads(tasks, max(1, min(threads, len(tasks)))):
            done[number].append(shard)
        self._progress.close()
        made = [
            before if isinstance(before, Manifest) else _manifest(output, shards, provenance)
            for before, output, shards, provenance in zip(
                found, self._outputs, done, provenances, strict=True
            )
        ]
        _check_content(self._outputs[0], made, content)
        for output, before, listed in zip(self._outputs, found, made, strict=True):
            if not isinstance(before, Manifest):
                manifest.write(output.path, listed)
        return made

    def _run_threads(
        self, tasks: Sequence[tuple[int, ShardRange]], n_threads: int
    ) -> list[tuple[int, FinishedShard]]:
        waiting = iter(tasks)
        for field in self._dataset.schema.scalars:
            self._dataset.scalars(field.name)  # once, before several threads ask for it
        pool = ThreadPoolExecutor(n_threads, "e2eio-reshard")
        try:
            pending = {pool.submit(self._work, waiting) for _ in range(n_threads)}
            done = set(pending)
            while pending:
                finished, pending = wait(pending, _POLL_S, FIRST_COMPLETED)
                for each in finished:
                    each.result()
                self._progress.update(self._n_done)
            return [shard for each in done for shard in each.result()]
        finally:
            self._stop.set()
            pool.shutdown(wait=True)

    def _work(self, waiting: Iterator[tuple[int, ShardRange]]) -> list[tuple[int, FinishedShard]]:
        written: list[tuple[int, FinishedShard]] = []
        while True:
            with self._lock:
                number, task = next(waiting, (-1, None))
            if task is None or self._stop.is_set():
                return written
            written.append((number, self._write_shard(self._outputs[number], task)))

    def _write_shard(self, output: Output, task: ShardRange) -> FinishedShard:
        writer = open_writer(
            output.path / task.file,
            output.schema,
            shard_id=task.shard_id,
            compression_level=output.options.compression_level,
            overwrite=True,  # what is there was found to be no finished shard
        )
        try:
            self._fill(writer, output, task)
            writer.finish()
        except BaseException:
            writer.abort()
            raise
        entry = ShardEntry(task.file, writer.n_samples, writer.n_bytes, writer.digest)
        digests = writer.sample_digests()
        _check_shard(output, entry, digests)
        content = manifest.content_digest(digests)
        return FinishedShard(task.index, entry, written_statistics(writer), content, 0, 0)

    def _fill(self, writer: _core.ShardWriter, output: Output, task: ShardRange) -> None:
        columns = [self._dataset.scalars(field.name) for field in self._dataset.schema.scalars]
        n_channels, height, width = output.schema.image.shape
        step = max(1, _CHUNK_BYTES // (4 * n_channels * height * width))
        for begin in range(task.begin, task.end, step):
            if self._stop.is_set():
                raise _StoppedError
            ids = output.order.ids(0, begin, min(step, task.end - begin))
            images = self._reader.read(ids, output.channels, 1)
            writer.append(images, [column[ids] for column in columns])
            with self._lock:
                self._n_done += len(ids)


def _check_shard(output: Output, entry: ShardEntry, digests: NDArray[np.uint64]) -> None:
    """Read a finished shard back, and compare it with what was written into it."""
    path = output.path / entry.file
    try:
        reader = open_shard(path)
        found = reader.sample_digests(0, reader.n_samples)
    except CorruptShardError as error:
        raise _wrong(output, entry, str(error)) from error
    if reader.digest != entry.digest or not np.array_equal(found, digests):
        raise _wrong(output, entry, "found other samples than were written")


def _wrong(output: Output, entry: ShardEntry, text: str) -> CorruptShardError:
    path = str(output.path / entry.file)
    return CorruptShardError(
        f"shard damaged while it was written: {path}: {text}; check the disk, and try again", path
    )


def _check_content(output: Output, made: Sequence[Manifest], content: str | None) -> None:
    if content is not None and made[0].content != content:
        raise E2eioError(
            f"samples differ: {output.path}: found content {made[0].content}, expected {content} as in "
            "the sources; verify them with 'e2eio verify'",
            str(output.path),
        )


def _manifest(output: Output, written: Sequence[FinishedShard], provenance: Provenance) -> Manifest:
    shards = sorted(written, key=lambda shard: shard.index)
    listed = list_shards(output.schema, shards, provenance)
    if listed.n_samples != output.n_samples:
        raise E2eioError(
            f"samples lost: {output.path}: found {listed.n_samples}, expected {output.n_samples}; "
            "please report it",
            str(output.path),
        )
    return listed
