"""Arguments of transforms, checked when the transform is made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from e2eio.errors import ConfigError
from e2eio.integers import as_integer

__all__ = [
    "PerChannel",
    "check_order",
    "checked_channels",
    "checked_choice",
    "checked_integer",
    "checked_number",
    "checked_per_channel",
    "checked_probability",
    "checked_same_channels",
]

#: A number for all delivered channels, or one for each channel named.
PerChannel = float | Mapping[str, float]

_LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127


def checked_number(name: str, value: object, *, above: float | None = None) -> float:
    """Return a finite float32 number, above a bound."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name} is {value!r}; expected a number")
    number = float(value)
    if not math.isfinite(number) or abs(number) > _LARGEST_FLOAT32:
        raise ConfigError(f"{name} is {value!r}; expected a finite float32 number")
    # What float32 rounds to zero is zero in the core.
    if above is not None and not (number > above and (above != 0 or number >= 2.0**-149)):
        raise ConfigError(f"{name} is {value!r}; expected a number above {above:g}")
    return number


def checked_per_channel(
    name: str, value: object, *, above: float | None = None
) -> float | dict[str, float]:
    """Return a number, or a dict of numbers by channel name."""
    if not isinstance(value, Mapping):
        return checked_number(name, value, above=above)
    if not value:
        raise ConfigError(f"{name} is an empty mapping; expected a number for at least one channel")
    for channel in value:
        if not isinstance(channel, str):
            raise ConfigError(f"{name} has the key {channel!r}; expected the name of a channel")
    return {
        channel: checked_number(f"{name}[{channel!r}]", number, above=above)
        for channel, number in value.items()
    }


def checked_same_channels(what: str, *values: float | Mapping[str, float]) -> None:
    """Refuse mappings that name different channels."""
    keys = [set(value) for value in values if isinstance(value, Mapping)]
    if any(names != keys[0] for names in keys):
        raise ConfigError(
            f"{what} name different channels: {' and '.join(str(sorted(k)) for k in keys)}; "
            "expected the same ones"
        )


def checked_channels(name: str, value: object) -> tuple[str, ...] | None:
    """Return names of channels, each once; None: all channels."""
    if value is None:
        return None
    if (
        isinstance(value, str)
        or not isinstance(value, Iterable)
        or not all(isinstance(channel, str) for channel in value)
    ):
        raise ConfigError(f"{name} is {value!r}; expected a sequence of channel names, or None")
    if len(set(value)) != len(tuple(value)):
        raise ConfigError(f"{name} is {value!r}; expected each channel once")
    return tuple(value)


def checked_probability(name: str, value: object) -> float:
    """Return a number from 0 to 1."""
    number = checked_number(name, value)
    if not 0 <= number <= 1:
        raise ConfigError(f"{name} is {value!r}; expected a probability from 0 to 1")
    return number


def checked_integer(name: str, value: object, least: int, most: int) -> int:
    """Return an integer within bounds."""
    number = as_integer(value)
    if number is None or not least <= number <= most:
        raise ConfigError(f"{name} is {value!r}; expected an integer from {least} to {most}")
    return number


def checked_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return one of the names."""
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}")
    return value


def check_order(
    low: str, high: str, lower: PerChannel, upper: PerChannel, *, strict: bool = False
) -> None:
    """Refuse bounds of which the lower one is, in float32, above the upper one (or, strictly, equal)."""
    checked_same_channels(f"{low} and {high}", lower, upper)
    keys = next((list(v) for v in (lower, upper) if isinstance(v, Mapping)), [""])
    for key in keys:
        a, b = (np.float32(v[key] if isinstance(v, Mapping) else v) for v in (lower, upper))
        if a > b or (strict and not a < b):
            where = f" of channel {key!r}" if key else ""
            raise ConfigError(
                f"{low}{where} is {a:g} and {high} {b:g}; expected {low} below {high}"
            )
