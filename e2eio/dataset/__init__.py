"""Samples by number: a directory of shards, a shard, or a list of them."""

from __future__ import annotations

from e2eio.dataset.dataset import Dataset, dataset_of, join_datasets
from e2eio.dataset.samples import SampleArrays, Samples

__all__ = ["Dataset", "SampleArrays", "Samples", "dataset_of", "join_datasets"]
