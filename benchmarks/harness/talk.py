"""The table of the talk: time for a batch and for an epoch, as published and as measured here.

"Accelerating deep learning reconstruction using CMS Open Data", its comparison of I/O and training
time; proceedings: EPJ Web of Conferences 251, 03057 (2021), doi:10.1051/epjconf/202125103057.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from harness.tables import print_lines, say_time

__all__ = ["EPOCH_JETS", "PUBLISHED", "Entry", "Node", "print_talk", "tabulate"]

EPOCH_JETS = 2_560_000  # 80,000 batches of 32


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the talk: jets per batch, seconds to read one, minutes that an epoch took in all."""

    name: str
    batch_size: int
    read_s: dict[str, float]
    epoch_min: dict[str, float]

    def samples_per_s(self, resolution: str) -> float:
        return self.batch_size / self.read_s[resolution]


PUBLISHED = (
    Node("P100", 32, {"x1": 0.119, "x3": 0.833}, {"x1": 321, "x3": 1663}),
    Node("V100", 64, {"x1": 0.018, "x3": 0.063}, {"x1": 19, "x3": 105}),
    Node("TPUv3-8", 64, {"x1": 0.018, "x3": 0.189}, {"x1": 14, "x3": 131}),
)


class Measured(Protocol):
    """What is taken of a row of the report."""

    @property
    def title(self) -> str: ...
    @property
    def resolution(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def samples_per_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell: ms to have a batch, and seconds to have the 2.56 million jets of the talk's epoch.

    `source` says where they come from; epochs of what was measured here are extrapolated from the
    rate, those of the talk are batches times the published time of one.
    """

    name: str
    resolution: str
    batch_size: int
    ms_per_batch: float
    epoch_s: float
    source: Literal["published", "extrapolated"]


def tabulate(rows: Sequence[Measured]) -> list[Entry]:
    """Return the talk's nodes, at the resolutions that were measured, and the rows beside them."""
    measured = [row for row in rows if row.samples_per_s]
    resolutions = sorted({row.resolution for row in measured})
    entries = [
        _entry(node.name, resolution, node.batch_size, node.samples_per_s(resolution), "published")
        for node in PUBLISHED
        for resolution in resolutions
        if resolution in node.read_s
    ]
    return entries + [
        _entry(row.title, row.resolution, row.batch_size, row.samples_per_s, "extrapolated")
        for row in measured
    ]


def print_talk(entries: Sequence[Entry]) -> None:
    """Print a line per resolution and node or contender, a pair of columns per batch size."""
    sizes = sorted({entry.batch_size for entry in entries})
    header = ["I/O time, as in the talk's table"]
    for size in sizes:
        header += [f"batch of {size}", "epoch"]
    lines = []
    for resolution in sorted({entry.resolution for entry in entries}):
        here = [entry for entry in entries if entry.resolution == resolution]
        for name in dict.fromkeys(entry.name for entry in here):
            found = {entry.batch_size: entry for entry in here if entry.name == name}
            cells = [_say(found.get(size)) for size in sizes]
            lines.append([f"{resolution} {name}", *(text for pair in cells for text in pair)])
    print_lines(header, lines, left={0}, bold={"x1 e2eio", "x3 e2eio"})
    print(
        f"P100, V100, TPUv3-8: as published by the talk. ~ {EPOCH_JETS / 1e6:.2f} million jets, extrapolated from the rate "
        "measured here."
    )


def _say(entry: Entry | None) -> tuple[str, str]:
    if entry is None:
        return "", ""
    mark = "~" if entry.source == "extrapolated" else ""
    return f"{entry.ms_per_batch:,.3g} ms", mark + say_time(entry.epoch_s)


def _entry(
    name: str,
    resolution: str,
    batch_size: int,
    samples_per_s: float,
    source: Literal["published", "extrapolated"],
) -> Entry:
    milliseconds = 1000 * batch_size / samples_per_s
    return Entry(name, resolution, batch_size, milliseconds, EPOCH_JETS / samples_per_s, source)
