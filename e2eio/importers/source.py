"""What every importer offers, and how the meaning of an image column is found.

A file says how many numbers an image has, at most in which nesting. What is left open (which axis is
the channels', and what they are) comes from the caller, from a preset, or from what the published
sets look like; where that is not enough, an error asks for it. Nothing is guessed beyond that.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, runtime_checkable

import numpy as np

from e2eio.errors import ConfigError
from e2eio.importers.jets.recipe import JetRecipe
from e2eio.presets import EDGES, PRESETS, channel_unit, find_preset, recognise, scalar_unit
from e2eio.schema import Channel, ImageField, Precision, ScalarField, Schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Chunk", "Geometry", "ImageSource", "ImportOptions", "Layout", "find_geometry"]
__all__ += ["ScalarSource", "make_schema", "read_scalars"]

Layout = Literal["CHW", "HWC"]

#: Images [n, C, H, W], float32 or float64, read-only and of any strides; scalars by name, each [n].
Chunk = tuple["NDArray[Any]", "dict[str, NDArray[Any]]"]

_LAYOUTS: Final = ("CHW", "HWC")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the caller says of the sources.

    Parameters
    ----------
    preset : str, optional
        Name of a published set: gives the channels.
    shape : tuple of int, optional
        (C, H, W), whatever the order in the file.
    layout : {"CHW", "HWC"}, optional
        Order of the axes in the file.
    channels, units : tuple of str, optional
        One per channel, in the order of the file.
    image : str, optional
        Name of the image column; in files of arrays several with commas are stacked to channels.
    precision : {"float32", "float16"}
        Of the stored pixels.
    meta : tuple of str, optional
        Names of the columns of a table `*_meta`, ``"-"`` for those to leave out.
    tree : str, optional
        Name of the tree or ntuple in a ROOT file, with or without its directory.
    recipe : str
        How images are made of particles and of hits of the whole detector, where not by the defaults: as
        ``"resolution=3,centre=axis"``; names and values are those of `JetRecipe`.
    rename : tuple of (str, str)
        Fields that get another name: the one in the file, and the new one.
    scalars : tuple of str, optional
        Scalar fields to keep, by their names in the file; None: all.
    label : (str, int or float), optional
        A scalar field with one value for all samples of the file, stored as int64 or float64.

    Raises
    ------
    ConfigError
        Two of them contradict each other, or one is not valid in itself.
    """

    preset: str | None = None
    shape: tuple[int, int, int] | None = None
    layout: Layout | None = None
    channels: tuple[str, ...] | None = None
    units: tuple[str, ...] | None = None
    image: str | None = None
    precision: Precision = "float32"
    meta: tuple[str, ...] | None = None
    tree: str | None = None
    recipe: str = ""
    rename: tuple[tuple[str, str], ...] = ()
    scalars: tuple[str, ...] | None = None
    label: tuple[str, int | float] | None = None

    def __post_init__(self) -> None:
        if self.layout is not None and self.layout not in _LAYOUTS:
            raise ConfigError(f"unknown layout: found {self.layout!r}, expected CHW or HWC")
        if self.shape is not None and min(self.shape) < 1:
            raise ConfigError(
                f"wrong shape: found {self.shape!r}, expected C, H, W, each at least 1"
            )
        if self.preset is not None and self.channels is not None:
            raise ConfigError("both preset and channels given: expected one of them")
        if self.channels is not None:
            _check_units(self.units, len(self.channels))
        self.jet_recipe()
        given = self.given_channels()
        if given is not None and self.shape is not None and len(given) != self.shape[0]:
            raise ConfigError(
                f"channels and shape disagree: found {len(given)} channels and shape "
                f"{self.shape!r}, expected shape as C, H, W"
            )

    def jet_recipe(self) -> JetRecipe:
        """Return what `recipe` spells out."""
        return JetRecipe.from_text(self.recipe)

    def given_channels(self) -> tuple[Channel, ...] | None:
        """Return the channels that were asked for, or None."""
        if self.channels is not None:
            known = tuple(channel_unit(name) for name in self.channels)
            units = known if self.units is None else self.units
            return tuple(map(Channel, self.channels, units))
        if self.preset is None:
            return None
        return _with_units(find_preset(self.preset).channels, self.units)


