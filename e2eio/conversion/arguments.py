"""From a caller's arguments to the options of a plan, and to the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from e2eio.conversion.plan import Label, NanPolicy, Plan, PlanOptions, SourceFile, make_plan
from e2eio.conversion.sources import Sources, common_schema, expand, labels_of, read_source
from e2eio.conversion.workers import Job, Workers
from e2eio.errors import ConfigError
from e2eio.importers import ImportOptions, Layout
from e2eio.progress import Progress
from e2eio.schema import Precision, Schema
from e2eio.shards import DEFAULT_SHARD_BYTES

__all__ = ["do_jobs", "make_options", "prepare"]

_FILES_PER_PROCESS = 16  # opened one after the other before another process is started for that


def make_options(
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
    rename: Mapping[str, str] | None = None,
    scalars: Sequence[str] | None = None,
    nan: NanPolicy = "keep",
    skip_bad: int = 0,
    check: bool = True,
    compression_level: int = 3,
    shard_samples: int | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    exclude: Iterable[int] = (),
) -> PlanOptions:
    """Return the options of a plan; the parameters are those of `convert`.

    Raises
    ------
    ConfigError
        One is wrong.
    """
    return PlanOptions(
        ImportOptions(
            preset=preset,
            shape=_shape(shape),
            layout=layout,
            channels=_texts(channels),
            units=_texts(units),
            image=image,
            meta=_texts(meta),
            tree=tree,
            recipe=recipe,
            precision=precision,
            rename=tuple((rename or {}).items()),
            scalars=_texts(scalars),
        ),
        compression_level,
        shard_samples,
        shard_bytes,
        tuple(sorted(set(exclude))),
        nan,
        skip_bad,
        check,
    )


def prepare(
    sources: Sources,
    options: PlanOptions,
    *,
    labels: Sequence[object] | None = None,
    label_field: str = "y",
    workers: Workers | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Plan:
    """Open all sources once, and return what is to be done.

    Parameters
    ----------
    sources, labels, label_field
        As of `convert`.
    options : PlanOptions
    workers : Workers, optional
        They open the sources; this process does if not given.
    processes : int
        How many of them, at most.
    progress : Progress, optional
        Told of files that are left out.

    Returns
    -------
    Plan
        The same on every machine: `write_shard` does one of its tasks.

    Raises
    ------
    ConfigError, SchemaMismatchError, ImporterError, ShardIOError
        As `convert`.

    Examples
    --------
    >>> plan = prepare(["a.parquet", "b.parquet"], make_options())  # doctest: +SKIP
    >>> plan.n_samples, len(plan.tasks)  # doctest: +SKIP
    (2048, 1)
    """
    files, notes = expand(sources, labels_of(labels, label_field))
    if progress is not None:
        for note in notes:
            progress.note(note)
    jobs = [_reading(path, label, options.imports) for path, label in files]
    n_processes = min(processes, len(jobs) // _FILES_PER_PROCESS + 1)
    found: dict[int, tuple[Schema, SourceFile]] = dict(do_jobs(workers, jobs, n_processes, _ignore))
    read = [found[index] for index in range(len(jobs))]
    return make_plan(common_schema(read), tuple(file for _, file in read), options)


def do_jobs(
    workers: Workers | None, jobs: Sequence[Job], n_processes: int, tick: Callable[[int], None]
) -> Iterator[tuple[int, Any]]:
    """Do jobs in workers, or here where there are none; yield the number and result of each."""
    if workers is not None:
        yield from workers.run(jobs, n_processes, tick)
        return
    for index, job in enumerate(jobs):
        yield index, job.function(*job.arguments, tick)


def _reading(path: str, label: Label | None, options: ImportOptions) -> Job:
    def place(_: int) -> tuple[str, str]:
        return "opening it", "fetch the file again, or leave the file out"

    return Job(path, place, _read_source, (path, label, options))


def _read_source(
    path: str, label: Label | None, options: ImportOptions, tick: Callable[[int], None]
) -> tuple[Schema, SourceFile]:
    tick(0)
    return read_source(path, label, options)


def _ignore(_: int) -> None:
    pass


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
