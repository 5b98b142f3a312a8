"""The order of the samples, and what each rank has of it (docs/plan.md)."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from e2eio import _core
from e2eio.dataset import Dataset
from e2eio.errors import ConfigError
from e2eio.options import at_least, plan_key
from e2eio.plan.selection import holds_for, selected_ids
from e2eio.sampling import Mix, Weights

__all__ = ["OrderOptions", "SampleOrder", "digest_of", "integer_weights", "sample_order"]

Shuffle = bool | Literal["window"]

# Of docs/plan.md: rises when the same arguments come to mean another order.
_VERSION = 1

_STRATA = 16  # WindowOrder::kStrata

# An extent of a window shuffle is about this long: reads of 1 MB are near the full rate of disks and
# object stores, and 16 of them, a window, mix well
# (benchmarks/mixing.py) and leave room for a second one in the 32 MiB that are read ahead.
_EXTENT_BYTES = 1_000_000

# Extents of fewer samples would leave too many over for the tail.
_LEAST_EXTENT = 16


@dataclass(frozen=True)
class OrderOptions:
    """A loader's arguments that decide which sample stands at which place; see Loader."""

    shuffle: Shuffle = False
    seed: int = 0
    select: str | None = None
    exclude: ArrayLike | str | os.PathLike[str] | None = None
    weights: ArrayLike | Weights | Mix | None = None
    samples_per_epoch: int | None = None


@dataclass(frozen=True)
class SampleOrder:
    """An order of a dataset's samples: the same object serves any number of pipelines.

    `plain` is (shuffle, key) of an order of all samples that these two define, else None.
    """

    core: _core.Order
    description: dict[str, int | str | bool | None]
    plain: tuple[bool, int] | None = None


