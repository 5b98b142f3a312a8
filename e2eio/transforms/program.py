"""A loader's transforms and resolution, compiled for its dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from e2eio.errors import ConfigError
from e2eio.manifest import ChannelStatistics
from e2eio.schema import Schema
from e2eio.transforms.granularity import (
    change_of_granularity,
    checked_resolution,
    granularity_of,
)
from e2eio.transforms.target import ImageTarget, SpecTuple, Transform

__all__ = ["compile_transforms", "transform_key", "transforms_text"]


def transform_key(seed: int) -> int:
    """Return the key of all random draws of transforms: a function of the seed alone."""
    text = f"e2eio-transforms-1\n{seed}\n"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def transforms_text(transforms: Sequence[Transform], specs: Sequence[SpecTuple]) -> str:
    """Return names, and a digest of what the core does: the change of resolution too. Equal texts, equal images."""
    names = ", ".join(type(transform).__name__ for transform in transforms)
    text = json.dumps(specs, default=float)
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return f"{names} ({digest})" if specs else "none"


def compile_transforms(
    transforms: Sequence[Transform],
    resolution: int | str | None,
    *,
    schema: Schema,
    delivered: Sequence[int],
    statistics: tuple[ChannelStatistics, ...] | None,
    n_samples: int,
) -> list[SpecTuple]:
    """Return what the core does to each image, the change of resolution first.

    Parameters
    ----------
    transforms : sequence of Transform
        In the order in which they are applied.
    resolution : {None, 1, 3, "x1", "x3"}
        Pixels per ECAL crystal, in each direction; None: as stored.
    schema, statistics, n_samples
        Of the dataset; `statistics` None if unknown.
    delivered : sequence of int
        Channels of the schema.

    Raises
    ------
    ConfigError
        Something is no transform, or does not fit the dataset.
    """
    wanted = checked_resolution(resolution)
    specs = change_of_granularity(schema, delivered, wanted)
    stored = granularity_of(schema)
    target = ImageTarget(schema, tuple(delivered), statistics, n_samples, wanted or stored, stored)
    for number, transform in enumerate(_checked(transforms)):
        specs += transform.compile(target, number)
    return specs


def _checked(transforms: Sequence[Transform]) -> tuple[Transform, ...]:
    if isinstance(transforms, Transform):
        raise ConfigError(
            f"transforms is {transforms!r}; expected a sequence, as in ({transforms!r},)"
        )
    try:
        found = tuple(transforms)
    except TypeError:
        raise ConfigError(
            f"transforms is {transforms!r}; expected a sequence of transforms"
        ) from None
    for transform in found:
        if not isinstance(transform, Transform):
            raise ConfigError(
                f"transforms holds {transform!r}; expected transforms of e2eio.transforms "
                "(unpack a preset: (*preset('top-mass'), ...))"
            )
    return found
