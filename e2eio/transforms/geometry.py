"""Transforms of image geometry. Rows are eta, columns phi; all channels move together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from e2eio.errors import ConfigError
from e2eio.transforms.arguments import (
    checked_channels,
    checked_choice,
    checked_integer,
    checked_probability,
)
from e2eio.transforms.target import ImageTarget, SpecTuple, Transform, channel_tuples, set_fields

__all__ = ["Crop", "FlipEta", "Pad", "RollPhi", "Rot90"]

_MAX_EDGE = 65_535
#: Signed along the beam axis: a mirror image has them with the other sign.
_ODD_IN_ETA = ("dz",)


def _random(place: str) -> int:
    return int(place == "random")


@dataclass(frozen=True)
class FlipEta(Transform):
    """Mirror the rows: eta -> -eta, and with it z -> -z.

    The mirror image of an event is an event: dz, a position along the beam, changes sign with it, while d0,
    the distance in the transverse plane, does not, and the field along the beam is the same. (A mirror in phi
    would need the other field, so there is none.)

    Parameters
    ----------
    p : float
        Probability per sample and epoch.
    negate : sequence of str or None
        Channels whose non-zero pixels change sign. None: ``dz`` where there is one; ``()``: none.
    """

    p: float = 0.5
    negate: Sequence[str] | None = None

    def __post_init__(self) -> None:
        set_fields(self, p=checked_probability("p", self.p))
        set_fields(self, negate=checked_channels("negate", self.negate))

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        names = self.negate
        if names is None:
            names = [name for name in _ODD_IN_ETA if name in target.names]
        return [("flip_eta", number, self.p, channel_tuples(target, channels=names), [])]


@dataclass(frozen=True)
class RollPhi(Transform):
    """Move the columns; what leaves on one side comes in on the other.

    Right for images of the whole detector (360 columns), whose phi is periodic. A jet's window is not: there, prefer
    `Pad` and a random `Crop`.

    Parameters
    ----------
    max_shift : int or None
        Shifts are uniform in [-max_shift, max_shift], in pixels. None: half the width that the image has here, if
        `amount` is not given.
    amount : int or None
        In its place: one shift for all, to the right.
    p : float
        Probability per sample and epoch.
    step : int
        Random shifts are multiples of it. With 5 pixels at x1 (15 at x3) HCAL towers stay on their grid, and stay
        cheap.
    """

    max_shift: int | None = None
    amount: int | None = None
    p: float = 1.0
    step: int = 1

    def __post_init__(self) -> None:
        checked_probability("p", self.p)
        checked_integer("step", self.step, 1, _MAX_EDGE)
        if self.amount is not None:
            checked_integer("amount", self.amount, -_MAX_EDGE, _MAX_EDGE)
            if self.max_shift is not None or self.step != 1:
                raise ConfigError("amount is given with max_shift or step; expected it alone")
        if self.max_shift is not None:
            checked_integer("max_shift", self.max_shift, 0, _MAX_EDGE)

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        if self.amount is not None:
            return [("roll_phi", number, self.p, [], [self.amount, self.amount, 1])]
        if self.max_shift is None:  # the core knows how wide the image is here
            return [("roll_phi", number, self.p, [], [self.step])]
        steps = self.max_shift // self.step
        return [("roll_phi", number, self.p, [], [-steps, steps, self.step])]


@dataclass(frozen=True)
class Rot90(Transform):
    """Turn by quarters, counterclockwise, as ``numpy.rot90``. No symmetry of the detector.

    Parameters
    ----------
    turns : {0, 1, 2, 3} or "random"
        "random": each as likely; images must be square then.
    p : float
        Probability per sample and epoch.
    """

    turns: int | Literal["random"] = "random"
    p: float = 1.0

    def __post_init__(self) -> None:
        checked_probability("p", self.p)
        if self.turns != "random":
            checked_integer("turns", self.turns, 0, 3)

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        bounds = [0, 3] if self.turns == "random" else [self.turns, self.turns]
        return [("rot90", number, self.p, [], bounds)]


@dataclass(frozen=True)
class Crop(Transform):
    """Cut a window out.

    Parameters
    ----------
    height, width : int
        Of the window, in pixels, at most the image's.
    place : {"centre", "random"}
        "centre": as many pixels are lost on both sides, or one less above and on the left. "random": each
        place as likely, for each sample and epoch anew.
    """

    height: int
    width: int
    place: Literal["centre", "random"] = "centre"

    def __post_init__(self) -> None:
        checked_integer("height", self.height, 1, _MAX_EDGE)
        checked_integer("width", self.width, 1, _MAX_EDGE)
        checked_choice("place", self.place, ("centre", "random"))

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        return [("crop", number, 1.0, [], [self.height, self.width, _random(self.place)])]


@dataclass(frozen=True)
class Pad(Transform):
    """Put the image into a larger one of zeros.

    Parameters
    ----------
    height, width : int
        Of the larger one, in pixels, at least the image's.
    place : {"centre", "random"}
        Where in it. "centre": as many zeros on both sides, or one less above and on the left.

    Examples
    --------
    A random shift by up to 5 pixels of an image of 125 x 125:

    >>> Pad(135, 135), Crop(125, 125, "random")
    (Pad(height=135, width=135, place='centre'), Crop(height=125, width=125, place='random'))
    """

    height: int
    width: int
    place: Literal["centre", "random"] = "centre"

    def __post_init__(self) -> None:
        checked_integer("height", self.height, 1, _MAX_EDGE)
        checked_integer("width", self.width, 1, _MAX_EDGE)
        checked_choice("place", self.place, ("centre", "random"))

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        return [("pad", number, 1.0, [], [self.height, self.width, _random(self.place)])]
