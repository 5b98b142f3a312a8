"""Where the pixels of an image lie in the detector, for axes and for the upsampling of calorimeters.

Sources of the numbers: the code that makes the field's images (MLAnalyzer, RecHitAnalyzer and
hdf5_conversion_loop): one pixel per ECAL crystal of 0.0174 in eta and phi ("x1": 125 x 125 pixels),
3 x 3 pixels per crystal ("x3": 375 x 375, 0.0058), 5 x 5 ("x5": 625 x 625); a HCAL tower is 5 x 5 crystals, and
the crop is aligned to towers. A whole detector is 280 x 360 crystals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CRYSTAL_RAD", "TOWER_CRYSTALS", "Axes", "granularity", "image_axes", "native_block"]

#: Size of an ECAL barrel crystal in eta, and in phi (radians).
CRYSTAL_RAD: Final = 0.0174

#: Edge of a HCAL barrel tower in crystals.
TOWER_CRYSTALS: Final = 5

_JET_CRYSTALS: Final = 125
_DETECTOR: Final = (280, 360)
_CROP: Final = (32, 32)


@dataclass(frozen=True, slots=True)
class Axes:
    """Axes of an image: rows go up, columns to the right.

    Parameters
    ----------
    x, y : str
        Titles, with the unit.
    extent : tuple of float
        Left, right, bottom and top edge of the image, in the unit of the axes.
    """

    x: str
    y: str
    extent: tuple[float, float, float, float]


def granularity(height: int, width: int) -> int | None:
    """Return how many pixels a crystal has in each direction; None: not an image of crystals that is known.

    Examples
    --------
    >>> granularity(125, 125), granularity(375, 375), granularity(280, 360), granularity(100, 100)
    (1, 3, 1, None)
    """
    if height == width and height in (_JET_CRYSTALS, 3 * _JET_CRYSTALS, 5 * _JET_CRYSTALS):
        return height // _JET_CRYSTALS
    return 1 if (height, width) == _DETECTOR else None


def image_axes(height: int, width: int) -> Axes:
    """Return the axes of an image of [height, width] pixels.

    Jet images have relative eta and phi from the centre of the image; crystals (32 x 32 and the whole detector, whose endcaps
    have no constant step in eta) have crystal numbers; anything else has pixel numbers.

    Examples
    --------
    >>> axes = image_axes(375, 375)
    >>> axes.y, round(axes.extent[3], 4)
    ('relative eta', 1.0875)
    >>> image_axes(32, 32).extent
    (-0.5, 31.5, -0.5, 31.5)
    """
    cells = granularity(height, width)
    if cells is not None and (height, width) != _DETECTOR:
        half = height * CRYSTAL_RAD / cells / 2
        return Axes("relative phi [rad]", "relative eta", (-half, half, -half, half))
    extent = (-0.5, width - 0.5, -0.5, height - 0.5)
    if (height, width) == _DETECTOR:
        return Axes("iphi [crystals]", "ieta [crystals]", extent)
    if (height, width) == _CROP:
        return Axes("relative iphi [crystals]", "relative ieta [crystals]", extent)
    return Axes("column [pixels]", "row [pixels]", extent)


def native_block(channel: str, height: int, width: int) -> int:
    """Return the edge of the blocks of equal pixels that upsampling makes of a calorimeter's cells; 1: none expected.

    Examples
    --------
    >>> native_block("hcal", 125, 125), native_block("hcal", 375, 375), native_block("ecal", 375, 375)
    (5, 15, 3)
    >>> native_block("track_pt", 375, 375), native_block("hcal", 32, 32)
    (1, 1)
    """
    cells = granularity(height, width)
    if cells is None:
        return 1
    return {"hcal": TOWER_CRYSTALS * cells, "ecal": cells}.get(channel.lower(), 1)
