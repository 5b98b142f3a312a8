"""What counts as an integer among arguments."""

from __future__ import annotations

import operator

__all__ = ["as_integer"]


def as_integer(value: object) -> int | None:
    """Return what is an integer, numpy's too, as Python's; None: it is none. Bools are none."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
