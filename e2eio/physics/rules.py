"""What is looked for in every pixel and every sample: pure functions on chunks, and what counts their answers.

Each limit names its source; docs/tools.md repeats them for users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.physics.channels import channel_kind
from e2eio.physics.findings import Tally
from e2eio.physics.geometry import native_block
from e2eio.schema import Channel, ImageField, ScalarField

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.summary import Chunk

__all__ = [
    "BEAM_GEV",
    "CUT_CM",
    "PIXEL_RULES",
    "TRACKER_CM",
    "Blocks",
    "PixelRule",
    "Pixels",
    "Scalars",
    "gev",
    "unequal_blocks",
]

#: |d0| and |dz| that training code of the field keeps (top-mass and tau scalings: 0.1 and 0.05 per cm, clipped at 1).
#: Tracks of real events go to 18 and 66 cm.
CUT_CM: Final[Mapping[str, float]] = MappingProxyType({"d0": 10.0, "dz": 20.0})

#: Beyond the tracker (radius 1.2 m, half length 2.8 m) there is no track to measure: JINST 3 (2008) S08004, chapter 3.
TRACKER_CM: Final[Mapping[str, float]] = MappingProxyType({"d0": 120.0, "dz": 280.0})

#: More energy than a proton of the LHC has (design, 7 TeV) cannot be in one pixel.
BEAM_GEV: Final = 7000.0

_GEV: Final[Mapping[str, float]] = MappingProxyType(
    {"ev": 1e-9, "kev": 1e-6, "mev": 1e-3, "gev": 1.0, "tev": 1e3}
)
_CM: Final[Mapping[str, float]] = MappingProxyType({"um": 1e-4, "mm": 0.1, "cm": 1.0, "m": 100.0})


@dataclass(frozen=True, slots=True)
class PixelRule:
    """Something that pixels of some channels should not be.

    Parameters
    ----------
    name : str
    applies : callable
        Of a channel: whether the rule is about it.
    breaks : callable
        Of a channel and values float32 [m], none of them 0: which break the rule, bool [m].
    """

    name: str
    applies: Callable[[Channel], bool]
    breaks: Callable[[Channel, NDArray[np.float32]], NDArray[np.bool_]]


def _energy(channel: Channel) -> bool:
    return channel_kind(channel) == "energy"


def _hits(channel: Channel) -> bool:
    return channel_kind(channel) == "hits"


def _impact(channel: Channel) -> bool:
    return channel_kind(channel) == "length" and channel.name.lower() in CUT_CM


def _in_cm(channel: Channel, values: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.abs(values.astype(np.float64)) * _CM[channel.unit.strip().lower()]


def _beyond(limits: Mapping[str, float], channel: Channel, cm: NDArray[np.float64]) -> Any:
    return np.isfinite(cm) & (cm > limits[channel.name.lower()])


def gev(channel: Channel) -> float:
    """Return how many GeV the unit of a channel of energies is."""
    return _GEV[channel.unit.strip().lower()]


def _too_energetic(channel: Channel, values: NDArray[np.float32]) -> NDArray[np.bool_]:
    energies = values.astype(np.float64) * gev(channel)
    return np.isfinite(energies) & (energies > BEAM_GEV)


def _past_cut(channel: Channel, values: NDArray[np.float32]) -> NDArray[np.bool_]:
    cm = _in_cm(channel, values)
    found: NDArray[np.bool_] = _beyond(CUT_CM, channel, cm) & ~_beyond(TRACKER_CM, channel, cm)
    return found


#: Applied to every pixel that is not zero.
PIXEL_RULES: Final = (
    PixelRule("not-finite", lambda _: True, lambda _, values: ~np.isfinite(values)),
    PixelRule(
        "negative-energy",
        lambda channel: _energy(channel) or _hits(channel),
        lambda _, values: np.isfinite(values) & (values < 0),
    ),
    PixelRule("beyond-beam-energy", _energy, _too_energetic),
    PixelRule("track-tails", _impact, _past_cut),
    PixelRule(
        "outside-tracker",
        _impact,
        lambda channel, values: _beyond(TRACKER_CM, channel, _in_cm(channel, values)),
    ),
    PixelRule(
        "broken-hits", _hits, lambda _, values: np.isfinite(values) & (values != np.rint(values))
    ),
)


class Pixels:
    """Applies rules to the pixels of chunks, and finds samples without any pixel.

    Parameters
    ----------
    channels : sequence of Channel
    rules : sequence of PixelRule

    Attributes
    ----------
    tallies : dict
        Of (name of the rule, number of the channel).
    empty : Tally
    """

    def __init__(
        self, channels: Sequence[Channel], rules: Sequence[PixelRule] = PIXEL_RULES
    ) -> None:
        self._rules = [
            (rule, number, channel)
            for number, channel in enumerate(channels)
            for rule in rules
            if rule.applies(channel)
        ]
        self.tallies = {(rule.name, number): Tally() for rule, number, _ in self._rules}
        self.empty = Tally()

    def add(self, chunk: Chunk) -> None:
        """Take in the samples of a chunk."""
        self.empty.add(chunk.ids[chunk.counts.sum(axis=1) == 0])
        pixels: dict[int, tuple[NDArray[np.float32], NDArray[np.int64]]] = {}
        for rule, number, channel in self._rules:
            if number not in pixels:
                kept = np.flatnonzero(chunk.channel == number)
                pixels[number] = chunk.values[kept], chunk.sample[kept]
            values, sample = pixels[number]
            broken = rule.breaks(channel, values)
            if broken.any():
                found = np.abs(values[broken].astype(np.float64))
                worst = float(np.max(found, where=np.isfinite(found), initial=0.0))
                ids = chunk.ids[np.unique(sample[broken])]
                self.tallies[rule.name, number].add(ids, int(broken.sum()), worst)


def unequal_blocks(images: NDArray[np.float32], block: int) -> NDArray[np.bool_]:
    """Return which images [n, H, W] are not made of equal blocks of `block` x `block` pixels.

    Examples
    --------
    >>> towers = np.kron(np.ones((1, 2, 2), np.float32), np.ones((1, 5, 5), np.float32))
    >>> bool(unequal_blocks(towers, 5)[0])
    False
    """
    n, height, width = images.shape
    bits = np.ascontiguousarray(images).view(np.uint32)
    cells = bits.reshape(n, height // block, block, width // block, block)
    unequal: NDArray[np.bool_] = (cells != cells[:, :, :1, :, :1]).any(axis=(1, 2, 3, 4))
    return unequal


class Blocks:
    """Finds samples whose calorimeter images are not what upsampling makes.

    Parameters
    ----------
    image : ImageField

    Attributes
    ----------
    blocks : dict
        Of the number of each channel that is upsampled: edge of a cell in pixels.
    tallies : dict
        Of the number of the channel.
    """

    def __init__(self, image: ImageField) -> None:
        edges = {
            number: native_block(channel.name, image.height, image.width)
            for number, channel in enumerate(image.channels)
        }
        self.blocks = {number: edge for number, edge in edges.items() if edge > 1}
        self.tallies = {number: Tally() for number in self.blocks}

    def add(self, chunk: Chunk) -> None:
        """Take in the samples of a chunk."""
        _, height, width = chunk.shape
        for number, edge in self.blocks.items():
            kept = np.flatnonzero(chunk.channel == number)
            images = np.zeros((len(chunk.ids), height, width), dtype=np.float32)
            places = chunk.sample[kept] * height * width
            places += chunk.position[kept] - number * height * width
            images.reshape(-1)[places] = chunk.values[kept]
            self.tallies[number].add(chunk.ids[unequal_blocks(images, edge)])


class Scalars:
    """Finds samples whose scalars are not finite, or energies below zero.

    Parameters
    ----------
    fields : sequence of ScalarField

    Attributes
    ----------
    nonfinite, negative : dict
        Tally of each field's name.
    """

    def __init__(self, fields: Sequence[ScalarField]) -> None:
        self.nonfinite = {field.name: Tally() for field in fields}
        self.negative = {field.name: Tally() for field in fields if field.unit == "GeV"}

    def add(self, chunk: Chunk) -> None:
        """Take in the samples of a chunk."""
        for name, column in chunk.scalars.items():
            if column.dtype.kind == "f":
                self.nonfinite[name].add(chunk.ids[~np.isfinite(column)])
        for name, tally in self.negative.items():
            tally.add(chunk.ids[chunk.scalars[name] < 0])
