"""Writing of shards and datasets from samples in memory, and opening of single shards."""

from __future__ import annotations

from e2eio.shards.shard import (
    DEFAULT_SHARD_BYTES,
    SHARD_NAME,
    decode_statistics,
    open_shard,
    open_writer,
    shard_name,
    shard_paths,
    slice_samples,
    written_statistics,
)
from e2eio.shards.stored import ShardPart, StoredShards
from e2eio.shards.writer import DatasetWriter, write

__all__ = [
    "DEFAULT_SHARD_BYTES",
    "SHARD_NAME",
    "DatasetWriter",
    "ShardPart",
    "StoredShards",
    "decode_statistics",
    "open_shard",
    "open_writer",
    "shard_name",
    "shard_paths",
    "slice_samples",
    "write",
    "written_statistics",
]
