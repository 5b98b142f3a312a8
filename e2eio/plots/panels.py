"""What is to be seen in each panel of a figure: numbers, scales and words, and nothing of how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from e2eio.physics import Axes, channel_kind, image_axes, is_signed
from e2eio.summary import LOG, Classes, Content, Maps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.schema import Channel, Schema

__all__ = [
    "Bars",
    "FigureData",
    "ImagePanel",
    "Lines",
    "Scale",
    "image_panel",
    "mean_figures",
    "occupancy_figure",
    "sample_figure",
    "spectrum_figure",
]

#: How colours follow values.
Scale = Literal["log", "linear", "signed"]

_DECADES: Final = 4  # of a logarithmic colour scale, at most
_COUNT_BINS: Final = 40
_FINE, _COARSE = 2000, 100  # entries from where on bins are not joined, or in pairs


@dataclass(frozen=True, slots=True)
class ImagePanel:
    """One image of one channel.

    Parameters
    ----------
    title, unit : str
    image : float [H, W]
        Zero: nothing there.
    scale : {"log", "linear", "signed"}
    low, high : float
        Ends of the colour scale; those of "signed" are symmetric, and linear within +-`middle`.
    middle : float
    note : str
        What cannot be seen in colours: that there is nothing, or pixels that are NaN.
    """

    title: str
    unit: str
    image: NDArray[np.floating]
    scale: Scale
    low: float
    high: float
    middle: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Lines:
    """Histograms of several classes, as steps.

    Parameters
    ----------
    title, x, y : str
    edges : float64 [n + 1]
    counts : dict
        Of the name of the class: float64 [n].
    log_x : bool
    note : str
        What is left out.
    """

    title: str
    x: str
    y: str
    edges: NDArray[np.float64]
    counts: dict[str, NDArray[np.float64]]
    log_x: bool = True
    log_y: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """One number of each channel and class.

    Parameters
    ----------
    title, x : str
    names : tuple of str
        Channels.
    values : dict
        Of the name of the class: float64 [C].
    """

    title: str
    x: str
    names: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class FigureData:
    """Panels that go together.

    Parameters
    ----------
    name : str
        Of the file, without its suffix.
    title : str
    panels : sequence of ImagePanel, Lines or Bars
    axes : Axes or None
        Of the images.
    """

    name: str
    title: str
    panels: Sequence[ImagePanel | Lines | Bars] = field(default_factory=list)
    axes: Axes | None = None


def image_panel(
    channel: Channel,
    image: NDArray[np.floating],
    scale: Scale,
    limits: tuple[float, float, float] | None = None,
) -> ImagePanel:
    """Return the panel of an image [H, W].

    Parameters
    ----------
    channel : Channel
    image : ndarray
    scale : {"log", "linear", "signed"}
    limits : tuple of float or None
        (low, high, middle) of the colour scale; None: those of the image.
    """
    finite = np.isfinite(image)
    notes = []
    if not np.any(image):
        notes.append("no filled pixel")
    if not finite.all():
        notes.append(f"{int((~finite).sum())} pixels not finite")
    if scale != "signed" and np.any(image[finite] < 0):
        notes.append(f"{int((image[finite] < 0).sum())} pixels negative")
    low, high, middle = limits or colour_limits(image, scale)
    unit = f"mean {channel.unit}" if limits and channel.unit else channel.unit
    return ImagePanel(channel.name, unit, image, scale, low, high, middle, "; ".join(notes))


def colour_limits(image: NDArray[np.floating], scale: Scale) -> tuple[float, float, float]:
    """Return low, high and middle of the colour scale for an array of any shape."""
    values = np.abs(image[np.isfinite(image) & (image != 0)]).astype(np.float64)
    if scale != "signed":
        values = image[np.isfinite(image) & (image > 0)].astype(np.float64)
    if not values.size:
        return (0.1, 1.0, 0.1) if scale != "signed" else (-1.0, 1.0, 0.1)
    high = float(values.max())
    if scale == "linear":
        return 0.0, high, 0.0
    if scale == "signed":
        middle = 10.0 ** np.floor(np.log10(max(float(np.median(values)), high * 1e-4)))
        return -high, high, float(min(middle, high / 2))
    low = max(float(values.min()), high / 10**_DECADES)
    return (low if low < high else high / 10), high, 0.0


def _scale_of(channel: Channel, minimum: float | None) -> Scale:
    if is_signed(channel, minimum):
        return "signed"
    return "linear" if channel_kind(channel) == "hits" else "log"


def sample_figure(
    schema: Schema,
    number: int,
    image: NDArray[np.float32],
    scalars: dict[str, float],
    channels: Sequence[int],
) -> FigureData:
    """Return the figure of one sample, a panel for each channel asked for."""
    panels = []
    for index in channels:
        finite = image[index][np.isfinite(image[index])]
        minimum = float(finite.min()) if finite.size else None
        channel = schema.image.channels[index]
        panels.append(image_panel(channel, image[index], _scale_of(channel, minimum)))
    units = {each.name: each.unit for each in schema.scalars}
    words = [
        f"{name} = {float(value):.5g}{' ' + units[name] if units[name] else ''}"
        for name, value in list(scalars.items())[:4]
    ]
    title = ", ".join([f"sample {number}", *words])
    axes = image_axes(schema.image.height, schema.image.width)
    return FigureData(f"sample-{number:06d}", title, panels, axes)


def mean_figures(
    schema: Schema, classes: Classes, content: Content, maps: Maps, channels: Sequence[int]
) -> list[FigureData]:
    """Return a figure of the mean image of each class, all of them with the same colours."""
    if not maps.kept:
        return []
    axes = image_axes(schema.image.height, schema.image.width)
    sizes = np.maximum(content.class_samples, 1)
    panels: list[list[ImagePanel]] = [[] for _ in classes.names]
    for index in channels:
        channel = schema.image.channels[index]
        means = maps.sums[:, index] / sizes[:, None, None]
        scale: Scale = "signed" if is_signed(channel, float(means.min())) else "log"
        limits = colour_limits(means, scale)
        for number, mean in enumerate(means):
            panels[number].append(image_panel(channel, mean, scale, limits))
    return [
        FigureData(f"mean-{number}", f"mean of {size} samples, {name}", panels[number], axes)
        for number, (name, size) in enumerate(
            zip(classes.names, content.class_samples.tolist(), strict=True)
        )
    ]


def spectrum_figure(
    schema: Schema,
    classes: Classes,
    content: Content,
    channels: Sequence[int],
    of: Literal["pixels", "sums"],
) -> FigureData:
    """Return the spectra of the pixels, or of their sum in each sample, per channel and class."""
    sizes = np.maximum(content.class_samples, 1)
    histograms = content.pixels if of == "pixels" else content.sums
    panels = []
    for index in channels:
        channel = schema.image.channels[index]
        both = histograms[:, index]
        edges, counts = _joined(LOG.edges, (both[:, 0] + both[:, 1])[:, 1:-1])
        name = f"|{channel.name}|" if both[:, 1].any() else channel.name
        panels.append(
            Lines(
                channel.name,
                f"{name} per {'pixel' if of == 'pixels' else 'sample'}"
                f"{f' [{channel.unit}]' if channel.unit else ''}",
                "pixels / sample / bin" if of == "pixels" else "share of samples / bin",
                edges,
                {label: counts[k] / sizes[k] for k, label in enumerate(classes.names)},
                note="" if counts.any() else "no filled pixel",
            )
        )
    title = "spectra of pixels" if of == "pixels" else "spectra of sums per sample"
    return FigureData(f"spectrum-{of}", title, panels)


def occupancy_figure(
    schema: Schema, classes: Classes, content: Content, channels: Sequence[int]
) -> FigureData:
    """Return the share of filled pixels per channel: means, and its distribution over the samples."""
    n_pixels = schema.image.height * schema.image.width
    names = tuple(schema.channels[index] for index in channels)
    width = content.counts.width
    numbers = np.minimum(np.arange(content.counts.size) * width + (width - 1) / 2, n_pixels)
    sizes = np.maximum(content.class_samples, 1)
    means = (content.filled @ numbers) / sizes[:, None] * 100 / n_pixels
    values = {name: means[k, list(channels)] for k, name in enumerate(classes.names)}
    panels: list[Bars | Lines] = [Bars("mean", "filled pixels [%]", names, values)]
    for index in channels:
        edges, counts = _rebinned(content.filled[:, index], width, n_pixels)
        shares = {name: counts[k] / sizes[k] for k, name in enumerate(classes.names)}
        panels.append(
            Lines(
                schema.channels[index],
                "filled pixels [%]",
                "share of samples / bin",
                edges,
                shares,
                log_x=False,
                log_y=False,
            )
        )
    return FigureData("occupancy", "occupancy", panels)


def _joined(
    edges: NDArray[np.float64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bins [n + 1], [K, n] that hold something, of few entries two or four joined to one."""
    total = int(counts.sum())
    step = 1 if total >= _FINE else 2 if total >= _COARSE else 4
    joined = counts.reshape(len(counts), -1, step).sum(axis=2).astype(np.float64)
    used = np.flatnonzero(joined.sum(axis=0))
    begin, end = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
    return edges[::step][begin : end + 1], joined[:, begin:end]


def _rebinned(
    filled: NDArray[np.int64], width: int, n_pixels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return edges in percent and counts [K, n] over what is filled, in more bins the more samples there are."""
    used = np.flatnonzero(filled.sum(axis=0))
    begin, end = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
    most = min(_COUNT_BINS, 4 + int(2 * float(filled.sum()) ** (1 / 3)))
    step = -(-(end - begin) // most)
    n = -(-(end - begin) // step)
    padded = np.zeros((len(filled), n * step), dtype=np.int64)
    padded[:, : end - begin] = filled[:, begin:end]
    counts = padded.reshape(len(filled), n, step).sum(axis=2).astype(np.float64)
    edges = ((begin + np.arange(n + 1) * step) * width - 0.5) * 100 / n_pixels
    return edges, counts
