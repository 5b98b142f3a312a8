"""Granularity of images: pixels per ECAL crystal, and what a change of it does to each channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from e2eio.errors import ConfigError
from e2eio.schema import Channel, Schema
from e2eio.transforms.target import ImageTarget, SpecTuple

__all__ = ["cell_edge", "change_of_granularity", "checked_resolution", "granularity_of"]

# Of x1 images: jets (25 x 25 HCAL towers of 5 x 5 crystals), and the whole detector (170 rows of EB, 55 of
# each EE; 360 crystals in phi).
_X1_SHAPES: Final = ((125, 125), (280, 360))
_GRANULARITIES: Final = (1, 3, 5)

# HCAL towers cover 5 x 5 ECAL crystals (JINST 3 (2008) S08004, section 5).
_CRYSTALS_PER_CELL: Final = {"ecal": 1, "hcal": 5}

_ENERGY, _POINT, _MEAN = 0, 1, 2  # ChannelRole of cpp/e2eio/transform/transform_spec.hpp
_RULES: Final = {"GeV": _ENERGY, "hits": _POINT, "cm": _MEAN}
_TRACKS: Final = "track"


def granularity_of(schema: Schema) -> int | None:
    """Return 1, 3 or 5 pixels per crystal for the shapes in use, else None.

    Examples
    --------
    >>> from e2eio.schema import Channel, ImageField
    >>> granularity_of(Schema(ImageField("X", (Channel("ecal", "GeV"),), 375, 375)))
    3
    """
    _, height, width = schema.image.shape
    for granularity in _GRANULARITIES:
        if (height / granularity, width / granularity) in _X1_SHAPES:
            return granularity
    return None


def checked_resolution(resolution: int | str | None) -> int | None:
    """Return 1, 3 or None; ``"x1"`` and ``"x3"`` are the same."""
    if isinstance(resolution, str) and resolution in ("x1", "x3"):
        return int(resolution[1])
    if resolution is None or (resolution in (1, 3) and not isinstance(resolution, bool | float)):
        return resolution
    raise ConfigError(f"resolution is {resolution!r}; expected None, 1, 3, 'x1' or 'x3'")


def change_of_granularity(
    schema: Schema, delivered: Sequence[int], resolution: int | None
) -> list[SpecTuple]:
    """Return the core's specs that bring the stored images to a granularity.

    The unit of a channel says what its pixels are: ``GeV`` an energy, spread evenly over pixels and summed
    (but not tracks, whose pT has a place); ``hits`` and pT of tracks, put into the centre pixel and summed;
    ``cm`` (d0, dz), put into the centre pixel and averaged over the pixels that have one.

    Raises
    ------
    ConfigError
        The granularity of the images is not known or not 1 or 3, or a channel has another unit.
    """
    stored = granularity_of(schema)
    if resolution is None or resolution == stored:
        return []
    if stored not in (1, 3):
        _, height, width = schema.image.shape
        known = "125 x 125 or 280 x 360 (x1), 375 x 375 or 840 x 1080 (x3)"
        raise ConfigError(
            f"resolution is {resolution} and the images are {height} x {width}; expected {known}: "
            "the granularity of others is not known"
        )
    op = "refine" if resolution > stored else "coarsen"
    roles = [_role(schema.image.channels[channel]) for channel in delivered]
    channels = [(place, float(role), 0.0, 0.0, 1) for place, role in enumerate(roles)]
    return [(op, 0, 1.0, channels, [])]


def cell_edge(target: ImageTarget, name: str) -> int:
    """Return the edge of a channel's readout cell in delivered pixels."""
    if name not in _CRYSTALS_PER_CELL:
        return 1
    if target.granularity is None:
        _, height, width = target.schema.image.shape
        raise ConfigError(
            f"readout cells of {name!r}: the granularity of images of {height} x {width} is not known; "
            f"give cell={{{name!r}: pixels}}"
        )
    return _CRYSTALS_PER_CELL[name] * target.granularity


def _role(channel: Channel) -> int:
    if channel.unit not in _RULES:
        raise ConfigError(
            f"resolution: channel {channel.name!r} has the unit {channel.unit!r}; expected "
            f"{', '.join(map(repr, _RULES))}, which say how its pixels add up; leave the channel out "
            "by channels=, or name the unit when you write the dataset"
        )
    if channel.name.startswith(_TRACKS) and _RULES[channel.unit] == _ENERGY:
        return _POINT
    return _RULES[channel.unit]
