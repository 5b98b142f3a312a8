"""Transforms that imitate a detector: its resolution, dead cells, missing channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from e2eio.errors import ConfigError
from e2eio.transforms.arguments import (
    PerChannel,
    checked_channels,
    checked_integer,
    checked_number,
    checked_per_channel,
    checked_probability,
    checked_same_channels,
)
from e2eio.transforms.granularity import cell_edge
from e2eio.transforms.target import (
    ChannelTuple,
    ImageTarget,
    SpecTuple,
    Transform,
    channel_tuples,
    selected,
    set_fields,
)

__all__ = ["ChannelDropout", "DeadCells", "EnergySmear"]


@dataclass(frozen=True)
class ChannelDropout(Transform):
    """Set whole channels to zero, each on its own.

    Parameters
    ----------
    p : float
        Probability per channel, sample and epoch.
    channels : sequence of str or None
        Those that may be dropped; None: all.
    """

    p: float
    channels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        checked_probability("p", self.p)
        set_fields(self, channels=checked_channels("channels", self.channels))

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        return [
            ("drop_channel", number, self.p, channel_tuples(target, channels=self.channels), [])
        ]


@dataclass(frozen=True)
class EnergySmear(Transform):
    """Smear energies with a calorimeter's resolution, one draw per readout cell, sample and epoch.

    ``E -> E + sigma(E) * normal`` with ``sigma^2 = (stochastic * sqrt(E))^2 + (constant * E)^2 + noise^2``
    (R. Wigmans, Calorimetry, 2nd ed., 2017, chapter 4), for finite E > 0. E is the energy of the whole cell, cell^2
    times the pixel, as an HCAL tower's energy is spread evenly over its pixels. Computed in float64. The normal
    draw is Box and Muller's.

    Parameters
    ----------
    stochastic, constant, noise : float or {channel: float}
        In sqrt(GeV), as a fraction, and in GeV; 0 or more. With numbers, all delivered channels are
        smeared: name the calorimeters.
    cell : int or {channel: int}, or None
        Edge of a readout cell in pixels. None: hcal 5 (15 at x3), ecal 1 (3), others 1.
    clip_at_zero : bool
        What falls below zero becomes zero.

    Examples
    --------
    ECAL as in test beams, 2.8 %/sqrt(E) (+) 0.3 % (CMS detector paper, JINST 3 (2008) S08004), HCAL about 100 %/sqrt(E):

    >>> smear = EnergySmear(
    ...     stochastic={"ecal": 0.028, "hcal": 1.0}, constant={"ecal": 0.003, "hcal": 0.0}
    ... )
    """

    stochastic: PerChannel = 0.0
    constant: PerChannel = 0.0
    noise: PerChannel = 0.0
    cell: int | Mapping[str, int] | None = None
    clip_at_zero: bool = True

    def __post_init__(self) -> None:
        for name in ("stochastic", "constant", "noise"):
            value = checked_per_channel(name, getattr(self, name))
            numbers = value.values() if isinstance(value, Mapping) else (value,)
            if min(numbers) < 0:
                raise ConfigError(f"{name} is {value!r}; expected 0 or more")
            set_fields(self, **{name: value})
        checked_same_channels(
            "stochastic, constant and noise", self.stochastic, self.constant, self.noise
        )
        set_fields(self, cell=_checked_cell(self.cell))
        if not isinstance(self.clip_at_zero, bool):
            raise ConfigError(f"clip_at_zero is {self.clip_at_zero!r}; expected True or False")

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        channels = channel_tuples(target, self.stochastic, self.constant, self.noise)
        with_cells = _with_cells(target, channels, self.cell)
        return [("smear", number, 1.0, with_cells, [int(self.clip_at_zero)])]


@dataclass(frozen=True)
class DeadCells(Transform):
    """Set readout cells to zero: each with a probability, or those listed.

    Parameters
    ----------
    p : float or None
        Probability per cell, sample and epoch.
    cells : {channel: sequence of (row, column)} or None
        In its place: the cells that are dead in every sample, counted in cells.
    channels : sequence of str or None
        With `p`: those that have dead cells; None: all.
    cell : int or {channel: int}, or None
        Edge of a readout cell in pixels. None: hcal 5 (15 at x3), ecal 1 (3), others 1.

    Examples
    --------
    >>> DeadCells(0.01, channels=("ecal", "hcal"))
    DeadCells(p=0.01, cells=None, channels=('ecal', 'hcal'), cell=None)
    >>> towers = DeadCells(cells={"hcal": [(12, 12), (12, 13)]})
    """

    p: float | None = None
    cells: Mapping[str, Sequence[tuple[int, int]]] | None = None
    channels: Sequence[str] | None = None
    cell: int | Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        if (self.p is None) == (self.cells is None):
            raise ConfigError(f"p is {self.p!r} and cells {self.cells!r}; expected one of them")
        if self.p is not None:
            checked_probability("p", self.p)
        if self.cells is not None and self.channels is not None:
            raise ConfigError("channels is given with cells; expected the names in cells alone")
        if self.cells is not None:
            set_fields(self, cells=_checked_cells(self.cells))
        set_fields(self, channels=checked_channels("channels", self.channels))
        set_fields(self, cell=_checked_cell(self.cell))

    def compile(self, target: ImageTarget, number: int) -> list[SpecTuple]:
        """Return the core's specs."""
        if self.p is not None:
            channels = channel_tuples(target, channels=self.channels)
            with_cells = _with_cells(target, channels, self.cell)
            return [("dead_cells", number, self.p, with_cells, [])]
        specs: list[SpecTuple] = []
        for name, places in (self.cells or {}).items():
            listed = [coordinate for place in places for coordinate in place]
            for place in selected(target, (name,)):
                with_cells = _with_cells(target, [(place, 0.0, 0.0, 0.0, 1)], self.cell)
                specs.append(("dead_list", number, 1.0, with_cells, listed))
        return specs


def _checked_cell(cell: object) -> int | dict[str, int] | None:
    if cell is None:
        return None
    if isinstance(cell, Mapping):
        return {
            name: checked_integer(f"cell[{name!r}]", edge, 1, 65_535) for name, edge in cell.items()
        }
    return checked_integer("cell", cell, 1, 65_535)


def _checked_cells(cells: object) -> dict[str, tuple[tuple[int, int], ...]]:
    if not isinstance(cells, Mapping) or not cells:
        raise ConfigError(f"cells is {cells!r}; expected lists of (row, column) by channel name")
    checked: dict[str, tuple[tuple[int, int], ...]] = {}
    for name, places in cells.items():
        for place in places:
            if len(place) != 2:
                raise ConfigError(f"cells[{name!r}] holds {place!r}; expected (row, column)")
            for coordinate in place:
                checked_number(f"cells[{name!r}]", coordinate)
                checked_integer(f"cells[{name!r}]", coordinate, 0, 65_535)
        checked[name] = tuple((place[0], place[1]) for place in places)
    return checked


def _with_cells(
    target: ImageTarget, channels: list[ChannelTuple], cell: int | Mapping[str, int] | None
) -> list[ChannelTuple]:
    if isinstance(cell, Mapping):
        for name in cell:
            target.place(name)
    found = []
    for place, a, b, c, _ in channels:
        name = target.names[place]
        edge = cell.get(name) if isinstance(cell, Mapping) else cell
        found.append((place, a, b, c, cell_edge(target, name) if edge is None else edge))
    return found
