"""What the pixels of a channel are, as far as name and unit tell."""

from __future__ import annotations

from typing import Final, Literal

from e2eio.schema import Channel

__all__ = ["Kind", "channel_kind", "is_signed"]

#: Of the pixels of a channel: energies, signed lengths of tracks, counts of hits, or something else.
Kind = Literal["energy", "length", "hits", "other"]

_ENERGY_UNITS: Final = ("ev", "kev", "mev", "gev", "tev")
_LENGTH_UNITS: Final = ("um", "mm", "cm", "m")
_HIT_UNITS: Final = ("hit", "hits", "count", "counts")


def channel_kind(channel: Channel) -> Kind:
    """Return what the pixels of the channel are; only a unit makes a number an energy.

    A data set that was scaled should carry no unit, and no rule for energies is applied to it.

    Examples
    --------
    >>> channel_kind(Channel("ecal", "GeV")), channel_kind(Channel("d0", "cm"))
    ('energy', 'length')
    >>> channel_kind(Channel("time"))
    'other'
    """
    unit = channel.unit.strip().lower()
    if unit in _ENERGY_UNITS:
        return "energy"
    if unit in _LENGTH_UNITS:
        return "length"
    return "hits" if unit in _HIT_UNITS else "other"


def is_signed(channel: Channel, minimum: float | None) -> bool:
    """Say whether values of both signs are to be shown: lengths always, others if one is negative.

    Parameters
    ----------
    channel : Channel
    minimum : float or None
        The least value of the channel, in its unit; None: not known.
    """
    kind = channel_kind(channel)
    return kind == "length" or (kind == "other" and minimum is not None and minimum < 0)
