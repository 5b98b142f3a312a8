"""How jets and detectors become images: choices, and the arithmetic of windows on the detector.

Rows are eta, columns phi, which wraps. A jet's window is 125 x 125 crystals round the centre of an HCAL
tower, so its edges are edges of towers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from e2eio.detector_grid import (
    CRYSTALS,
    ETA_TOWERS,
    PHI_CRYSTALS,
    TOWER_CRYSTALS,
    TOWERS,
)
from e2eio.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

__all__ = ["FIRST_TOWER", "LAST_TOWER", "JetRecipe", "inside_barrel", "window", "window_index"]

#: Rows of towers that may be a jet's centre: its window then lies on the detector. Public code calls
#: them |ieta| <= 16.
FIRST_TOWER: Final = TOWERS // 2
LAST_TOWER: Final = ETA_TOWERS - 1 - TOWERS // 2

_CHOICES: Final = {
    "resolution": (1, 3, 5),
    "centre": ("hottest", "axis"),
    "impact": ("hardest", "mean"),
    "endcap": ("shared", "published", "kept"),
}


@dataclass(frozen=True, slots=True)
class JetRecipe:
    """How images are made of particle lists and of hits of the whole detector.

    Parameters
    ----------
    resolution : {1, 3, 5}
        Pixels per crystal edge: images of 125, 375 or 625 pixels.
    centre : {"hottest", "axis"}
        Of particle images: the most energetic HCAL tower of the 7 x 7 round the jet's axis, or the tower
        that the axis hits.
    impact : {"hardest", "mean"}
        d0 and dz of a pixel with several tracks: those of the track of highest pT, or the mean.
    endcap : {"shared", "published", "kept"}
        ECAL endcaps in hit images, 2 x 2 pixels at a time: their sum shared among the four; the same
        divided by 4 once more, as the public converters do; or left as they are.
    whole : bool
        Hit images of the whole detector, although there are jets.
    min_pt : float
        Jets of particle lists below it are left out (GeV).
    branches : mapping of str to str
        Branch of a channel of hit images, where the names do not tell; two as ``"index:value"``: a list
        of pixel numbers (row times columns plus column) and one of their values.

    Raises
    ------
    ConfigError
        A choice is none of these.

    Examples
    --------
    >>> JetRecipe.from_text("resolution=3,centre=axis").edge
    375
    """

    resolution: Literal[1, 3, 5] = 1
    centre: Literal["hottest", "axis"] = "hottest"
    impact: Literal["hardest", "mean"] = "hardest"
    endcap: Literal["shared", "published", "kept"] = "shared"
    whole: bool = False
    min_pt: float = 0.0
    branches: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"wrong recipe: {name}: found {getattr(self, name)!r}, expected one of "
                    f"{', '.join(map(str, choices))}"
                )
        if not 0 <= self.min_pt < float("inf"):
            raise ConfigError(f"wrong recipe: min_pt: found {self.min_pt!r}, expected at least 0")

    @property
    def edge(self) -> int:
        """Pixels along the edge of a jet image."""
        return CRYSTALS * self.resolution

    @classmethod
    def from_text(cls, text: str) -> JetRecipe:
        """Return the recipe that a text spells out: choices and branches, each ``NAME=VALUE``.

        Parameters
        ----------
        text : str
            Separated by commas; a name that is no choice is a channel. Empty: the defaults.

        Raises
        ------
        ConfigError
            A name or a value is not valid.

        Examples
        --------
        >>> recipe = JetRecipe.from_text("resolution=3,impact=mean,ecal=EB_index:EB_energy")
        >>> recipe.resolution, recipe.impact, recipe.branches
        (3, 'mean', {'ecal': 'EB_index:EB_energy'})
        """
        given: dict[str, Any] = {}
        branches: dict[str, str] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, equals, value = part.partition("=")
            if not equals or not name or not value:
                raise ConfigError(f"wrong recipe: found {part!r}, expected NAME=VALUE")
            if name in _READERS:
                given[name] = _read(name, value)
            else:
                branches[name] = value
        return cls(**given, branches=branches)


def _switch(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


_READERS: Final = {
    "resolution": int,
    "centre": str,
    "impact": str,
    "endcap": str,
    "whole": _switch,
    "min_pt": float,
}


def _read(name: str, value: str) -> Any:
    try:
        return _READERS[name](value)  # type: ignore[operator]
    except (ValueError, KeyError):
        raise ConfigError(f"wrong recipe: {name}: found {value!r}") from None


def inside_barrel(tower_row: Ints) -> NDArray[np.bool_]:
    """Return which towers may be the centre of a jet image."""
    return (tower_row >= FIRST_TOWER) & (tower_row <= LAST_TOWER)


def window(tower_row: Ints, tower_column: Ints) -> tuple[Ints, Ints]:
    """Return the first row and column, in crystals, of the windows round towers.

    The centre of tower i is crystal 5 i + 2, and 62 crystals lie on each side of it.
    """
    first = TOWER_CRYSTALS // 2 - CRYSTALS // 2
    return (
        TOWER_CRYSTALS * tower_row + first,
        (TOWER_CRYSTALS * tower_column + first) % PHI_CRYSTALS,
    )


def window_index(top: int, left: int, edge: int, n_columns: int) -> tuple[slice, Ints]:
    """Return the rows and the columns, wrapped, of a square window with its corner at (top, left)."""
    return slice(top, top + edge), np.arange(left, left + edge) % n_columns
