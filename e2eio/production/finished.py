"""Shards that are written, and the manifest that lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from e2eio import manifest
from e2eio.manifest import ChannelStatistics, Manifest, Provenance, ShardEntry
from e2eio.production.skipped import SkippedSamples
from e2eio.schema import Schema

__all__ = ["FinishedShard", "list_shards"]


@dataclass(frozen=True, slots=True)
class FinishedShard:
    """A shard under its final name.

    Parameters
    ----------
    index : int
    entry : ShardEntry
    statistics : tuple of ChannelStatistics
    content : str
        Content digest of its samples.
    n_rounded, n_zeroed : int or None
        None: not known, as an earlier run has written it.
    skipped : tuple of SkippedSamples
    """

    index: int
    entry: ShardEntry
    statistics: tuple[ChannelStatistics, ...]
    content: str
    n_rounded: int | None
    n_zeroed: int | None
    skipped: tuple[SkippedSamples, ...] = ()


def list_shards(
    schema: Schema, shards: Sequence[FinishedShard], provenance: Provenance
) -> Manifest:
    """Return the manifest of a dataset of these shards, which come in their order."""
    statistics = manifest.merge_statistics(
        [shard.statistics for shard in shards], len(schema.channels)
    )
    return Manifest(
        schema,
        tuple(shard.entry for shard in shards),
        statistics,
        provenance,
        tuple(shard.content for shard in shards),
    )
