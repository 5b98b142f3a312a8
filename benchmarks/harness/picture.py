"""The picture of a report: bars with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.report import OURS, Ratio, Row
from harness.talk import PUBLISHED

__all__ = ["draw"]


def draw(rows: Sequence[Row], ratios: Sequence[Ratio], title: str, path: Path) -> bool:
    """Draw jets per second, one panel per resolution and batch size, as a PNG.

    Returns
    -------
    bool
        False if matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    measured = [row for row in rows if row.samples_per_s]
    panels: dict[tuple[str, int], list[Row]] = {}
    for row in measured:
        panels.setdefault((row.resolution, row.batch_size), []).append(row)
    if not panels:
        return False
    counts = [len(panel) for panel in panels.values()]
    figure, axes = plt.subplots(
        len(counts),
        1,
        figsize=(9.5, 1.3 + sum(0.42 * count + 0.75 for count in counts)),
        squeeze=False,
        height_ratios=counts,
        layout="constrained",
    )
    for axis, panel in zip(axes[:, 0], panels.values(), strict=True):
        _draw_panel(axis, panel, ratios)
    axes[-1, 0].set_xlabel("jets per second (median; whiskers: slowest and fastest round)")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return True


def _draw_panel(axis: Any, rows: Sequence[Row], ratios: Sequence[Ratio]) -> None:
    """Draw the bars of one panel, the slowest at the bottom, and what the talk had."""
    panel = sorted(rows, key=lambda row: row.samples_per_s)
    resolution, batch_size = panel[0].resolution, panel[0].batch_size
    talk = PUBLISHED[0].samples_per_s(resolution)
    axis.barh(
        range(len(panel)),
        [row.samples_per_s for row in panel],
        color=[_colour(row) for row in panel],
        height=0.66,
        xerr=[
            [row.samples_per_s - row.samples_per_s_min for row in panel],
            [row.samples_per_s_max - row.samples_per_s for row in panel],
        ],
        error_kw={"capsize": 3, "lw": 1.1},
    )
    axis.set_yticks(range(len(panel)), [row.title for row in panel])
    axis.set_xscale("log")
    low = min(talk, panel[0].samples_per_s)
    axis.set_xlim(low / 2, max(row.samples_per_s_max for row in panel) * 8)
    by_peer = {
        ratio.peer: ratio.median
        for ratio in ratios
        if (ratio.resolution, ratio.batch_size) == (resolution, batch_size)
    }
    for place, row in enumerate(panel):
        _write_speed(axis, place, row, by_peer.get(row.contender))
    axis.axvline(talk, color="black", lw=1, ls="--", zorder=0)
    axis.annotate(
        f" P100 node of the talk: {talk:,.0f}",
        (talk, 1.0),
        (0, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        fontsize=8,
    )
    edge = 125 * int(resolution[1:])
    title = f"{resolution}: batches of {batch_size}, {panel[0].channels} x {edge} x {edge} float32"
    axis.set_title(title, loc="right", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def _colour(row: Row) -> str:
    if row.contender == OURS:
        return "#c8102e"
    return "#9a9a9a" if "clear" in row.contender or "memory" in row.contender else "#2f6690"


def _write_speed(axis: Any, place: int, row: Row, ratio: float | None) -> None:
    note = f"{row.samples_per_s:,.0f}"
    if ratio is not None:
        note += f"  (e2eio: {ratio:,.3g} x)"
    axis.annotate(
        note,
        (row.samples_per_s_max, place),
        (8, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )
