"""Files that hold named arrays (HDF5, Zarr): which of them are the images, which the scalar fields.

The rules are the published sets': images under one of a few names, labels as `y` or `Y` beside them
or in a column of a table `*_meta`. A table does not say which column that is; it follows from the set,
or is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from e2eio.errors import ConfigError, ImporterError
from e2eio.importers.source import Geometry, ImportOptions, find_geometry, make_schema
from e2eio.presets import IMAGE_COLUMNS, KNOWN_SCALARS, LABELS, recognise
from e2eio.schema import DTYPES

if TYPE_CHECKING:
    from e2eio.schema import Schema

__all__ = ["ArrayInfo", "Column", "Selection", "select", "shown"]

_FLOATS: Final = ("float16", "float32", "float64")
_SHOWN: Final = 16
#: Where the published tables `*_meta` have the label: quark-gluon last, top first.
_LABEL_COLUMN: Final = {"quark-gluon": -1, "boosted-top": 0}


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """An array of a file.

    Parameters
    ----------
    path : str
        Within the file, without a slash at the beginning.
    shape : tuple of int
    dtype : str
        As numpy calls it, whatever its byte order.
    obstacle : str
        Why it cannot be read; empty: it can.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    obstacle: str = ""

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def group(self) -> str:
        """The path without the name."""
        return self.path.rpartition("/")[0]

    def __str__(self) -> str:
        what = self.obstacle or f"{self.dtype} {list(self.shape)}"
        return f"{self.path} ({what})"


