"""Channel names and units of the published image sets, and how to recognise the sets.

The order of channels is a convention of each producer and nowhere written in the files: Run-1
images (8 channels) have d0 before dz, Run-2 images (13 channels) dz before d0.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from e2eio.errors import ConfigError
from e2eio.schema import Channel

__all__ = [
    "EDGES",
    "IMAGE_COLUMNS",
    "KNOWN_SCALARS",
    "LABELS",
    "PRESETS",
    "Preset",
    "channel_unit",
    "find_preset",
    "recognise",
    "scalar_unit",
]

#: Names under which the published sets keep their images.
IMAGE_COLUMNS: Final = ("X_jets", "X_jet", "X", "jet", "all_jet")

#: Edges of the published jet images in pixels: 1, 3 and 5 pixels per ECAL crystal.
EDGES: Final = (125, 375, 625)

_CHANNEL_UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "track_pt": "GeV",
        "d0": "cm",
        "dz": "cm",
        "ecal": "GeV",
        "hcal": "GeV",
        **{f"bpix{layer}": "hits" for layer in (1, 2, 3, 4)},
        **{f"{part}{layer}": "hits" for part in ("tib", "tob") for layer in (1, 2)},
    }
)

# pt, m0, m: the jet's; apt, am: those of the parent particle of a tau pair.
_GEV_SCALARS: Final = frozenset({"pt", "jetpt", "m0", "m", "apt", "am"})

#: Names under which the published sets keep the class of a sample.
LABELS: Final = frozenset({"y", "Y", "label", "labels"})

#: Names of numbers that the published sets have once for each image.
KNOWN_SCALARS: Final = frozenset({*LABELS, *_GEV_SCALARS, "ieta", "iphi", "pdgId", "dR", "taudR"})


@dataclass(frozen=True, slots=True)
class Preset:
    """A published image set.

    Parameters
    ----------
    name : str
    channels : tuple of Channel
        In the order of the set.
    """

    name: str
    channels: tuple[Channel, ...]


def channel_unit(name: str) -> str:
    """Return the unit of a channel that some preset knows, else an empty text."""
    return _CHANNEL_UNITS.get(name, "")


def scalar_unit(name: str) -> str:
    """Return the unit of a scalar column of the published sets, else an empty text."""
    return "GeV" if name in _GEV_SCALARS else ""


def _preset(name: str, *channels: str) -> Preset:
    return Preset(name, tuple(Channel(channel, channel_unit(channel)) for channel in channels))


_RUN_1: Final = ("track_pt", "d0", "dz", "ecal", "hcal", "bpix1", "bpix2", "bpix3")
_RUN_2: Final = (
    *("track_pt", "dz", "d0", "ecal", "hcal", "bpix1", "bpix2", "bpix3", "bpix4"),
    *("tib1", "tib2", "tob1", "tob2"),
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            _preset("boosted-top", *_RUN_1),
            _preset("quark-gluon", "track_pt", "ecal", "hcal"),
            _preset("top-mass", *_RUN_1),
            _preset("tau", *_RUN_2),
            # Crystals of the ECAL barrel. The published files are scaled, so the numbers have no unit:
            # RHv1 holds energy and time of a hit, each divided by 50 (docs/importers/hdf5.md).
            _preset("electron-photon", "ecal_energy", "ecal_time"),
        )
    }
)


def find_preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises
    ------
    ConfigError
        There is none.

    Examples
    --------
    >>> [channel.name for channel in find_preset("quark-gluon").channels]
    ['track_pt', 'ecal', 'hcal']
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset: found {name!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def recognise(image: str, scalars: Collection[str], shape: tuple[int, int, int]) -> Preset | None:
    """Return the published set that a file belongs to, or None.

    Parameters
    ----------
    image : str
        Name of the image column.
    scalars : collection of str
        Names of the scalar columns.
    shape : tuple of int
        (C, H, W).

    Examples
    --------
    >>> recognise("X_jets", ("y", "m0", "pt"), (8, 375, 375)).name
    'boosted-top'
    >>> recognise("X", ("y",), (2, 32, 32)).name
    'electron-photon'
    >>> recognise("X_jets", ("y",), (5, 125, 125)) is None
    True
    """
    n_channels, height, width = shape
    if image == "X" and shape == (2, 32, 32):
        return PRESETS["electron-photon"]
    known = image in IMAGE_COLUMNS or image.endswith("_jet")
    if not known or height != width or height not in EDGES:
        return None
    if n_channels == 8:
        return PRESETS["top-mass" if image == "X_jet" and "m" in scalars else "boosted-top"]
    return {3: PRESETS["quark-gluon"], 13: PRESETS["tau"]}.get(n_channels)
