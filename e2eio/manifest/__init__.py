"""``dataset.json``: what belongs to a dataset as a whole (docs/format.md, section 7)."""

from __future__ import annotations

from e2eio.manifest.content import (
    ChannelStatistics,
    Manifest,
    Provenance,
    ShardEntry,
    SourceEntry,
    converter_name,
    creation_time,
    dataset_digest,
    merge_statistics,
)
from e2eio.manifest.file import FILE_NAME, io_error, parse, read, write
from e2eio.manifest.identity import content_digest, join_contents

__all__ = [
    "FILE_NAME",
    "ChannelStatistics",
    "Manifest",
    "Provenance",
    "ShardEntry",
    "SourceEntry",
    "content_digest",
    "converter_name",
    "creation_time",
    "dataset_digest",
    "io_error",
    "join_contents",
    "merge_statistics",
    "parse",
    "read",
    "write",
]
