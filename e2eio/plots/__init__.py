"""Pictures of datasets: what is in them (`panels`), how they are drawn (`drawing`, `binding`), the HTML `page`."""

from __future__ import annotations

from e2eio.plots.panels import FigureData
from e2eio.plots.view import (
    FORMATS,
    KINDS,
    Kind,
    figure_names,
    gather,
    render,
    render_pages,
    sample_figures,
    whole_figures,
)

__all__ = [
    "FORMATS",
    "KINDS",
    "FigureData",
    "Kind",
    "figure_names",
    "gather",
    "render",
    "render_pages",
    "sample_figures",
    "whole_figures",
]
