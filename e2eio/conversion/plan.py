"""What a conversion has to do: one task per shard, the same on every machine.

A task is a range of rows of one source, cut at row groups. Its shard id is a digest of everything
that decides the shard's bytes, so a shard that a run finds finished is recognised by its id alone.
The plan depends on the sources and on the options, never on the number of processes.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.errors import ConfigError, SchemaMismatchError
from e2eio.importers import ImportOptions, open_source
from e2eio.schema import Schema
from e2eio.shards import DEFAULT_SHARD_BYTES, shard_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.importers import Geometry

__all__ = ["Plan", "PlanOptions", "SourceFile", "Task", "make_plan", "read_sources"]

_BYTES_PER_SAMPLE: Final = 3_500  # stored; a jet at x1 takes 3 kB
_MIN_SHARDS: Final = 64  # of a large dataset, so that many processes have work
_MIN_SAMPLES: Final = 4_096  # of a shard that is made small for that reason


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Everything that decides the bytes of the result, but for the sources.

    Parameters
    ----------
    imports : ImportOptions
    compression_level : int
        Of zstd, 1 to 19.
    shard_samples : int or None
        Samples of a shard, at most; None: from `shard_bytes`.
    shard_bytes : int
        Size of a shard, about, at most.
    exclude : tuple of int
        Ascending sample numbers, counted over all sources in order, to leave out.
    """

    imports: ImportOptions
    compression_level: int = 3
    shard_samples: int | None = None
    shard_bytes: int = DEFAULT_SHARD_BYTES
    exclude: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.compression_level <= 19:
            raise ConfigError(
                f"wrong compression level: found {self.compression_level!r}, expected 1 to 19"
            )
        if self.shard_bytes < 1 or (self.shard_samples is not None and self.shard_samples < 1):
            raise ConfigError(
                f"wrong shard size: found shard_samples={self.shard_samples!r}, "
                f"shard_bytes={self.shard_bytes!r}, expected at least 1"
            )

    def to_json(self) -> dict[str, object]:
        """Return what provenance states."""
        imports = self.imports
        return {
            "preset": imports.preset,
            "shape": None if imports.shape is None else list(imports.shape),
            "layout": imports.layout,
            "channels": None if imports.channels is None else list(imports.channels),
            "units": None if imports.units is None else list(imports.units),
            "image": imports.image,
            "precision": imports.precision,
            "compression_level": self.compression_level,
            "shard_samples": self.shard_samples,
            "shard_bytes": self.shard_bytes,
            "exclude": list(self.exclude),
        }


@dataclass(frozen=True, slots=True)
class SourceFile:
    """What the plan needs to know of a source; the file itself is closed again."""

    path: str
    n_bytes: int
    n_samples: int
    fingerprint: bytes
    geometry: Geometry
    cuts: NDArray[np.int64]
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One shard to write.

    Parameters
    ----------
    index : int
        Of the shard.
    path : str
        Source.
    begin, end : int
        Rows of the source.
    exclude : tuple of int
        Rows of the source, within the range, to leave out.
    shard_id : bytes
        16 bytes.
    """

    index: int
    path: str
    begin: int
    end: int
    exclude: tuple[int, ...]
    shard_id: bytes

    @property
    def file(self) -> str:
        """Name of the shard."""
        return shard_name(self.index)

    @property
    def n_samples(self) -> int:
        """Samples that the shard will have."""
        return self.end - self.begin - len(self.exclude)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a conversion has to do."""

    schema: Schema
    options: PlanOptions
    sources: tuple[SourceFile, ...]
    tasks: tuple[Task, ...]

    @property
    def n_samples(self) -> int:
        """Samples that the dataset will have."""
        return sum(task.n_samples for task in self.tasks)


