"""How panels are drawn."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from e2eio.plots.binding import (
    CLASS_COLOURS,
    colour_scale,
    log_ticks,
    new_figure,
    plain_ticks,
)
from e2eio.plots.panels import Bars, FigureData, ImagePanel, Lines

__all__ = ["draw", "plain"]

_MOST_LETTERS: Final = 48
_PANEL_IN: Final = 3.1
_HEAD_IN: Final = 0.45
_MARKER_PT: Final = 2.0  # of a lonely pixel, at least
_SPARSE: Final = 0.02  # share of filled pixels, below which they are lonely


def plain(text: str, most: int = _MOST_LETTERS) -> str:
    """Return a text from a file as it can be shown: one line, of bounded length."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    short = line if len(line) <= most else line[: most - 3] + "..."
    return short.replace("$", r"\$")  # else matplotlib takes it for mathematics


def draw(data: FigureData, label: str = "") -> Any:
    """Return the figure, to be made into a file while the style is on.

    Parameters
    ----------
    data : FigureData
    label : str
        Beside "e2eio", in italics: what the data are.
    """
    n = len(data.panels)
    columns = _columns(n)
    rows = math.ceil(n / columns)
    image = data.axes is not None
    width = columns * (_PANEL_IN + (0.35 if image else 0.5))
    figure = new_figure(max(width, 5.0), rows * _PANEL_IN * (0.9 if image else 0.88) + _HEAD_IN)
    _head(figure, data.title, label)
    for number, panel in enumerate(data.panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.set_title(plain(panel.title, 24), loc="left", fontweight="bold")
        if isinstance(panel, ImagePanel):
            last = number + columns >= n
            _draw_image(figure, axes, panel, data, first=number % columns == 0, last=last)
        elif isinstance(panel, Lines):
            _draw_lines(axes, panel)
        else:
            _draw_bars(axes, panel)
    _legend(figure, data)
    return figure


def _columns(n: int) -> int:
    if n <= 4:
        return max(n, 1)
    return next((c for c in (4, 3) if n % c == 0), 4 if n <= 12 else 5)


def _head(figure: Any, title: str, label: str) -> None:
    figure.suptitle(" ", fontsize=14)  # constrained layout keeps its place free
    left = 0.08 / figure.get_figwidth()
    top = 1 - 0.07 / figure.get_figheight()
    head = figure.text(left, top, "e2eio", fontsize=14, fontweight="bold", va="top")
    if label:
        figure.canvas.draw()
        box = head.get_window_extent().transformed(figure.transFigure.inverted())
        figure.text(
            box.x1 + 0.08 / figure.get_figwidth(),
            top,
            plain(label),
            fontsize=12,
            style="italic",
            va="top",
        )
    figure.text(1 - left, top, plain(title, 96), fontsize=11, va="top", ha="right")


def _draw_image(
    figure: Any, axes: Any, panel: ImagePanel, data: FigureData, *, first: bool, last: bool
) -> None:
    assert data.axes is not None
    left, right, bottom, top = data.axes.extent
    colours, norm = colour_scale(panel.scale, panel.low, panel.high, panel.middle)
    shown = np.isfinite(panel.image) & (panel.image != 0)
    if panel.scale != "signed":
        shown &= panel.image > 0
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_aspect("equal")
    if 0 < shown.mean() < _SPARSE:
        drawn = _scatter(axes, panel, data, shown, colours, norm)
    else:
        drawn = axes.imshow(
            np.ma.masked_array(panel.image, ~shown),
            cmap=colours,
            norm=norm,
            origin="lower",
            extent=data.axes.extent,
            interpolation="nearest",
        )
    bar = figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02, aspect=22)
    bar.set_label(plain(panel.unit), loc="top")
    _bar_ticks(bar, panel)
    for axis in (axes.xaxis, axes.yaxis):
        plain_ticks(axis, 5)
    if last:
        axes.set_xlabel(data.axes.x)
    if first:
        axes.set_ylabel(data.axes.y)
    _note(axes, panel.note)


