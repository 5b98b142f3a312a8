"""What was typed on the command line, as Python's values."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from typing import Any, Final

__all__ = [
    "arguments_of",
    "names_by_name",
    "names_of",
    "numbers_of",
    "ranges_of",
    "scheduler_of",
    "shape_of",
    "size_of",
]

_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def arguments_of(function: Callable[..., Any], args: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line says of a function's parameters: options have their names."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in vars(args).items() if name in parameters}


def names_of(text: str) -> tuple[str, ...]:
    """Return the names in ``A,B``."""
    return tuple(part.strip() for part in text.split(","))


def numbers_of(text: str) -> tuple[float, ...]:
    """Return the numbers in ``0,1.5``, whole ones as int."""
    try:
        return tuple(_number(part.strip()) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected numbers as in 0,1") from None


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def names_by_name(text: str) -> dict[str, str]:
    """Return the new names in ``OLD=NEW,...`` by the old ones."""
    pairs = [part.strip().partition("=") for part in text.split(",")]
    names = {old: new for old, _, new in pairs}
    if not all(old and new for old, new in names.items()) or len(names) != len(pairs):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected OLD=NEW as in jetPt=pt")
    return names


def shape_of(text: str) -> tuple[int, ...]:
    """Return the sizes in ``C,H,W``."""
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) != 3:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected C,H,W as in 8,125,125")
    return sizes


def scheduler_of(text: str) -> str:
    """Return what names a Dask scheduler: an address or a file."""
    if "://" not in text and not text.endswith(".json"):
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected a scheduler as in tcp://HOST:8786, or its file *.json; "
            "for a cluster of this machine write --dask last"
        )
    return text


def ranges_of(text: str) -> tuple[int, ...]:
    """Return the numbers in ``N,A-B``, B included."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            begin = int(first)
            end = int(last) if dash else begin
        except ValueError:
            begin, end = 0, -1
        if not 0 <= begin <= end:
            raise argparse.ArgumentTypeError(f"found {part!r}, expected N or A-B with A <= B")
        numbers.extend(range(begin, end + 1))
    return tuple(numbers)


def size_of(text: str) -> int:
    """Return the bytes of ``256M``."""
    digits = text.rstrip("kKmMgG")
    unit = _UNITS.get(text[len(digits) :].lower())
    if unit is None or not digits.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected bytes as in 1000000 or 256M")
    return int(digits) * unit
