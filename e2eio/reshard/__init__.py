"""Datasets made of datasets: merged, split, shuffled, repacked; no bit of a sample changes."""

from __future__ import annotations

from e2eio.reshard.verbs import merge, repack, shuffle, split

__all__ = ["merge", "repack", "shuffle", "split"]
