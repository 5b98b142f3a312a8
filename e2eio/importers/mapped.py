"""What the caller says of scalar fields, for every format: which to keep, names, and a label.

A wrapper around the source of a format; where there is nothing to change, there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from e2eio.errors import ConfigError
from e2eio.importers.source import Chunk, Geometry, ImageSource, ImportOptions, read_scalars
from e2eio.presets import scalar_unit
from e2eio.schema import ScalarField, Schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MappedSource", "mapped"]


def mapped(source: ImageSource, options: ImportOptions) -> ImageSource:
    """Return `source` with the fields that `options` ask for.

    Raises
    ------
    ConfigError
        A field to keep or to rename does not exist, or two would have one name.

    Examples
    --------
    >>> from e2eio.importers import open_source
    >>> options = ImportOptions(rename=(("jetPt", "pt"),), label=("y", 1))
    >>> source = open_source("electrons.parquet", options)  # doctest: +SKIP
    >>> [field.name for field in source.schema.scalars]  # doctest: +SKIP
    ['pt', 'y']
    """
    if not options.rename and options.scalars is None and options.label is None:
        return source
    return MappedSource(source, options)


class MappedSource:
    """A source with some of its fields, under other names, and with a label; else as the source.

    One thread at a time may use it.

    Parameters
    ----------
    source : ImageSource
        Closed with this one.
    options : ImportOptions
        `rename`, `scalars` and `label` count.

    Raises
    ------
    ConfigError
        As `mapped`.
    """

    def __init__(self, source: ImageSource, options: ImportOptions) -> None:
        self._source = source
        self._label = options.label
        self._columns, self._schema = _fields(source, options)

    @property
    def path(self) -> str:
        """As given."""
        return self._source.path

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return self._source.n_bytes

    @property
    def fingerprint(self) -> bytes:
        """That of the file."""
        return self._source.fingerprint

    @property
    def schema(self) -> Schema:
        """Fields of a sample, as they were asked for."""
        return self._schema

    @property
    def geometry(self) -> Geometry:
        """Order of an image's numbers in the file."""
        return self._source.geometry

    @property
    def n_samples(self) -> int:
        """Samples in the file."""
        return self._source.n_samples

    @property
    def cuts(self) -> NDArray[np.int64]:
        """Where reading may begin cheaply."""
        return self._source.cuts

    @property
    def skipped(self) -> tuple[str, ...]:
        """Columns that were left out although nobody asked for that."""
        return self._source.skipped

    def close(self) -> None:
        """Close the file; may be called again."""
        self._source.close()

    def chunks(self, begin: int, end: int) -> Iterator[Chunk]:
        """Yield the samples [begin, end) in order; errors as those of the format."""
        for images, scalars in self._source.chunks(begin, end):
            yield images, self._mapped(scalars, len(images))

    def scalar_columns(self) -> dict[str, NDArray[Any]]:
        """Return the scalars of all samples by name, each [n_samples]."""
        return self._mapped(read_scalars(self._source), self.n_samples)

    def _mapped(self, scalars: dict[str, NDArray[Any]], n_samples: int) -> dict[str, NDArray[Any]]:
        columns = {new: scalars[old] for old, new in self._columns.items()}
        if self._label is not None:
            name, value = self._label
            columns[name] = np.full(n_samples, value, dtype=_dtype(value))
        return columns


def _dtype(value: float) -> str:
    return "int64" if isinstance(value, int) else "float64"


def _fields(source: ImageSource, options: ImportOptions) -> tuple[dict[str, str], Schema]:
    """Return the new name of each scalar that is kept, by its name in the file; and the schema."""
    schema, path = source.schema, source.path
    there = [field.name for field in schema.scalars]
    rename = dict(options.rename)
    known = {*there, schema.image.name}
    wrong = [name for name in [*rename, *(options.scalars or ())] if name not in known]
    if wrong or schema.image.name in (options.scalars or ()):
        raise ConfigError(
            f"no such scalar field: {path}: found {there}, expected {(wrong or ['scalars'])[0]!r}; "
            "mend rename or scalars, which take names as they are in the file"
        )
    kept = [
        field
        for field in schema.scalars
        if options.scalars is None or field.name in options.scalars
    ]
    fields = [
        replace(field, name=new, unit=scalar_unit(new) or field.unit)
        for field in kept
        for new in [rename.get(field.name, field.name)]
    ]
    if options.label is not None:
        name, value = options.label
        if any(field.name == name for field in fields):
            raise ConfigError(
                f"label is there already: {path}: found a field {name!r}, expected none, as labels "
                "are given; name the label otherwise (label_field), rename the field, or leave it "
                "out (scalars)"
            )
        fields.append(ScalarField(name, _dtype(value)))
    image = replace(schema.image, name=rename.get(schema.image.name, schema.image.name))
    names = [image.name, *(field.name for field in fields)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"two fields of one name: {path}: found {twice[0]!r} twice after renaming, expected "
            "names that differ; mend rename, or leave one out (scalars)"
        )
    columns = {old.name: new.name for old, new in zip(kept, fields, strict=False)}
    return columns, Schema(image, tuple(fields))