def read_sources(
    paths: Iterable[str], options: ImportOptions
) -> tuple[Schema, tuple[SourceFile, ...]]:
    """Open each source in turn, and return the schema that all of them have.

    Raises
    ------
    ConfigError
        There are no sources.
    SchemaMismatchError
        Two differ in schema.
    """
    schema: Schema | None = None
    files: list[SourceFile] = []
    for path in paths:
        source = open_source(path, options)
        try:
            if schema is not None and source.schema != schema:
                raise _mismatch(files[0].path, schema, path, source.schema)
            schema = source.schema
            files.append(
                SourceFile(
                    path,
                    source.n_bytes,
                    source.n_samples,
                    source.fingerprint,
                    source.geometry,
                    source.cuts,
                    source.skipped,
                )
            )
        finally:
            source.close()
    if schema is None:
        raise ConfigError("no sources: found an empty list, expected at least one file")
    return schema, tuple(files)


def make_plan(schema: Schema, sources: tuple[SourceFile, ...], options: PlanOptions) -> Plan:
    """Cut the sources into tasks.

    Raises
    ------
    ConfigError
        A sample to exclude does not exist, or none is left.
    """
    total = sum(source.n_samples for source in sources)
    outside = [number for number in options.exclude if not 0 <= number < total]
    if outside:
        raise ConfigError(
            f"no such sample to exclude: found {outside[0]}, expected 0 to {total - 1}"
        )
    target = _shard_samples(total, options)
    tasks: list[Task] = []
    first = 0
    for source in sources:
        for begin, end in _ranges(source.cuts, target):
            low = bisect_left(options.exclude, first + begin)
            high = bisect_left(options.exclude, first + end)
            exclude = tuple(number - first for number in options.exclude[low:high])
            if len(exclude) == end - begin:
                continue
            shard_id = _shard_id(len(tasks), source, begin, end, exclude, schema, options)
            tasks.append(Task(len(tasks), source.path, begin, end, exclude, shard_id))
        first += source.n_samples
    if not tasks:
        raise ConfigError(f"nothing to convert: all {total} samples are excluded; mend exclude")
    return Plan(schema, options, sources, tuple(tasks))


def _shard_samples(total: int, options: PlanOptions) -> int:
    if options.shard_samples is not None:
        return options.shard_samples
    by_size = max(1, options.shard_bytes // _BYTES_PER_SAMPLE)
    return min(by_size, max(_MIN_SAMPLES, -(-total // _MIN_SHARDS)))


def _ranges(cuts: NDArray[np.int64], target: int) -> list[tuple[int, int]]:
    """Cut [0, n) into equal parts of at most `target` rows, moved to the nearest row group."""
    n = int(cuts[-1])
    if n == 0:
        return []
    n_parts = -(-n // target)
    wanted = np.arange(1, n_parts) * n // n_parts
    after = np.searchsorted(cuts, wanted)
    low, high = cuts[np.maximum(after - 1, 0)], cuts[after]
    edges = np.unique(np.where(wanted - low < high - wanted, low, high))
    bounds = [0, *(int(edge) for edge in edges if 0 < edge < n), n]
    return list(pairwise(bounds))


def _shard_id(
    index: int,
    source: SourceFile,
    begin: int,
    end: int,
    exclude: tuple[int, ...],
    schema: Schema,
    options: PlanOptions,
) -> bytes:
    text = json.dumps(
        [
            index,
            [PurePath(source.path).name, source.n_bytes, source.fingerprint.hex()],
            [begin, end, list(exclude)],
            [schema.to_json(), source.geometry.layout, options.compression_level],
        ]
    )
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _mismatch(
    first_path: str, first: Schema, second_path: str, second: Schema
) -> SchemaMismatchError:
    for name, one, other in _parts(first, second):
        if one != other:
            return SchemaMismatchError(
                f"schemas differ: {second_path} and {first_path}: found {name} {other}, expected "
                f"{one} as in the latter; convert them apart, or leave one out",
                second_path,
            )
    return SchemaMismatchError(
        f"schemas differ: {second_path} and {first_path}; convert them apart", second_path
    )


def _parts(first: Schema, second: Schema) -> list[tuple[str, object, object]]:
    one, other = (
        [f"{scalar.name} ({scalar.dtype})" for scalar in schema.scalars]
        for schema in (first, second)
    )
    return [
        ("image", first.image.name, second.image.name),
        ("shape C, H, W", first.image.shape, second.image.shape),
        ("channels", list(first.channels), list(second.channels)),
        ("scalars", one, other),
    ]