def _scatter(
    axes: Any, panel: ImagePanel, data: FigureData, shown: Any, colours: Any, norm: Any
) -> Any:
    """Draw pixels as squares that can be seen, however small they are; the largest values on top."""
    assert data.axes is not None
    left, right, bottom, top = data.axes.extent
    height, width = panel.image.shape
    row, column = np.nonzero(shown)
    values = panel.image[row, column]
    order = np.argsort(np.abs(values), kind="stable")
    points = _PANEL_IN * 0.75 * 72 / max(height, width)
    return axes.scatter(
        left + (column[order] + 0.5) * (right - left) / width,
        bottom + (row[order] + 0.5) * (top - bottom) / height,
        c=values[order],
        s=max(points, _MARKER_PT) ** 2,
        marker="s",
        linewidths=0,
        cmap=colours,
        norm=norm,
    )


def _bar_ticks(bar: Any, panel: ImagePanel) -> None:
    if panel.scale == "log":
        log_ticks(bar.ax.yaxis, panel.low, panel.high)
    elif panel.scale == "linear":
        plain_ticks(bar.ax.yaxis, 5, whole=panel.high == round(panel.high))
    elif panel.scale == "signed":
        decades = range(math.ceil(math.log10(panel.middle)), math.floor(math.log10(panel.high)) + 1)
        step = max(1, -(-len(decades) // 3))
        sizes = [10.0**decade for decade in list(decades)[::-1][::step]] or [panel.high]
        bar.set_ticks([*(-size for size in sizes), 0.0, *sizes[::-1]])
        bar.set_ticklabels(
            [*(f"-{size:g}" for size in sizes), "0", *(f"{size:g}" for size in sizes[::-1])]
        )
    bar.minorticks_off()


def _draw_lines(axes: Any, panel: Lines) -> None:
    for colour, counts in zip(CLASS_COLOURS, panel.counts.values(), strict=False):
        axes.stairs(counts, panel.edges, color=colour, lw=1.6)
    low, high = float(panel.edges[0]), float(panel.edges[-1])
    if panel.log_x:
        axes.set_xscale("log")
        log_ticks(axes.xaxis, low, high)
    else:
        plain_ticks(axes.xaxis, 5)
    axes.set_xlim(low, high)
    every = np.concatenate([counts[counts > 0] for counts in panel.counts.values()])
    if every.size and panel.log_y:
        axes.set_yscale("log")
        axes.set_ylim(every.min() / 2, every.max() * 3)
        log_ticks(axes.yaxis, every.min() / 2, every.max() * 3)
    elif every.size:
        axes.set_ylim(0, every.max() * 1.2)
        plain_ticks(axes.yaxis, 5)
    axes.set_xlabel(plain(panel.x))
    axes.set_ylabel(panel.y)
    _note(axes, panel.note)


def _draw_bars(axes: Any, panel: Bars) -> None:
    n = max(len(panel.values), 1)
    places = np.arange(len(panel.names))
    every = np.concatenate([values[values > 0] for values in panel.values.values()])
    for k, (colour, values) in enumerate(zip(CLASS_COLOURS, panel.values.values(), strict=False)):
        axes.barh(places + (k - (n - 1) / 2) * 0.8 / n, values, height=0.8 / n, color=colour)
    axes.set_yticks(places, [plain(name, 14) for name in panel.names])
    axes.tick_params(axis="y", which="both", length=0)
    axes.invert_yaxis()
    if every.size:
        axes.set_xscale("log")
        axes.set_xlim(every.min() / 3, every.max() * 2)
        log_ticks(axes.xaxis, every.min() / 3, every.max() * 2)
    axes.set_xlabel(panel.x)


def _legend(figure: Any, data: FigureData) -> None:
    """Name the classes once, where the panels leave most room: below them all."""
    panel = data.panels[0] if data.panels else None
    names: list[str] = []
    if isinstance(panel, Lines):
        names = list(panel.counts)
    elif isinstance(panel, Bars):
        names = list(panel.values)
    if not names:
        return
    handles = [
        figure.axes[0].fill_between([], [], color=colour)
        for colour, _ in zip(CLASS_COLOURS, names, strict=False)
    ]
    figure.legend(handles, [plain(name) for name in names], loc="outside lower center", ncols=6)


def _note(axes: Any, note: str) -> None:
    if note:
        axes.text(
            *(0.5, 0.04, plain(note)),
            transform=axes.transAxes,
            ha="center",
            fontsize=9,
            color="#a00000",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )
