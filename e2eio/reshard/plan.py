"""What is to be written: datasets, each an order of its parents' samples cut into shards.

The plan depends on the samples and the arguments alone. A shard's id is a digest of everything that
decides its bytes, so that a run that was interrupted finds what it has finished.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio import _core
from e2eio.dataset import Dataset
from e2eio.errors import ConfigError
from e2eio.production import ShardRange
from e2eio.schema import Precision, Schema
from e2eio.shards import DEFAULT_SHARD_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Output", "ShardOptions", "listed", "plan_output", "shown_schema"]

_VERSION: Final = 1  # rises when the same arguments come to mean other bytes
_MIN_SHARDS: Final = 64  # of a large dataset, so that many threads have work
_MIN_SAMPLES: Final = 4_096  # of a shard that is made small for that reason


@dataclass(frozen=True, slots=True)
class ShardOptions:
    """How samples are stored.

    Parameters
    ----------
    shard_bytes, shard_samples : int or None
        Of a shard, at most, the first about. None, both: 256 MiB, or less where this makes few shards.
    compression_level : int
        Of zstd, 1 to 19.
    """

    shard_bytes: int | None = None
    shard_samples: int | None = None
    compression_level: int = 3

    def __post_init__(self) -> None:
        for name, value in (
            ("shard_bytes", self.shard_bytes),
            ("shard_samples", self.shard_samples),
        ):
            if value is not None and value < 1:
                raise ConfigError(f"wrong {name}: found {value!r}, expected at least 1")
        if not 1 <= self.compression_level <= 19:
            raise ConfigError(
                f"wrong compression level: found {self.compression_level!r}, expected 1 to 19"
            )

    def most_samples(self, dataset: Dataset, n_samples: int) -> int:
        """Return how many samples a shard may have."""
        if self.shard_samples is not None and self.shard_bytes is None:
            return self.shard_samples
        n_bytes = sum(reader.n_bytes for reader in dataset.readers)
        per_sample = max(1, n_bytes // max(1, len(dataset)))
        most = max(1, (self.shard_bytes or DEFAULT_SHARD_BYTES) // per_sample)
        if self.shard_samples is not None:
            return min(most, self.shard_samples)
        if self.shard_bytes is not None:
            return most
        return min(most, max(_MIN_SAMPLES, -(-n_samples // _MIN_SHARDS)))


@dataclass(frozen=True, slots=True)
class Output:
    """One dataset to write.

    Parameters
    ----------
    path : path
    order : Order
        Whose epoch 0 the dataset is: numbers of the parents' samples.
    schema : Schema
    channels : tuple of int
        Of the parents, that it has.
    options : ShardOptions
    tasks : tuple of ShardRange
    """

    path: Path
    order: _core.Order
    schema: Schema
    channels: tuple[int, ...]
    options: ShardOptions
    tasks: tuple[ShardRange, ...]

    @property
    def n_samples(self) -> int:
        """Samples that the dataset will have."""
        return self.order.n_places

    @property
    def max_skipped(self) -> int:
        """Samples that a shard may lack."""
        return 0


def listed(ids: NDArray[np.int64]) -> tuple[_core.Order, str]:
    """Return the order in which `ids` stand, and a text that tells it from others."""
    stored = np.ascontiguousarray(ids, dtype="<i8")
    name = f"{len(ids)} samples, {hashlib.blake2b(stored.data, digest_size=16).hexdigest()}"
    return _core.Order.in_file_order(len(ids)).selected(ids), name


def shown_schema(
    schema: Schema, channels: tuple[str, ...] | None, precision: Precision | None
) -> tuple[Schema, tuple[int, ...]]:
    """Return the schema with some channels only, and their numbers.

    Raises
    ------
    ConfigError
        There is no such channel or precision, or a channel is named twice.
    """
    names = schema.channels if channels is None else channels
    for name in names:
        if name not in schema.channels:
            raise ConfigError(
                f"unknown channel: found {name!r}; expected one of {', '.join(schema.channels)}"
            )
    numbers = tuple(schema.channels.index(name) for name in names)
    image = replace(schema.image, channels=tuple(schema.image.channels[k] for k in numbers))
    if precision is not None:
        image = replace(image, precision=precision)
    return replace(schema, image=image), numbers


def plan_output(
    dataset: Dataset,
    path: Path,
    order: tuple[_core.Order, str],
    schema: Schema,
    channels: tuple[int, ...],
    options: ShardOptions,
) -> Output:
    """Cut an order of samples into shards of equal sizes, one at least.

    Parameters
    ----------
    dataset : Dataset
        The parents as one.
    path : path
        Directory of the new dataset.
    order : (Order, str)
        And a text that tells it from other orders of the same samples.
    schema, channels
        As `shown_schema` returns them.
    options : ShardOptions
    """
    n = order[0].n_places
    n_shards = max(1, -(-n // options.most_samples(dataset, n)))
    common: list[Any] = [_VERSION, dataset.digest, order[1], schema.to_json(), list(channels)]
    common.append(options.compression_level)
    tasks = []
    for index in range(n_shards):
        begin, end = index * n // n_shards, (index + 1) * n // n_shards
        text = json.dumps([*common, index, begin, end])
        shard_id = hashlib.blake2b(text.encode(), digest_size=16).digest()
        tasks.append(ShardRange(index, begin, end, shard_id))
    return Output(path, order[0], schema, channels, options, tuple(tasks))
