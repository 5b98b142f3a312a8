"""Tables for people, with rich where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

__all__ = ["print_lines", "say", "say_time"]


def print_lines(
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    *,
    left: Collection[int],
    bold: Collection[str] = (),
) -> None:
    """Print a table.

    Parameters
    ----------
    header, lines : sequences of str
        All of one length. A line whose first word is another than that of the line before begins a
        section if that word is a resolution ("x1").
    left : collection of int
        Columns that are aligned to the left; the last of them may be broken into lines.
    bold : collection of str
        First cells of lines that are set in bold.
    """
    try:
        from rich import box
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ImportError:
        _print_plainly(header, lines, left)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for k, name in enumerate(header):
        broken = k == len(header) - 1 and k in left
        table.add_column(name, justify="left" if k in left else "right", no_wrap=not broken)
    previous = ""
    for line in lines:
        word = line[0].split(" ")[0]
        if previous and word != previous and word.startswith("x"):
            table.add_section()
        previous = word
        table.add_row(*map(escape, line), style="bold" if line[0] in bold else None)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _print_plainly(
    header: Sequence[str], lines: Sequence[Sequence[str]], left: Collection[int]
) -> None:
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    for line in [header, *lines]:
        cells = [
            cell.ljust(width) if k in left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def say(value: float) -> str:
    """Three digits where they mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def say_time(seconds: float) -> str:
    """Say a time in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"
