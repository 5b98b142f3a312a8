"""What transforms are compiled for, and what they compile to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from e2eio.errors import ConfigError
from e2eio.manifest import ChannelStatistics
from e2eio.schema import Schema

__all__ = [
    "ChannelTuple",
    "ImageTarget",
    "SpecTuple",
    "Transform",
    "channel_tuples",
    "selected",
    "set_fields",
]

#: (delivered channel, a, b, c, cell edge), as in cpp/e2eio/transform/transform_spec.hpp.
ChannelTuple = tuple[int, float, float, float, int]
#: (op, number of the transform, probability, channels, integers), as in the same file.
SpecTuple = tuple[str, int, float, list[ChannelTuple], list[int]]


@dataclass(frozen=True)
class ImageTarget:
    """The images that a loader delivers, before its transforms.

    Parameters
    ----------
    schema : Schema
        Of the dataset.
    delivered : tuple of int
        Channels of the schema, in the order delivered.
    statistics : tuple of ChannelStatistics or None
        Of all channels of the dataset, over the stored pixels; None where there is no ``dataset.json``.
    n_samples : int
        Samples of the dataset.
    granularity : int or None
        Pixels per ECAL crystal and direction, as delivered; None: not known.
    stored_granularity : int or None
        The same of the stored images.
    """

    schema: Schema
    delivered: tuple[int, ...]
    statistics: tuple[ChannelStatistics, ...] | None
    n_samples: int
    granularity: int | None
    stored_granularity: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the delivered channels."""
        return tuple(self.schema.channels[channel] for channel in self.delivered)

    def place(self, name: str) -> int | None:
        """Return where a channel is delivered, or None if it is not; refuse names the dataset lacks."""
        if name not in self.schema.channels:
            raise ConfigError(
                f"unknown channel in transforms: found {name!r}; "
                f"expected one of {', '.join(self.schema.channels)}"
            )
        return self.names.index(name) if name in self.names else None


class Transform(ABC):
    """One operation on images, run by the decoding threads.

    Transforms are frozen, compare and pickle by value, and their `repr` is Python that makes them again.
    """

    @abstractmethod
    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return what the core does for this transform, the `number`-th of the loader's.

        Raises
        ------
        ConfigError
            It does not fit the dataset.
        """


def selected(target: ImageTarget, channels: Sequence[str] | None) -> list[int]:
    """Return where the named channels are delivered; None: all of them."""
    if channels is None:
        return list(range(len(target.delivered)))
    places = [target.place(name) for name in channels]
    return [place for place in places if place is not None]


def channel_tuples(
    target: ImageTarget, *values: float | Mapping[str, float], channels: Iterable[str] | None = None
) -> list[ChannelTuple]:
    """Return the arguments of each delivered channel: numbers for all, mappings for those they name.

    Mappings that occur together name the same channels.
    """
    names = channels
    if names is None:
        names = next((value for value in values if isinstance(value, Mapping)), None)
    found = []
    for place in selected(target, None if names is None else tuple(names)):
        name = target.names[place]
        a, b, c = (
            float(value[name] if isinstance(value, Mapping) else value)
            for value in (*values, 0.0, 0.0, 0.0)[:3]
        )
        found.append((place, a, b, c, 1))
    return found


def set_fields(transform: Transform, **values: object) -> None:
    """Set checked arguments while a frozen transform is being made."""
    for name, value in values.items():
        object.__setattr__(transform, name, value)
