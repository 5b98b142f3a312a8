"""The pictures of a dataset: which there are, and the one pass that they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal

from e2eio.errors import ConfigError
from e2eio.plots.panels import (
    FigureData,
    mean_figures,
    occupancy_figure,
    sample_figure,
    spectrum_figure,
)
from e2eio.summary import Classes, Content, Maps, run_pass

if TYPE_CHECKING:
    from e2eio.dataset import Dataset
    from e2eio.progress import Progress

__all__ = [
    "FORMATS",
    "KINDS",
    "Kind",
    "figure_names",
    "gather",
    "render",
    "render_pages",
    "sample_figures",
    "whole_figures",
]

#: What there is to see.
Kind = Literal["samples", "means", "occupancy", "spectra"]
KINDS: Final[tuple[Kind, ...]] = ("samples", "means", "occupancy", "spectra")

#: Suffixes of files.
FORMATS: Final = ("png", "pdf", "svg")


def sample_figures(
    dataset: Dataset, samples: Sequence[int], channels: Sequence[int]
) -> Iterator[FigureData]:
    """Yield a figure of each sample, decoded one at a time.

    Raises
    ------
    ConfigError
        There is no such sample.
    """
    wrong = [number for number in samples if not 0 <= number < len(dataset)]
    if wrong:
        raise ConfigError(f"no such sample: found {wrong[0]}, expected 0 to {len(dataset) - 1}")
    image = dataset.schema.image.name
    for number in samples:
        sample = dataset[number]
        scalars = {name: float(value) for name, value in sample.items() if name != image}
        yield sample_figure(dataset.schema, number, sample[image], scalars, channels)


def figure_names(kinds: Sequence[Kind], samples: Sequence[int], classes: Classes) -> list[str]:
    """Return the names of all figures that will be made, before any is."""
    names = []
    if "samples" in kinds:
        names += [f"sample-{number:06d}" for number in samples]
    if "means" in kinds:
        names += [f"mean-{number}" for number in range(len(classes.names))]
    if "occupancy" in kinds:
        names.append("occupancy")
    if "spectra" in kinds:
        names += ["spectrum-pixels", "spectrum-sums"]
    return names


def gather(
    dataset: Dataset,
    classes: Classes,
    *,
    limit: int | None = None,
    progress: Progress,
) -> tuple[Content, Maps]:
    """Return what pictures of the whole dataset are made of, after one pass over it."""
    shape = dataset.schema.image.shape
    content, maps = Content(len(classes.names), shape), Maps(len(classes.names), shape)
    run_pass(dataset, [content, maps], classes=classes, limit=limit, progress=progress)
    return content, maps


def whole_figures(
    dataset: Dataset,
    classes: Classes,
    content: Content,
    maps: Maps,
    channels: Sequence[int],
    kinds: Sequence[Kind] = KINDS,
) -> list[FigureData]:
    """Return the figures of the whole dataset, without those of samples."""
    schema = dataset.schema
    figures = []
    if "means" in kinds:
        figures += mean_figures(schema, classes, content, maps, channels)
    if "occupancy" in kinds:
        figures.append(occupancy_figure(schema, classes, content, channels))
    if "spectra" in kinds:
        figures.append(spectrum_figure(schema, classes, content, channels, "pixels"))
        figures.append(spectrum_figure(schema, classes, content, channels, "sums"))
    return figures


def render(figure: FigureData, suffix: str, label: str = "") -> bytes:
    """Return the file of one figure; equal data make equal bytes.

    Raises
    ------
    MissingDependencyError
        matplotlib or mplhep is not installed.
    """
    from e2eio.plots.binding import figure_bytes, styled
    from e2eio.plots.drawing import draw

    with styled():
        return figure_bytes(draw(figure, label), suffix)


def render_pages(figures: Sequence[FigureData], label: str = "") -> bytes:
    """Return a PDF of all figures, one a page."""
    from e2eio.plots.binding import pages_bytes, styled
    from e2eio.plots.drawing import draw

    with styled():
        return pages_bytes(draw(figure, label) for figure in figures)
