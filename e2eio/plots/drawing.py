"""How panels are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
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
_MARKER_PT: Final = 2.0  # of a lonely pixel, at least
_SPARSE: Final = 0.02  # share of filled pixels, below which they are lonely

# Inches. Places are computed, not negotiated: a layout engine takes most of the time of a figure.
_HEAD_IN: Final = 0.5
_LEGEND_LINE_IN: Final = 0.24
_BAR_IN: Final = (0.07, 0.11)  # gap before a colour bar, and its width
_LETTER_IN: Final = 0.085


@dataclass(frozen=True, slots=True)
class _Cell:
    """Room for a panel in inches: of its axes, and what is left of, right of, below and above them."""

    width: float
    height: float
    left: float
    right: float
    below: float = 0.55
    above: float = 0.3

    @property
    def size(self) -> tuple[float, float]:
        return self.left + self.width + self.right, self.below + self.height + self.above


_IMAGE: Final = _Cell(2.4, 2.4, 0.62, 0.85)
_HISTOGRAM: Final = _Cell(2.9, 2.2, 0.82, 0.12)
_BARS_LEFT_IN: Final = 0.35  # more, for names of channels


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
    rows = max(math.ceil(n / columns), 1)
    cell = _HISTOGRAM if data.axes is None else _IMAGE
    bars = any(isinstance(panel, Bars) for panel in data.panels)
    shift = _BARS_LEFT_IN if bars else 0.0
    width = max(columns * cell.size[0] + shift, 6.0)
    names = _class_names(data)
    legend_columns, legend_in = _legend_size(names, width)
    figure = new_figure(width, rows * cell.size[1] + _HEAD_IN + legend_in)
    _head(figure, data.title, label)
    for number, panel in enumerate(data.panels):
        row, column = divmod(number, columns)
        left = column * cell.size[0] + shift
        bottom = (rows - 1 - row) * cell.size[1] + legend_in
        axes = _axes(figure, left + cell.left, bottom + cell.below, cell.width, cell.height)
        if isinstance(panel, ImagePanel):
            _draw_image(figure, axes, panel, data, first=column == 0, last=number + columns >= n)
        elif isinstance(panel, Lines):
            _draw_lines(axes, panel)
        else:
            _draw_bars(axes, panel)
        axes.set_title(plain(panel.title, 24), loc="left", fontweight="bold")
    _legend(figure, names, legend_columns)
    return figure


def _axes(figure: Any, left: float, bottom: float, width: float, height: float) -> Any:
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, bottom / h, width / w, height / h))


def _columns(n: int) -> int:
    if n <= 5:
        return max(min(n, 4 if n < 5 else 3), 1)
    return next((c for c in (4, 3) if n % c == 0), 4 if n <= 12 else 5)


def _head(figure: Any, title: str, label: str) -> None:
    left = 0.12 / figure.get_figwidth()
    top = 1 - 0.1 / figure.get_figheight()
    figure.text(left, top, "e2eio", fontsize=14, fontweight="bold", va="top")
    if label:
        beside = left + 0.72 / figure.get_figwidth()
        figure.text(beside, top, plain(label), fontsize=12, style="italic", va="top")
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
    _fit(axes, (right - left) / (top - bottom))
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
    bar = figure.colorbar(drawn, cax=_beside(figure, axes))
    bar.set_label(plain(panel.unit), loc="top")
    _bar_ticks(bar, panel)
    for axis in (axes.xaxis, axes.yaxis):
        plain_ticks(axis, 5)
    if last:
        axes.set_xlabel(data.axes.x)
    if first:
        axes.set_ylabel(data.axes.y)
    _note(axes, panel.note)


def _fit(axes: Any, aspect: float) -> None:
    """Make the axes as wide as the image is, by its height, within the room that they have."""
    width, height = _IMAGE.width, _IMAGE.height
    box = axes.get_position()
    w, h = min(aspect * height, width), min(width / aspect, height)
    axes.set_position((box.x0, box.y0, box.width * w / width, box.height * h / height))
    axes.set_aspect("auto")


def _beside(figure: Any, axes: Any) -> Any:
    gap, width = (inches / figure.get_figwidth() for inches in _BAR_IN)
    box = axes.get_position()
    return figure.add_axes((box.x1 + gap, box.y0, width, box.height))


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
    points = _IMAGE.width * 72 / max(height, width)
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


def _class_names(data: FigureData) -> list[str]:
    panel = data.panels[0] if data.panels else None
    if isinstance(panel, Lines):
        return [plain(name) for name in panel.counts]
    return [plain(name) for name in panel.values] if isinstance(panel, Bars) else []


def _legend_size(names: list[str], width: float) -> tuple[int, float]:
    """Return how many names go beside each other, and the height of all in inches."""
    if not names:
        return 1, 0.0
    each = 0.6 + _LETTER_IN * max(map(len, names))
    columns = max(1, min(len(names), int(width / each)))
    return columns, 0.1 + _LEGEND_LINE_IN * math.ceil(len(names) / columns)


def _legend(figure: Any, names: list[str], columns: int) -> None:
    """Name the classes once, below all panels."""
    if names:
        handles = [
            figure.axes[0].fill_between([], [], color=colour)
            for colour, _ in zip(CLASS_COLOURS, names, strict=False)
        ]
        figure.legend(handles, names, loc="lower center", ncols=columns, borderaxespad=0.2)


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
