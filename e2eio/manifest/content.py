"""The content of ``dataset.json`` (docs/format.md, section 7)."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from typing import Final

from e2eio.errors import ConfigError
from e2eio.manifest.identity import join_contents
from e2eio.schema import Schema

__all__ = [
    "FORMAT",
    "VERSION",
    "ChannelStatistics",
    "Manifest",
    "Provenance",
    "ShardEntry",
    "SourceEntry",
    "converter_name",
    "creation_time",
    "dataset_digest",
    "merge_statistics",
]

FORMAT: Final = "e2eio-dataset"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard of a dataset.

    Parameters
    ----------
    file : str
        Plain file name within the directory.
    n_samples, n_bytes : int
        Records, and size of the file.
    digest : str
        Trailer checksum and shard id in hex, joined by ``-``.
    """

    file: str
    n_samples: int
    n_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Sums over the stored pixels of one channel.

    Parameters
    ----------
    nonzero : int
        Stored pixels, finite or not.
    nonfinite : int
        NaN and infinities among them.
    min, max : float or None
        Over the finite ones; None if there is none.
    sum, sum_squares : float
        Over the finite ones, in the channel's unit and its square.
    """

    nonzero: int = 0
    nonfinite: int = 0
    min: float | None = None
    max: float | None = None
    sum: float = 0.0
    sum_squares: float = 0.0


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """A file that a dataset was made from: path as given, size, and number of samples."""

    path: str
    n_bytes: int
    n_samples: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a dataset comes from.

    Parameters
    ----------
    sources : tuple of SourceEntry
        In the order of the samples; empty if the samples came from memory.
    converter : str
        Program and version.
    options : mapping
        As given, in JSON's types.
    created : str
        UTC, ISO 8601.
    n_rounded : int or None
        float64 pixels that are no float32 and were rounded; None: not known, as some shards were
        finished by an earlier run.
    n_zeroed : int or None
        NaN and infinities that were made 0, as was asked for; None: as above.
    n_skipped : int
        Samples that were left out as they could not be read, or were not finite;
        ``dataset.skipped.json`` names them.
    """

    sources: tuple[SourceEntry, ...]
    converter: str
    options: Mapping[str, object]
    created: str
    n_rounded: int | None = 0
    n_zeroed: int | None = 0
    n_skipped: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of ``dataset.json``.

    Parameters
    ----------
    schema : Schema
    shards : tuple of ShardEntry
        In the order of the samples.
    statistics : tuple of ChannelStatistics
        One per channel, in order.
    provenance : Provenance
    contents : tuple of str, optional
        Content digest of each shard, in order; None: not known, as an earlier version has written
        the dataset.

    Attributes
    ----------
    n_samples : int
        Total.
    digest : str
        Hex BLAKE2b-128 of the shards' digests: equal if and only if all shards are.
    content : str or None
        Digest of the samples in their order: equal for datasets of the same samples, whatever the
        sizes and the compression of their shards, and whatever they were made from.
    """

    schema: Schema
    shards: tuple[ShardEntry, ...]
    statistics: tuple[ChannelStatistics, ...]
    provenance: Provenance
    contents: tuple[str, ...] | None = None
    n_samples: int = field(init=False)
    digest: str = field(init=False)
    content: str | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_samples", sum(shard.n_samples for shard in self.shards))
        object.__setattr__(self, "digest", dataset_digest(shard.digest for shard in self.shards))
        content = None
        if self.contents is not None:
            counts = [shard.n_samples for shard in self.shards]
            content = join_contents(zip(counts, self.contents, strict=True))
        object.__setattr__(self, "content", content)

    def to_json(self) -> dict[str, object]:
        """Return the object that the file holds."""
        contents: dict[str, object] = {}
        if self.contents is not None:
            contents = {"content": self.content, "shard_contents": list(self.contents)}
        return {
            "format": FORMAT,
            "version": VERSION,
            "schema": self.schema.to_json(),
            "n_samples": self.n_samples,
            "shards": [asdict(shard) for shard in self.shards],
            "digest": self.digest,
            **contents,
            "statistics": [asdict(channel) for channel in self.statistics],
            "provenance": {**asdict(self.provenance), "options": dict(self.provenance.options)},
        }


def dataset_digest(digests: Iterable[str]) -> str:
    """Return the digest of a dataset from those of its shards.

    Examples
    --------
    >>> dataset_digest([])
    'cae66941d9efbd404e4d88758ea67670'
    """
    text = "".join(f"{digest}\n" for digest in digests)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def merge_statistics(
    parts: Sequence[Sequence[ChannelStatistics]], n_channels: int
) -> tuple[ChannelStatistics, ...]:
    """Return the statistics of all shards together, from those of each."""
    merged = []
    for channel in range(n_channels):
        rows = [part[channel] for part in parts]
        merged.append(
            ChannelStatistics(
                nonzero=sum(row.nonzero for row in rows),
                nonfinite=sum(row.nonfinite for row in rows),
                min=min((row.min for row in rows if row.min is not None), default=None),
                max=max((row.max for row in rows if row.max is not None), default=None),
                sum=math.fsum(row.sum for row in rows),
                sum_squares=math.fsum(row.sum_squares for row in rows),
            )
        )
    return tuple(merged)


def converter_name() -> str:
    """Return the name and version of this package, as provenance states it."""
    try:
        return f"e2eio {metadata.version('e2eio')}"
    except metadata.PackageNotFoundError:  # used from a source tree
        return "e2eio"


def creation_time() -> str:
    """Return the time in UTC; that of SOURCE_DATE_EPOCH (seconds), where it is set."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        moment = datetime.now(timezone.utc)
    else:
        try:
            moment = datetime.fromtimestamp(int(given), timezone.utc)
        except (ValueError, OverflowError, OSError):
            raise ConfigError(
                f"wrong SOURCE_DATE_EPOCH: environment: found {given!r}, "
                "expected seconds since 1970; mend or unset it"
            ) from None
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")