@dataclass(frozen=True, slots=True)
class Column:
    """A scalar field.

    Parameters
    ----------
    name : str
    array : ArrayInfo
        [n], [n, 1], or a table [n, k].
    index : int
        Column of the table.
    """

    name: str
    array: ArrayInfo
    index: int = 0

    @property
    def dtype(self) -> str:
        """Of the field; half precision is widened."""
        return "float32" if self.array.dtype == "float16" else self.array.dtype


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a file becomes samples.

    Parameters
    ----------
    images : tuple of ArrayInfo
        One, or several that are stacked to channels.
    columns : tuple of Column
    geometry : Geometry
    schema : Schema
    skipped : tuple of str
        Arrays left out, each with dtype and shape.
    """

    images: tuple[ArrayInfo, ...]
    columns: tuple[Column, ...]
    geometry: Geometry
    schema: Schema
    skipped: tuple[str, ...]

    @property
    def n_samples(self) -> int:
        """Samples in the file."""
        return self.images[0].shape[0]


def shown(arrays: Sequence[ArrayInfo]) -> str:
    """Return the arrays as a message lists them."""
    texts = [str(array) for array in arrays[:_SHOWN]]
    if len(arrays) > _SHOWN:
        texts.append(f"{len(arrays) - _SHOWN} more")
    return ", ".join(texts) or "no arrays"


def select(path: str, arrays: Sequence[ArrayInfo], options: ImportOptions) -> Selection:
    """Return which arrays are the images and which the scalar fields.

    Parameters
    ----------
    path : str
        Of the file, for messages.
    arrays : sequence of ArrayInfo
    options : ImportOptions

    Raises
    ------
    ImporterError
        There are no images, or what there is cannot be imported.
    ConfigError
        What the arrays mean is not clear, or is not what the options say.

    Examples
    --------
    >>> arrays = [ArrayInfo("jet", (8, 125, 125, 8), "float32"), ArrayInfo("Y", (8, 1), "float32")]
    >>> found = select("a.h5", arrays, ImportOptions())
    >>> found.schema.field_names, found.geometry.layout
    (('jet', 'Y'), 'HWC')
    """
    images = _images(path, arrays, options)
    for image in images:
        _check_image(path, image, images[0], arrays)
    name = _field_name(images)
    where = f"{', '.join(image.path for image in images)} of {path}"
    geometry = find_geometry(where, _dims(images), options)
    columns, tables, skipped = _columns(path, arrays, images)
    names = [column.name for column in columns]
    preset = options.preset
    if preset is None and options.channels is None:
        known = recognise(name, names, geometry.shape)
        preset = known.name if known is not None else None
    for table in tables:
        columns += _table_columns(path, table, preset, names, options)
    fields = [(column.name, column.dtype) for column in columns]
    schema = make_schema(where, name, geometry, fields, options)
    return Selection(images, tuple(columns), geometry, schema, tuple(skipped))


def _is_image_name(name: str) -> bool:
    return name in IMAGE_COLUMNS or name.endswith("_jet")


def _images(
    path: str, arrays: Sequence[ArrayInfo], options: ImportOptions
) -> tuple[ArrayInfo, ...]:
    if options.image is not None:
        wanted = options.image.split(",")
        return tuple(_named(path, name.strip(), arrays) for name in wanted)
    found = [array for array in arrays if _is_image_name(array.name)]
    for rank in (4, 3):
        if not found:
            numbers = [array for array in arrays if array.dtype in _FLOATS]
            found = [array for array in numbers if len(array.shape) == rank]
    if len(found) == 1:
        return (found[0],)
    if found:
        raise ConfigError(
            f"several arrays of images: {path}: found {shown(found)}, expected one; pass image, "
            "the name of one, or names with commas between, to be stacked to channels"
        )
    raise ImporterError(
        f"no array of images: {path}: found {shown(arrays)}, expected one of [n, H, W, C] or "
        f"[n, C, H, W], as {', '.join(IMAGE_COLUMNS)}; check that this is a file of images",
        path,
    )


def _named(path: str, wanted: str, arrays: Sequence[ArrayInfo]) -> ArrayInfo:
    name = wanted.strip("/")
    exact = [array for array in arrays if array.path == name]
    found = exact or [array for array in arrays if array.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"several arrays of images: {path}: found {shown(found)}, expected one {wanted!r}; "
            "pass image with the group, as group/name"
        )
    raise ConfigError(
        f"no such array of images: {path}: found {shown(arrays)}, expected {wanted!r}; mend image"
    )


def _check_image(
    path: str, image: ArrayInfo, first: ArrayInfo, arrays: Sequence[ArrayInfo]
) -> None:
    _check_readable(path, image)
    there = f"the file has {shown(arrays)}"
    if image.dtype not in _FLOATS:
        raise ImporterError(
            f"wrong dtype of images: {path}: found {image}, expected {', '.join(_FLOATS)}; "
            f"convert the array, or pass image; {there}",
            path,
        )
    if len(image.shape) not in (2, 3, 4):
        raise ImporterError(
            f"wrong rank of images: {path}: found {image}, expected [n, H, W, C], [n, C, H, W], "
            f"[n, H, W] or [n, C*H*W]; reshape the array, or pass image; {there}",
            path,
        )
    if 0 in image.shape:
        raise ImporterError(
            f"no samples: {path}: found {image}, expected at least one; leave out the file", path
        )
    if image is not first and (len(image.shape) != 3 or image.shape != first.shape):
        raise ConfigError(
            f"arrays to stack differ: {path}: found {image} and {first}, expected equal shapes "
            "[n, H, W]; mend image"
        )
    if image is not first and image.dtype != first.dtype:
        raise ConfigError(
            f"arrays to stack differ: {path}: found {image} and {first}, expected one dtype; "
            "convert them apart"
        )


def _check_readable(path: str, array: ArrayInfo) -> None:
    if array.obstacle:
        raise ImporterError(
            f"array cannot be read: {path}: found {array}, expected its numbers in this file; "
            "copy them into it",
            path,
        )


def _dims(images: Sequence[ArrayInfo]) -> tuple[int, ...]:
    dims = images[0].shape[1:]
    return (len(images), *dims) if len(dims) == 2 else dims


def _field_name(images: Sequence[ArrayInfo]) -> str:
    """Return the name of the one array, or what the names of several begin with."""
    name = images[0].name
    for image in images[1:]:
        while not image.name.startswith(name):
            name = name[:-1]
    return name or "X"


def _columns(
    path: str, arrays: Sequence[ArrayInfo], images: Sequence[ArrayInfo]
) -> tuple[list[Column], list[ArrayInfo], list[str]]:
    """Return scalar fields, tables, and what is left out."""
    columns: dict[str, Column] = {}
    tables, skipped = [], []
    n_samples = images[0].shape[0]
    # Arrays of the images' own group come before those of the groups around it.
    for array in sorted(arrays, key=lambda array: -len(array.group)):
        if array in images:
            continue
        other = array.name.endswith("_meta") and not _is_table(array, images[0])
        if other or not _is_beside(array, images[0]) or array.name in columns:
            skipped.append(str(array))
        elif array.obstacle and array.name in KNOWN_SCALARS:
            _check_readable(path, array)
        elif _is_table(array, images[0]):
            tables.append(array)
        elif _is_scalar(array) and array.shape[0] == n_samples:
            columns[array.name] = Column(array.name, array)
        elif array.name in KNOWN_SCALARS and array.group == images[0].group:
            _check_scalar(path, array, images[0])
            skipped.append(str(array))
        else:
            skipped.append(str(array))
    return list(columns.values()), tables, skipped


def _is_beside(array: ArrayInfo, image: ArrayInfo) -> bool:
    return array.group in ("", image.group) or image.group.startswith(array.group + "/")


def _is_scalar(array: ArrayInfo) -> bool:
    known = array.dtype in DTYPES or array.dtype == "float16"
    return (
        known
        and not array.obstacle
        and len(array.shape) in (1, 2)
        and array.shape[1:] in ((), (1,))
    )


def _is_table(array: ArrayInfo, image: ArrayInfo) -> bool:
    """Tell whether this is the images' table: `train_meta` is that of `train_jet`."""
    wanted = image.name.removesuffix("jet") + "meta" if image.name.endswith("_jet") else "meta"
    fits = len(array.shape) == 2 and array.shape[0] == image.shape[0]
    known = array.dtype in DTYPES or array.dtype == "float16"
    return array.name in (wanted, "meta") and fits and known and not array.obstacle


