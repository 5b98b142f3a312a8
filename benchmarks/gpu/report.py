"""What gpu_feed.py has measured, as JSON and in print."""

from __future__ import annotations

import dataclasses
import statistics

from harness.results import BenchmarkReport, Figure, describe_figure

__all__ = ["Report", "Row", "figure_of", "print_report"]


@dataclasses.dataclass(slots=True)
class Row:
    """One feed at one resolution; `unavailable` says why there are no rates."""

    feed: str
    title: str
    resolution: str
    bytes_per_jet: float = 0.0
    n_verified: int = 0
    jets_per_s_rounds: list[float] = dataclasses.field(default_factory=list)
    unavailable: str = ""

    @property
    def jets_per_s(self) -> float:
        return statistics.median(self.jets_per_s_rounds)


@dataclasses.dataclass(slots=True)
class Report(BenchmarkReport):
    """What was measured."""

    format: str = "e2eio-gpu-feed"
    device: dict[str, str] = dataclasses.field(default_factory=dict)
    rows: list[Row] = dataclasses.field(default_factory=list)
    figures: list[Figure] = dataclasses.field(default_factory=list)


def figure_of(name: str, values: list[float], unit: str, *, least: float) -> Figure:
    """Return the median of several rounds as a figure with a target."""
    median = statistics.median(values)
    return Figure(name, median, unit, f">= {least:,g}", median >= least, [min(values), max(values)])


def print_report(report: Report) -> None:
    """Print the rates and the figures, and what was not measured."""
    machine, device = report.environment, report.device
    print(f"\n{machine['cpu']}, {machine['cores']} cores; GPU: {', '.join(device.values())}")
    limits = {f.name.split()[0]: f.value for f in report.figures if "pinned copies" in f.name}
    for row in report.rows:
        head = f"{row.resolution} {row.title:46}"
        if row.unavailable:
            print(f"{head} {row.unavailable}" + _verified(row))
            continue
        low, high = min(row.jets_per_s_rounds), max(row.jets_per_s_rounds)
        of_limit = 1e-7 * row.jets_per_s * row.bytes_per_jet / (limits[row.resolution] or 1)
        print(
            f"{head} {row.jets_per_s:10,.0f} jets/s ({low:,.0f} to {high:,.0f}), "
            f"{row.bytes_per_jet:,.0f} bytes/jet, {of_limit:.0f} % of the copy limit{_verified(row)}"
        )
    for figure in report.figures:
        print(describe_figure(figure))
    if report.device["name"] == "none":
        print("No GPU: of the figures only those of the CPU were measured.")


def _verified(row: Row) -> str:
    return f"; {row.n_verified} jets compared" if row.n_verified else ""