def _check_units(units: tuple[str, ...] | None, n_channels: int) -> None:
    if units is not None and len(units) != n_channels:
        raise ConfigError(
            f"wrong units: found {len(units)}, expected one for each of {n_channels} channels"
        )


def _with_units(
    channels: tuple[Channel, ...], units: tuple[str, ...] | None
) -> tuple[Channel, ...]:
    if units is None:
        return channels
    _check_units(units, len(channels))
    return tuple(Channel(channel.name, unit) for channel, unit in zip(channels, units, strict=True))


@dataclass(frozen=True, slots=True)
class Geometry:
    """How the numbers of one image lie in the file.

    Parameters
    ----------
    shape : tuple of int
        (C, H, W).
    layout : {"CHW", "HWC"}
    """

    shape: tuple[int, int, int]
    layout: Layout

    @property
    def n_pixels(self) -> int:
        """Numbers per image, over all channels."""
        return math.prod(self.shape)

    def view(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return `values`, n images one after the other, as [n, C, H, W] without a copy."""
        n_channels, height, width = self.shape
        if self.layout == "CHW":
            images: NDArray[Any] = values.reshape(-1, n_channels, height, width)
        else:
            images = values.reshape(-1, height, width, n_channels).transpose(0, 3, 1, 2)
        return images


class ImageSource(Protocol):
    """An opened file in a foreign format; one thread at a time may use it."""

    @property
    def path(self) -> str:
        """As given."""

    @property
    def n_bytes(self) -> int:
        """Size of the file."""

    @property
    def fingerprint(self) -> bytes:
        """Changes with the content, as far as that can be told without reading it all."""

    @property
    def schema(self) -> Schema:
        """Fields of a sample."""

    @property
    def geometry(self) -> Geometry:
        """Order of an image's numbers in the file."""

    @property
    def n_samples(self) -> int:
        """Samples in the file."""

    @property
    def cuts(self) -> NDArray[np.int64]:
        """Ascending sample numbers, from 0 to `n_samples`, at which reading may begin cheaply."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """Columns left out, each with its type."""

    def chunks(self, begin: int, end: int) -> Iterator[Chunk]:
        """Yield the samples [begin, end) in order; a chunk is valid as long as it is held.

        Raises
        ------
        ImporterError
            The file is damaged, or samples differ in shape.
        ShardIOError
            The system refused to read.
        """

    def close(self) -> None:
        """Close the file; may be called again."""


@runtime_checkable
class ScalarSource(Protocol):
    """A source that reads scalars without images; what else a source may offer."""

    def scalar_columns(self) -> dict[str, NDArray[Any]]:
        """Return the scalars of all samples by name, each [n_samples]."""


def read_scalars(source: ImageSource) -> dict[str, NDArray[Any]]:
    """Return the scalars of all samples by name, each [n_samples].

    Images are passed over where the source can do that, and read along where it cannot.
    """
    if isinstance(source, ScalarSource):
        return source.scalar_columns()
    parts = {field.name: [np.empty(0, field.dtype)] for field in source.schema.scalars}
    for _, scalars in source.chunks(0, source.n_samples):
        for name, values in parts.items():
            values.append(np.array(scalars[name]))  # a copy: a view would hold the images
    return {name: np.concatenate(values) for name, values in parts.items()}


def find_geometry(where: str, dims: Sequence[int], options: ImportOptions) -> Geometry:
    """Return the geometry of an image whose nesting in the file is `dims`.

    Parameters
    ----------
    where : str
        Column and file, for messages.
    dims : sequence of int
        One number for a flat list, three for a nested one.
    options : ImportOptions

    Raises
    ------
    ConfigError
        The options contradict the file, or do not suffice.

    Examples
    --------
    >>> find_geometry("X_jets: a.parquet", (125000,), ImportOptions())
    Geometry(shape=(8, 125, 125), layout='HWC')
    >>> find_geometry("X_jet: b.parquet", (13, 125, 125), ImportOptions())
    Geometry(shape=(13, 125, 125), layout='CHW')
    """
    if len(dims) == 1:
        return Geometry(_flat_shape(where, dims[0], options), options.layout or "HWC")
    first, second, third = dims
    shapes: dict[Layout, tuple[int, int, int]] = {
        "CHW": (first, second, third),
        "HWC": (third, first, second),
    }
    if options.layout is not None:
        layout: Layout = options.layout
    else:
        fitting = [name for name, shape in shapes.items() if _fits(shape, options)]
        guess: Layout = "CHW" if first == min(dims) else "HWC"
        layout = guess if guess in fitting or not fitting else fitting[0]
    if not _fits(shapes[layout], options):
        expected = options.shape or f"{len(options.given_channels() or ())} channels"
        raise ConfigError(
            f"shape of images differs: {where}: found nested lists of {list(dims)}, which as "
            f"{layout} is C, H, W = {shapes[layout]}, expected {expected}; "
            "mend shape, layout or channels"
        )
    return Geometry(shapes[layout], layout)


def _fits(shape: tuple[int, int, int], options: ImportOptions) -> bool:
    channels = options.given_channels()
    return options.shape in (None, shape) and (channels is None or len(channels) == shape[0])


def _flat_shape(where: str, n_pixels: int, options: ImportOptions) -> tuple[int, int, int]:
    if options.shape is not None:
        if math.prod(options.shape) != n_pixels:
            raise ConfigError(
                f"shape of images differs: {where}: found flat lists of {n_pixels} numbers, "
                f"expected C x H x W = {options.shape} = {math.prod(options.shape)}; mend shape"
            )
        return options.shape
    channels = options.given_channels()
    presets = {len(preset.channels) for preset in PRESETS.values()}
    counts = sorted(presets) if channels is None else [len(channels)]
    for edge in EDGES:
        n_channels, rest = divmod(n_pixels, edge * edge)
        if rest == 0 and n_channels in counts:
            return (n_channels, edge, edge)
    raise ConfigError(
        f"shape of images unknown: {where}: found flat lists of {n_pixels} numbers, expected "
        f"{' or '.join(map(str, counts))} channels of {' or '.join(f'{e} x {e}' for e in EDGES)}; "
        "pass shape as C, H, W"
    )


def make_schema(
    where: str,
    image: str,
    geometry: Geometry,
    scalars: Sequence[tuple[str, str]],
    options: ImportOptions,
) -> Schema:
    """Return the schema of a source.

    Parameters
    ----------
    where : str
        Column and file, for messages.
    image : str
        Name of the image column.
    geometry : Geometry
    scalars : sequence of (str, str)
        Name and numpy dtype of each scalar column.
    options : ImportOptions

    Raises
    ------
    ConfigError
        The channels were not given and the published sets do not tell.
    """
    channels = options.given_channels()
    if channels is None:
        channels = _recognised(where, image, [name for name, _ in scalars], geometry, options)
    if len(channels) != geometry.shape[0]:
        raise ConfigError(
            f"number of channels differs: {where}: found {geometry.shape[0]}, expected "
            f"{len(channels)}: {', '.join(channel.name for channel in channels)}; mend channels"
        )
    _, height, width = geometry.shape
    try:
        fields = tuple(ScalarField(name, dtype, scalar_unit(name)) for name, dtype in scalars)
    except ConfigError as error:
        raise ConfigError(f"{error}: beside {where}; rename it in the file, or drop it") from error
    return Schema(ImageField(image, channels, height, width, options.precision), fields)


def _recognised(
    where: str,
    image: str,
    scalars: Collection[str],
    geometry: Geometry,
    options: ImportOptions,
) -> tuple[Channel, ...]:
    preset = recognise(image, scalars, geometry.shape)
    if preset is None:
        raise ConfigError(
            f"channels unknown: {where}: found {geometry.shape[0]} channels of "
            f"{geometry.shape[1]} x {geometry.shape[2]}, expected one of the published sets "
            f"({', '.join(PRESETS)}); pass channels, their names in the order of the file"
        )
    return _with_units(preset.channels, options.units)