def digest_of(description: dict[str, Any]) -> str:
    """Return 16 hex digits that two descriptions share if they are equal."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def sample_order(dataset: Dataset, options: OrderOptions) -> SampleOrder:
    """Return the order that a loader's arguments stand for.

    Raises
    ------
    ConfigError
        They are wrong, or do not fit each other or the dataset.
    """
    options = _checked(options)
    ids = selected_ids(dataset, options.select, options.exclude)
    n_selected = len(dataset) if ids is None else len(ids)
    n_places = n_selected
    if options.samples_per_epoch is not None:
        n_places = at_least(1, "samples_per_epoch", options.samples_per_epoch)
    description: dict[str, int | str | bool | None] = {
        "dataset": dataset.digest,
        "seed": options.seed,
        "shuffle": options.shuffle,
        "plan": _VERSION,
        "length": 0,
        "selection": None if ids is None else f"{n_selected} samples, {_digest(ids, '<i8')}",
        "weights": None,
    }
    if options.shuffle == "window":
        description["shuffle"] = f"window of {_STRATA} extents of at most {_extent(dataset)}"
    key = plan_key(dataset.digest, options.seed)
    if isinstance(options.weights, Mix):
        core, description["weights"] = _mixed(dataset, options, ids, options.weights, n_places)
    elif options.weights is not None:
        values = _weights(dataset, ids, options.weights)
        core = _core.Order.weighted(values, key, n_places)
        description["weights"] = _digest(values, "<u8")
    else:
        core = _plain(dataset, options.shuffle, n_selected, key)
    if ids is not None and not isinstance(options.weights, Mix):
        core = core.selected(ids)
    description["length"] = core.n_places  # of a mixture only its parts say
    is_plain = ids is None and options.weights is None and isinstance(options.shuffle, bool)
    return SampleOrder(core, description, (bool(options.shuffle), key) if is_plain else None)


def _checked(options: OrderOptions) -> OrderOptions:
    shuffle: object = options.shuffle
    if isinstance(shuffle, np.bool_):
        options = replace(options, shuffle=bool(shuffle))
    if not isinstance(options.shuffle, bool) and options.shuffle != "window":
        raise ConfigError(f"shuffle is {options.shuffle!r}; expected True, False or 'window'")
    if options.samples_per_epoch is not None and options.weights is None:
        raise ConfigError(
            f"samples_per_epoch is {options.samples_per_epoch} without weights; an epoch without "
            "weights is all selected samples, once each"
        )
    drawn = options.weights is not None and not isinstance(options.weights, Mix)
    if drawn and options.shuffle is not True:
        raise ConfigError(
            f"shuffle is {options.shuffle!r} with weights; expected True: samples are drawn at random "
            "from all that are selected"
        )
    return replace(options, seed=at_least(0, "seed", options.seed, most=None))


def _plain(dataset: Dataset, shuffle: Shuffle, n: int, key: int) -> _core.Order:
    if shuffle == "window":
        return _core.Order.windowed(n, key, _extent(dataset))
    return _core.Order.shuffled(n, key) if shuffle else _core.Order.in_file_order(n)


def _extent(dataset: Dataset) -> int:
    return max(_LEAST_EXTENT, _EXTENT_BYTES * len(dataset) // max(1, dataset.n_bytes))


def _mixed(
    dataset: Dataset,
    options: OrderOptions,
    ids: NDArray[np.int64] | None,
    mix: Mix,
    n_places: int,
) -> tuple[_core.Order, str]:
    parts = []
    names = _part_names(dataset, mix)
    for number, members in enumerate(_parts(dataset, mix)):
        if ids is not None:
            members = members[np.isin(members, ids, assume_unique=True)]
        if len(members) == 0:
            raise ConfigError(f"mix: nothing in {names[number]} is selected; leave it out")
        key = plan_key(dataset.digest, options.seed, part=number)
        order = _plain(dataset, options.shuffle, len(members), key)
        parts.append((order.selected(members), _digest(members, "<i8")))
    if options.samples_per_epoch is None:
        n_places = sum(order.n_places for order, _ in parts)
    description = ", ".join(
        f"{share} of {digest}" for share, (_, digest) in zip(mix.shares, parts, strict=True)
    )
    mixed = _core.Order.mixed([order for order, _ in parts], mix.shares, n_places)
    return mixed, digest_of({"mix": description})


def _part_names(dataset: Dataset, mix: Mix) -> tuple[str, ...]:
    if mix.conditions is not None:
        return tuple(repr(text) for text in mix.conditions)
    if len(mix.shares) != len(dataset.source_sizes):
        raise ConfigError(
            f"mix: {len(mix.shares)} shares; the dataset was made of {len(dataset.source_sizes)} sources. "
            "Give a list of as many to e2eio.Dataset, or a mapping of conditions to shares"
        )
    return tuple(f"source {number}" for number in range(len(mix.shares)))


def _parts(dataset: Dataset, mix: Mix) -> list[NDArray[np.int64]]:
    if mix.conditions is None:
        ends = np.cumsum(dataset.source_sizes)
        return [
            np.arange(end - size, end, dtype=np.int64)
            for end, size in zip(ends, dataset.source_sizes, strict=True)
        ]
    taken = np.zeros(len(dataset), dtype=np.bool_)
    parts = []
    for text in mix.conditions:
        holds = holds_for(dataset, text, "mix")
        if np.any(taken & holds):
            raise ConfigError(
                f"mix: {text!r} holds for sample {np.flatnonzero(taken & holds)[0]}, and so does another "
                "condition; expected parts without common samples"
            )
        taken |= holds
        parts.append(np.flatnonzero(holds))
    return parts


def _weights(
    dataset: Dataset, ids: NDArray[np.int64] | None, weights: ArrayLike | Weights
) -> NDArray[np.uint64]:
    chosen = slice(None) if ids is None else ids
    if isinstance(weights, Weights):
        return integer_weights(weights.values(lambda name: dataset.scalars(name)[chosen]))
    values = np.asarray(weights)
    if values.shape != (len(dataset),) or values.dtype.kind not in "fiub":
        raise ConfigError(
            f"weights: found {values.dtype} {list(values.shape)}; expected one number for each of the "
            f"{len(dataset)} samples of the dataset, or what e2eio.sampling makes"
        )
    return integer_weights(values[chosen].astype(np.float64))


def integer_weights(weights: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return weights as integers up to 2^32: multiples of 2^-32 of the power of two above the largest one.

    What is above 0 stays above it. Exact operations only, so that all platforms agree.
    """
    if not np.all(np.isfinite(weights) & (weights >= 0)):
        wrong = weights[~(np.isfinite(weights) & (weights >= 0))][0]
        raise ConfigError(f"weights: found {wrong}; expected finite numbers of at least 0")
    largest = weights.max(initial=0.0)
    if largest == 0:
        raise ConfigError("weights: all are 0; expected one above it")
    _, exponent = np.frexp(largest)
    result = np.rint(np.ldexp(weights, 32 - int(exponent))).astype(np.uint64)
    result[(weights > 0) & (result == 0)] = 1
    return result


def _digest(values: NDArray[Any], dtype: str) -> str:
    stored = np.ascontiguousarray(values, dtype=dtype)
    return hashlib.blake2b(stored.data, digest_size=8).hexdigest()
