"""`convert`: from foreign files to a dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from e2eio import manifest
from e2eio.conversion.plan import Plan, PlanOptions, Task, make_plan, read_sources
from e2eio.conversion.target import FinishedShard, Target
from e2eio.conversion.work import run_here, run_in_processes, usable_processes
from e2eio.errors import ConfigError
from e2eio.importers import ImportOptions, Layout
from e2eio.manifest import Manifest, Provenance, SourceEntry
from e2eio.progress import Progress, make_progress
from e2eio.schema import Precision
from e2eio.shards import DEFAULT_SHARD_BYTES

__all__ = ["convert"]


def convert(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    preset: str | None = None,
    shape: Sequence[int] | None = None,
    layout: Layout | None = None,
    channels: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    image: str | None = None,
    precision: Precision = "float32",
    compression_level: int = 3,
    processes: int | None = None,
    shard_samples: int | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    overwrite: bool = False,
    resume: bool = True,
    exclude: Iterable[int] = (),
    progress: bool = True,
) -> Manifest:
    """Convert files of images into a dataset.

    The result depends on the sources and options alone, not on the number of processes: the same
    conversion gives the same shards, byte for byte. An interrupted conversion (Ctrl-C) leaves
    complete shards; the same call goes on from them. A failed one leaves nothing under a final
    name; what it has finished is kept as ``*.e2e.kept``, and the same call goes on from that.

    Parameters
    ----------
    sources : path or iterable of paths
        Parquet files, whatever their names; their samples follow one another in this order.
    out : path
        Directory of the dataset, made if it does not exist.
    preset : {"boosted-top", "quark-gluon", "top-mass", "tau"}, optional
        Gives names and units of the channels. Recognised from the column's name and the shape of
        the images, if neither this nor `channels` is given.
    shape : (int, int, int), optional
        C, H, W of an image, whatever the order in the file.
    layout : {"CHW", "HWC"}, optional
        Order in the file. Flat lists are HWC if not given; nested ones CHW if their first
        dimension is the smallest, else HWC.
    channels, units : sequence of str, optional
        One per channel, in the order of the file.
    image : str, optional
        Column of the images, where there are several.
    precision : {"float32", "float16"}
        Of the stored pixels: bit for bit, or rounded.
    compression_level : int
        Of zstd, 1 to 19.
    processes : int, optional
        As many as there are usable cores, if not given. One shard at a time is written by each.
    shard_samples : int, optional
        Samples of a shard, at most, as far as row groups allow.
    shard_bytes : int
        Size of a shard, about, at most.
    overwrite : bool
        Replace the dataset in `out`, whatever it is; nothing of it is kept.
    resume : bool
        Go on from shards that an earlier run of the same conversion has finished.
    exclude : iterable of int
        Samples to leave out, counted over all sources from 0.
    progress : bool
        Show the progress on standard error.

    Returns
    -------
    Manifest
        The content of ``dataset.json``.

    Raises
    ------
    ConfigError
        An option is wrong, or what the images mean is not clear.
    SchemaMismatchError
        The sources differ in schema.
    ImporterError
        A source is damaged or not what it should be.
    ShardExistsError
        `out` holds something else, and `overwrite` is False.
    ShardIOError
        The system refused to read or write.

    Examples
    --------
    >>> convert("BoostedTop_x1_fixed_0.snappy.parquet", "data/top")  # doctest: +SKIP
    """
    if processes is not None and processes < 1:
        raise ConfigError(f"wrong number of processes: found {processes!r}, expected at least 1")
    options = PlanOptions(
        ImportOptions(
            preset, _shape(shape), layout, _texts(channels), _texts(units), image, precision
        ),
        compression_level,
        shard_samples,
        shard_bytes,
        tuple(sorted(set(exclude))),
    )
    schema, files = read_sources(_paths(sources), options.imports)
    plan = make_plan(schema, files, options)
    with make_progress(progress) as shown:
        return _convert(plan, Path(out), processes or usable_processes(), overwrite, resume, shown)


def _paths(sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    if isinstance(sources, str | os.PathLike):
        return [os.fspath(sources)]
    return [os.fspath(source) for source in sources]


def _shape(shape: Sequence[int] | None) -> tuple[int, int, int] | None:
    if shape is None:
        return None
    if len(shape) != 3:
        raise ConfigError(f"wrong shape: found {tuple(shape)!r}, expected C, H, W")
    return (int(shape[0]), int(shape[1]), int(shape[2]))


def _texts(values: Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(values, str):
        raise ConfigError(f"wrong list of names: found the text {values!r}, expected a sequence")
    return None if values is None else tuple(values)


def _convert(
    plan: Plan, out: Path, processes: int, overwrite: bool, resume: bool, progress: Progress
) -> Manifest:
    for source in plan.sources:
        if source.skipped:
            progress.note(f"{source.path}: skipped, as not numeric: {', '.join(source.skipped)}")
    with Target(out) as target:
        if overwrite:
            target.clear()
        else:
            complete = target.complete(plan) if resume else None
            if complete is not None:
                progress.note(f"{out}: already converted")
                return complete
            target.refuse_foreign(plan, resume)
        finished = target.finished(plan) if resume and not overwrite else []
        target.remove_manifest()
        try:
            content = _make_shards(plan, target, finished, processes, progress)
            manifest.write(out, content)
        except Exception:  # not KeyboardInterrupt: what is complete then stays
            target.take_back(plan.tasks)
            raise
        target.remove_kept()
        return content


def _make_shards(
    plan: Plan,
    target: Target,
    finished: list[FinishedShard],
    processes: int,
    progress: Progress,
) -> Manifest:
    done = {shard.index for shard in finished}
    tasks = [task for task in plan.tasks if task.index not in done]
    if finished:
        progress.note(f"{target.path}: going on from {len(done)} of {len(plan.tasks)} shards")
    n_done = sum(shard.entry.n_samples for shard in finished)
    progress.start(plan.n_samples, n_done)

    def tick(n_samples: int) -> None:
        nonlocal n_done
        n_done += n_samples
        progress.update(n_done)

    new = _run(plan, tasks, target.path, processes, tick)
    shards = sorted([*finished, *new], key=lambda shard: shard.index)
    progress.close()
    return _manifest(plan, shards, progress)


def _run(
    plan: Plan, tasks: list[Task], out: Path, processes: int, tick: Callable[[int], None]
) -> list[FinishedShard]:
    n_processes = min(processes, len(tasks))
    if n_processes <= 1:
        return run_here(tasks, plan.schema, plan.options, out, tick)
    return run_in_processes(tasks, plan.schema, plan.options, out, tick, n_processes)


def _manifest(plan: Plan, shards: list[FinishedShard], progress: Progress) -> Manifest:
    counts = [shard.n_rounded for shard in shards]
    known = [count for count in counts if count is not None]
    if sum(known):
        progress.note(f"{sum(known)} float64 pixels were no float32 and were rounded")
    provenance = Provenance(
        tuple(SourceEntry(file.path, file.n_bytes, file.n_samples) for file in plan.sources),
        manifest.converter_name(),
        plan.options.to_json(),
        manifest.creation_time(),
        sum(known) if len(known) == len(counts) else None,
    )
    statistics = manifest.merge_statistics(
        [shard.statistics for shard in shards], len(plan.schema.channels)
    )
    return Manifest(plan.schema, tuple(shard.entry for shard in shards), statistics, provenance)