def _check_scalar(path: str, array: ArrayInfo, image: ArrayInfo) -> None:
    if len(array.shape) in (1, 2) and array.shape[0] != image.shape[0]:
        raise ImporterError(
            f"numbers of samples differ: {path}: found {array} and {image}, expected the same "
            "first dimension; mend the file",
            path,
        )
    if array.name in LABELS:
        raise ImporterError(
            f"wrong labels: {path}: found {array}, expected one number a sample, "
            f"[{image.shape[0]}]; convert the array",
            path,
        )


def _table_columns(
    path: str,
    table: ArrayInfo,
    preset: str | None,
    others: Sequence[str],
    options: ImportOptions,
) -> list[Column]:
    n_columns = table.shape[1]
    if options.meta is not None:
        if len(options.meta) != n_columns:
            raise ConfigError(
                f"wrong number of columns: {path}: found {table}, expected {len(options.meta)}: "
                f"{', '.join(options.meta)}; mend meta, '-' leaves a column out"
            )
        names = list(options.meta)
    else:
        names = [f"meta_{index}" for index in range(n_columns)]
        if n_columns == 1:
            names = ["y"] if "y" not in others else names
        elif not LABELS.intersection(others):
            if preset not in _LABEL_COLUMN:
                raise ConfigError(
                    f"columns of table unknown: {path}: found {table}, expected to know which is "
                    "the label; pass meta, a name for each column, '-' for those to leave out"
                )
            names[_LABEL_COLUMN[preset]] = "y"
    return [Column(name, table, index) for index, name in enumerate(names) if name != "-"]
