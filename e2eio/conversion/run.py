"""`convert`: from foreign files to a dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2eio import manifest
from e2eio.conversion.arguments import OPTION_NAMES, make_options, prepare
from e2eio.conversion.crew import ConversionCrew
from e2eio.conversion.plan import NanPolicy, Plan, PlanOptions
from e2eio.conversion.sources import Sources
from e2eio.errors import ConfigError, ImporterError
from e2eio.importers import Layout
from e2eio.manifest import Manifest, Provenance, SourceEntry
from e2eio.production import Crew, FinishedShard, Target, list_shards, start_progress
from e2eio.production.skipped import REPORT_NAME
from e2eio.progress import Progress, make_progress
from e2eio.remote import refuse_remote_target
from e2eio.schema import Precision
from e2eio.shards import DEFAULT_SHARD_BYTES

if TYPE_CHECKING:
    from e2eio.conversion.cluster import Cluster

__all__ = ["convert", "plan_conversion"]

_MAX_NOTES: Final = 20


def convert(
    sources: Sources,
    out: str | os.PathLike[str],
    *,
    preset: str | None = None,
    shape: Sequence[int] | None = None,
    layout: Layout | None = None,
    channels: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    image: str | None = None,
    meta: Sequence[str] | None = None,
    tree: str | None = None,
    recipe: str = "",
    precision: Precision = "float32",
    labels: Sequence[float] | None = None,
    label_field: str = "y",
    rename: Mapping[str, str] | None = None,
    scalars: Sequence[str] | None = None,
    nan: NanPolicy = "keep",
    compression_level: int = 3,
    processes: int | None = None,
    shard_samples: int | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    overwrite: bool = False,
    resume: bool = True,
    exclude: Iterable[int] = (),
    skip_bad: int = 0,
    check: bool = True,
    isolate: bool = True,
    dask: Cluster | None = None,
    progress: bool = True,
) -> Manifest:
    """Convert files of images into a dataset.

    The result depends on the sources and options alone, not on the number of processes: the same
    conversion gives the same shards, byte for byte. An interrupted conversion (Ctrl-C) leaves
    complete shards; the same call goes on from them. A failed one leaves nothing under a final
    name; what it has finished is kept as ``*.e2e.kept``, and the same call goes on from that.

    No sample is lost silently: every shard is decoded again and compared with what was read (`check`),
    sources that change meanwhile are noticed, and what is left out is counted and reported in
    ``dataset.skipped.json``. Page: docs/convert.md.

    Parameters
    ----------
    sources : path or iterable of paths
        Files of any known format, whatever their names; their samples follow one another in this
        order. A directory stands for the files of known formats in it, by name; ``"@list.txt"`` for
        the files that the lines of a text name.
    out : path
        Directory of the dataset, made if it does not exist.
    preset : {"boosted-top", "quark-gluon", "top-mass", "tau", "electron-photon"}, optional
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
    meta : sequence of str, optional
        Names of the columns of a table ``*_meta`` of HDF5 and Zarr files, ``"-"`` leaves one out.
    tree : str, optional
        Tree or ntuple of ROOT files, where there are several.
    recipe : str
        How particle lists and hits become images, as ``"resolution=3,centre=axis"``:
        docs/importers/particles.md.
    precision : {"float32", "float16"}
        Of the stored pixels: bit for bit, or rounded.
    labels : sequence of number, optional
        One per element of `sources`, for files that come with one class each: becomes a scalar field,
        int64 if all are whole numbers, else float64.
    label_field : str
        Its name.
    rename : mapping of str to str, optional
        Other names for fields: the one in the file to the new one.
    scalars : sequence of str, optional
        Scalar fields to keep, by their names in the file; all if not given.
    nan : {"keep", "error", "zero", "skip"}
        What becomes of NaN and infinities among pixels and scalar fields: kept bit for bit (the
        statistics count those of pixels), an error that names the sample, made 0 and counted, or the
        sample left out and reported.
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
        Samples to leave out, counted over all sources from 0. They may be unreadable.
    skip_bad : int
        Samples that may be left out, and reported, as they cannot be read or crash their reader. One more is an error.
    check : bool
        Decode each finished shard and compare it with what was read: a few per cent of the time.
    isolate : bool
        Read sources in processes of their own, so that a library that crashes on a damaged file
        takes none but them along. False: with one process, in this one, as debuggers need it.
    dask : bool, str, path or dask.distributed.Client, optional
        Have a Dask cluster do it (docs/scaling.md): True for one of this machine with `processes`
        workers, else the address of a scheduler, the file that it has written, or a client. The
        machines share a file system.
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
        A source is damaged, not what it should be, has changed, or has crashed its reader.
    CorruptShardError
        A shard is not what was read: the machine is at fault.
    ShardExistsError
        `out` holds something else, and `overwrite` is False.
    ShardIOError
        The system refused to read or write.

    Examples
    --------
    >>> convert("BoostedTop_x1_fixed_0.snappy.parquet", "data/top")  # doctest: +SKIP
    """
    arguments = locals()
    if not os.fspath(out):
        raise ConfigError("no target: found an empty path, expected a directory; name it")
    refuse_remote_target(out)
    options = make_options(**{name: arguments[name] for name in OPTION_NAMES})
    with make_progress(progress) as shown, ConversionCrew(processes, isolate, dask) as crew:
        plan = prepare(sources, options, crew, shown, labels=labels, label_field=label_field)
        return _convert(plan, Path(out), crew, overwrite, resume, shown)


def plan_conversion(
    sources: Sources,
    options: PlanOptions,
    *,
    labels: Sequence[float] | None = None,
    label_field: str = "y",
    processes: int | None = None,
    isolate: bool = True,
    progress: bool = True,
) -> Plan:
    """Return what `convert` would do; it opens the sources and writes nothing.

    Parameters
    ----------
    sources, labels, label_field, processes, isolate, progress
        As of `convert`.
    options : PlanOptions
        From `make_options`, which takes the other parameters of `convert`.

    Raises
    ------
    ConfigError, SchemaMismatchError, ImporterError, ShardIOError
        As `convert`.

    Examples
    --------
    >>> plan = plan_conversion("jets.parquet", make_options())  # doctest: +SKIP
    >>> plan.n_samples, len(plan.tasks)  # doctest: +SKIP
    (2048, 1)
    """
    with make_progress(progress) as shown, Crew(processes, isolate) as crew:
        return prepare(sources, options, crew, shown, labels=labels, label_field=label_field)


def _convert(
    plan: Plan, out: Path, crew: ConversionCrew, overwrite: bool, resume: bool, progress: Progress
) -> Manifest:
    for source in plan.sources:
        if source.skipped:
            progress.note(f"{source.path}: skipped, as not numeric: {', '.join(source.skipped)}")
    with Target(out) as target:
        found = target.begin(plan, overwrite=overwrite, resume=resume)
        if isinstance(found, Manifest):
            progress.note(f"{out}: already converted")
            return found
        with target.filling(plan):
            shards = _make_shards(plan, target, found, crew, progress)
            _require_all(plan, shards)
            content = _manifest(plan, shards, progress)
            target.report([rows for shard in shards for rows in shard.skipped])
            manifest.write(out, content)
        return content


def _make_shards(
    plan: Plan,
    target: Target,
    finished: list[FinishedShard],
    crew: ConversionCrew,
    progress: Progress,
) -> list[FinishedShard]:
    """Return all shards in order, those that there were and those that had to be written."""
    tasks, tick = start_progress(target.path, plan.tasks, finished, plan.n_samples, progress)
    shards = list(finished)
    _require_few_bad(plan, shards)
    for shard in crew.write(plan, tasks, target.path, tick, progress):
        shards.append(shard)
        _require_few_bad(plan, shards)
    progress.close()
    return sorted(shards, key=lambda shard: shard.index)


def _require_few_bad(plan: Plan, shards: Sequence[FinishedShard]) -> None:
    """Raise ImporterError if more samples were unreadable than may be."""
    skipped = [rows for shard in shards for rows in shard.skipped]
    bad = [rows for rows in skipped if not rows.not_finite]
    n_bad = sum(rows.n_samples for rows in bad)
    if n_bad > plan.options.skip_bad:
        raise ImporterError(
            f"too many bad samples: {bad[-1].source}: found {n_bad} or more over all sources, "
            f"expected at most skip_bad = {plan.options.skip_bad}; the last one: {bad[-1].reason}",
            bad[-1].source,
            sample=bad[-1].begin,
        )


def _require_all(plan: Plan, shards: Sequence[FinishedShard]) -> None:
    """Raise ImporterError unless each sample of the sources is in a shard, excluded or reported."""
    n_there = sum(shard.entry.n_samples for shard in shards)
    n_skipped = sum(rows.n_samples for shard in shards for rows in shard.skipped)
    n_sources = sum(file.n_samples for file in plan.sources)
    n_excluded = len(plan.options.exclude)
    if n_there + n_skipped + n_excluded != n_sources:
        raise ImporterError(
            f"samples are missing: {len(shards)} shards: found {n_there} samples, {n_skipped} "
            f"skipped and {n_excluded} excluded, expected {n_sources} in all; please report it"
        )


def _manifest(plan: Plan, shards: list[FinishedShard], progress: Progress) -> Manifest:
    n_rounded = _total([shard.n_rounded for shard in shards])
    n_zeroed = _total([shard.n_zeroed for shard in shards])
    if n_rounded[0]:
        progress.note(f"{n_rounded[0]} float64 pixels were no float32 and were rounded")
    if n_zeroed[0]:
        progress.note(f"{n_zeroed[0]} values were NaN or infinite and were made 0")
    skipped = [rows for shard in shards for rows in shard.skipped]
    for rows in skipped[:_MAX_NOTES]:
        last = f" to {rows.end - 1}" if rows.n_samples > 1 else ""
        progress.note(f"{rows.source}: skipped sample {rows.begin}{last}: {rows.reason}")
    if len(skipped) > _MAX_NOTES:
        progress.note(f"and {len(skipped) - _MAX_NOTES} more: see {REPORT_NAME}")
    provenance = Provenance(
        tuple(SourceEntry(file.path, file.n_bytes, file.n_samples) for file in plan.sources),
        manifest.converter_name(),
        plan.options.to_json(),
        manifest.creation_time(),
        n_rounded[1],
        n_zeroed[1],
        sum(rows.n_samples for rows in skipped),
    )
    return list_shards(plan.schema, shards, provenance)


def _total(counts: Sequence[int | None]) -> tuple[int, int | None]:
    """Return the sum of the known ones, and the sum if all are."""
    known = [count for count in counts if count is not None]
    return sum(known), sum(known) if len(known) == len(counts) else None
