"""A loader's arguments: checked at the door, and turned into what the core takes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Literal

import numpy as np

from e2eio import _core
from e2eio.dataset import Dataset
from e2eio.distributed import share_of_cores
from e2eio.errors import ConfigError
from e2eio.integers import as_integer
from e2eio.transforms import Transform, compile_transforms, transform_key

__all__ = [
    "FORMS",
    "SAMPLE_ID",
    "at_least",
    "channel_indices",
    "checked_dtype",
    "checked_fields",
    "checked_flag",
    "checked_form",
    "checked_timeout",
    "core_options",
    "plan_key",
    "resolve_prefetch",
    "resolve_threads",
    "transform_options",
]

#: The field that every dataset has: the number of the sample.
SAMPLE_ID = "sample_id"

#: What a batch of images may be; "wire" is for consumers on a device.
FORMS = ("dense", "coo", "wire")

# What the core writes images as.
_DTYPES = ("float32", "float16", "bfloat16")

# Batches made ahead of need, at most: bursts of a consumer are seldom longer.
_MOST_PREFETCH = 8

# What 64 bits hold, with room to count up from there.
_MOST = 2**63 - 1


def core_options(dataset: Dataset, arguments: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    """Return what the core takes for a Loader's arguments, but for those about its order and its device.

    Raises
    ------
    ConfigError
        One is wrong.
    """
    limit, prefetch = arguments["memory_limit"], arguments["prefetch"]
    delivered = channel_indices(dataset, arguments["channels"])
    threads = resolve_threads(arguments["threads"])
    return {
        "channels": delivered,
        **transform_options(
            dataset,
            arguments["transforms"],
            arguments["resolution"],
            delivered,
            arguments["seed"],
        ),
        "dtype": arguments["dtype"],
        "writable": checked_flag("writable", arguments["writable"]),
        "verify": checked_flag("verify", arguments["verify"]),
        "threads": threads,
        "auto_threads": arguments["threads"] == "auto",
        "prefetch": resolve_prefetch(prefetch, batch_size, threads),
        "auto_prefetch": prefetch == "auto",
        "memory_limit_bytes": 0 if limit is None else at_least(1, "memory_limit", limit),
    }


def checked_flag(name: str, value: object) -> bool:
    """Return a bool that is one, Python's or numpy's; strings and numbers are mistakes."""
    if not isinstance(value, bool | np.bool_):
        raise ConfigError(f"{name} is {value!r}; expected True or False")
    return bool(value)


def checked_dtype(dtype: object) -> str:
    """Return the name of a dtype that images come in."""
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; expected {', '.join(map(repr, _DTYPES))} (a text)")
    return dtype


def checked_form(form: str, layout: str) -> str:
    """Return a form that exists and goes with the layout."""
    if form not in FORMS:
        raise ConfigError(f"form is {form!r}; expected one of {', '.join(map(repr, FORMS))}")
    if form != "dense" and layout != "NCHW":
        raise ConfigError(
            f"layout is {layout!r} with form={form!r}; expected 'NCHW': lists of pixels have no layout, "
            "their coordinates are always (b, c, y, x)"
        )
    return form


def checked_timeout(timeout: object) -> float | None:
    """Return seconds above 0, or None."""
    if timeout is None:
        return None
    seconds = float(timeout) if isinstance(timeout, Real) else math.nan
    if isinstance(timeout, bool) or not seconds > 0:
        raise ConfigError(f"timeout is {timeout!r}; expected seconds above 0, or None")
    return seconds


def resolve_prefetch(prefetch: int | Literal["auto"], batch_size: int, threads: int) -> int:
    """Return how many batches are made ahead, at most: "auto" adapts below that.

    Of small batches more are needed for every thread to have four samples to work on.
    """
    if prefetch == "auto":
        return max(_MOST_PREFETCH, -(-4 * threads // batch_size))
    return at_least(1, "prefetch", prefetch)


def at_least(least: int, name: str, value: object, most: int | None = _MOST) -> int:
    """Return an integer, Python's or numpy's, that is no smaller than `least` and not above `most`."""
    number = as_integer(value)
    if number is None or number < least:
        raise ConfigError(f"{name} is {value!r}; expected an integer of at least {least}")
    if most is not None and number > most:
        raise ConfigError(f"{name} is {value!r}; expected an integer of at most {most}")
    return number


def resolve_threads(threads: int | Literal["auto"]) -> int:
    """Return the number of decoding threads; "auto" adapts up to a rank's equal share of the node's cores."""
    if threads == "auto":
        return share_of_cores(_core.usable_cores())
    return at_least(1, "threads", threads)


def plan_key(digest: str, seed: int, part: int | None = None) -> int:
    """Return the key of the permutations: a function of the samples and the seed, and of a mixture's part."""
    text = f"e2eio-plan-1\n{digest}\n{at_least(0, 'seed', seed, most=None)}\n"
    text += "" if part is None else f"part {part}\n"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def transform_options(
    dataset: Dataset,
    transforms: Sequence[Transform],
    resolution: int | str | None,
    delivered: Sequence[int],
    seed: int,
) -> dict[str, Any]:
    """Return what the core takes for the transforms and the resolution of the delivered channels."""
    specs = compile_transforms(
        transforms,
        resolution,
        schema=dataset.schema,
        delivered=delivered,
        statistics=dataset.statistics,
        n_samples=len(dataset),
    )
    return {"transforms": specs, "transform_key": transform_key(seed)}


def channel_indices(dataset: Dataset, channels: Sequence[str | int] | None) -> list[int]:
    """Return the numbers of the channels asked for, in that order."""
    names = dataset.channels
    if channels is None:
        return list(range(len(names)))
    if isinstance(channels, str):
        raise ConfigError(f"channels is {channels!r}; expected a sequence, as in [{channels!r}]")
    indices: list[int] = []
    for channel in channels:
        number = as_integer(channel)
        if isinstance(channel, str) and channel in names:
            indices.append(names.index(channel))
        elif number is not None and 0 <= number < len(names):
            indices.append(number)
        else:
            raise ConfigError(
                f"unknown channel: found {channel!r}; expected one of {', '.join(names)}, "
                f"or a number below {len(names)}"
            )
    if not indices or len(set(indices)) != len(indices):
        raise ConfigError(f"channels is {list(channels)!r}; expected at least one, each once")
    return indices


def checked_fields(dataset: Dataset, fields: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the fields to deliver, in order."""
    known = (*dataset.schema.field_names, SAMPLE_ID)
    if fields is None:
        return dataset.schema.field_names
    if isinstance(fields, str):
        raise ConfigError(f"fields is {fields!r}; expected a sequence, as in ({fields!r},)")
    for name in fields:
        if name not in known:
            raise ConfigError(f"unknown field: found {name!r}; expected one of {', '.join(known)}")
    if dataset.schema.image.name not in fields:
        raise ConfigError(
            f"no image field: found {tuple(fields)!r}; expected {dataset.schema.image.name!r} among them "
            "(Dataset.scalars reads scalar fields alone)"
        )
    return tuple(fields)
