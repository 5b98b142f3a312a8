"""What a conversion has to do: one task per shard, the same on every machine.

A task is a range of rows of one source, cut at row groups. Its shard id is a digest of everything
that decides the shard's bytes, so a shard that a run finds finished is recognised by its id alone.
The plan depends on the sources and on the options, never on the number of processes.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_left
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from e2eio.errors import ConfigError
from e2eio.importers import ImportOptions
from e2eio.schema import Schema
from e2eio.shards import DEFAULT_SHARD_BYTES, shard_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.importers import Geometry

__all__ = ["Label", "NanPolicy", "Plan", "PlanOptions", "SourceFile", "Task", "make_plan"]

#: Name and value of a scalar field that all samples of a source share.
Label = tuple[str, int | float]
#: What becomes of NaN and infinities.
NanPolicy = Literal["keep", "error", "zero", "skip"]

_BYTES_PER_SAMPLE: Final = 3_500  # stored; a jet at x1 takes 3 kB
_MIN_SHARDS: Final = 64  # of a large dataset, so that many processes have work
_MIN_SAMPLES: Final = 4_096  # of a shard that is made small for that reason
_IN_SCHEMA: Final = frozenset(  # options whose whole effect a shard id has from schema and layout
    ("preset", "shape", "layout", "channels", "units", "image", "precision", "scalars", "label")
)
_NAN_POLICIES: Final = ("keep", "error", "zero", "skip")


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Everything that decides the bytes of the result, but for the sources.

    The fields and those of `imports` are parameters of `convert`; `exclude` ascends.
    """

    imports: ImportOptions
    compression_level: int = 3
    shard_samples: int | None = None
    shard_bytes: int = DEFAULT_SHARD_BYTES
    exclude: tuple[int, ...] = ()
    nan: NanPolicy = "keep"
    skip_bad: int = 0
    check: bool = True

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
        if self.nan not in _NAN_POLICIES:
            raise ConfigError(
                f"wrong nan: found {self.nan!r}, expected one of {', '.join(_NAN_POLICIES)}"
            )
        if self.skip_bad < 0:
            raise ConfigError(f"wrong skip_bad: found {self.skip_bad!r}, expected 0 or more")

    def to_json(self) -> dict[str, object]:
        """Return what provenance states."""
        options = {
            **{name: getattr(self.imports, name) for name in _option_names() if name != "label"},
            "rename": dict(self.imports.rename),
            "compression_level": self.compression_level,
            "shard_samples": self.shard_samples,
            "shard_bytes": self.shard_bytes,
            "exclude": self.exclude,
            "nan": self.nan,
            "skip_bad": self.skip_bad,
        }
        plain: dict[str, object] = json.loads(json.dumps(options))
        return plain


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
    label: Label | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One shard to write; small, and can be pickled.

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
    n_source_bytes : int
    fingerprint : bytes
        Of the source, when the plan was made.
    label : (str, int or float) or None
        A scalar field that the file does not have.
    first_sample : int
        Number of the source's first sample, counted over all sources: what `exclude` of a conversion
        counts by.
    crashed : tuple of (int, str)
        Ascending rows that crash their reader, and how: they are never read, and reported unless excluded.
    """

    index: int
    path: str
    begin: int
    end: int
    exclude: tuple[int, ...]
    shard_id: bytes
    n_source_bytes: int
    fingerprint: bytes
    label: Label | None = None
    first_sample: int = 0
    crashed: tuple[tuple[int, str], ...] = ()

    @property
    def file(self) -> str:
        """Name of the shard."""
        return shard_name(self.index)

    @property
    def n_samples(self) -> int:
        """Samples that the shard will have, unless some are skipped."""
        return self.end - self.begin - len(self.exclude)

    def imports(self, options: PlanOptions) -> ImportOptions:
        """Return how the source is to be opened."""
        return replace(options.imports, label=self.label)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a conversion has to do."""

    schema: Schema
    options: PlanOptions
    sources: tuple[SourceFile, ...]
    tasks: tuple[Task, ...]

    @property
    def max_skipped(self) -> int:
        """Unreadable samples that may be left out."""
        return self.options.skip_bad

    @property
    def n_samples(self) -> int:
        """Samples that the dataset will have, unless some are skipped."""
        return sum(task.n_samples for task in self.tasks)

    @property
    def n_bytes_about(self) -> int:
        """Size of the dataset, roughly: jets take so much, whatever the granularity."""
        n_dense = 4 * math.prod(self.schema.image.shape)
        return self.n_samples * min(_BYTES_PER_SAMPLE, n_dense)


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
            place = (len(tasks), source.path, begin, end, exclude, shard_id)
            tasks.append(Task(*place, source.n_bytes, source.fingerprint, source.label, first))
        first += source.n_samples
    if not tasks:
        raise ConfigError(f"nothing to convert: all {total} samples are excluded; mend exclude")
    return Plan(schema, options, sources, tuple(tasks))


def _option_names() -> list[str]:
    return [field.name for field in fields(ImportOptions)]


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
    parts: list[object] = [
        index,
        [PurePath(source.path).name, source.n_bytes, source.fingerprint.hex()],
        [begin, end, list(exclude)],
        [schema.to_json(), source.geometry.layout, options.compression_level],
    ]
    # What is seldom asked for comes last, and only where it is: all other shards keep their ids.
    plain = ImportOptions()
    asked = [
        (name, getattr(options.imports, name), getattr(plain, name))
        for name in _option_names()
        if name not in _IN_SCHEMA
    ]
    asked += [("label", source.label, None), ("nan", options.nan, "keep")]
    parts += [[name, value] for name, value, default in asked if value != default]
    text = json.dumps(parts)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
