"""Foreign files as datasets, without converting them: their shards are made when first touched.

A source is planned as a conversion into small shards. Samples are asked of the core, which asks the
maker threads for shards that are not there yet; each maker has a child process that reads and encodes
(docs/direct.md). The shards stay in memory, or are files of a cache, which is a dataset once all are made.
"""

from __future__ import annotations

from e2eio.direct.cache import CachedShards, open_cached
from e2eio.direct.planning import is_foreign, plan_sources
from e2eio.direct.shards import DirectShards, open_direct

__all__ = [
    "CachedShards",
    "DirectShards",
    "is_foreign",
    "open_cached",
    "open_direct",
    "plan_sources",
]
