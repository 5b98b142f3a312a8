"""The sources of a conversion: files, directories and lists of files, opened once for the plan."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Final

from e2eio.conversion.plan import Label, SourceFile
from e2eio.errors import ConfigError, ImporterError, SchemaMismatchError
from e2eio.importers import ImportOptions, open_source, recognise_format
from e2eio.importers.files import first_bytes, system_error
from e2eio.remote import RemoteUrl, is_url
from e2eio.schema import Schema

__all__ = ["Sources", "common_schema", "expand", "labels_of", "read_source"]

Sources = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

_LIST_MARK: Final = "@"
_INT64_END: Final = 1 << 63


def labels_of(labels: Sequence[object] | None, field: str) -> tuple[Label, ...] | None:
    """Return the label of each source, all int64 or all float64.

    Raises
    ------
    ConfigError
        One is no number.

    Examples
    --------
    >>> labels_of([0, 1.5], "y")
    (('y', 0.0), ('y', 1.5))
    """
    if labels is None:
        return None
    numbers: list[int | float] = []
    for label in labels:
        if not isinstance(label, Real):
            raise ConfigError(f"wrong label: found {label!r}, expected numbers, one per source")
        number = int(label) if isinstance(label, Integral) else float(label)
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        numbers.append(number if -_INT64_END <= number < _INT64_END else float(number))
    if not all(isinstance(number, int) for number in numbers):
        numbers = [float(number) for number in numbers]
    return tuple((field, number) for number in numbers)


def expand(
    sources: Sources, labels: tuple[Label, ...] | None
) -> tuple[list[tuple[str, Label | None]], list[str]]:
    """Return the files that `sources` stand for, each with its label, and notes on what was not taken.

    Parameters
    ----------
    sources : path or iterable of paths
        A directory stands for the files of known formats in it, by name; a text ``@list.txt`` for
        what the lines of that file name.
    labels : tuple of Label or None
        One per element of `sources`; all files of a directory or list get the same.

    Raises
    ------
    ConfigError
        Not as many labels as sources, or a directory or list without files.
    ImporterError
        A directory holds an empty file.
    """
    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    names = [RemoteUrl(source) if is_url(source) else os.fspath(source) for source in given]
    if labels is not None and len(labels) != len(names):
        raise ConfigError(
            f"wrong number of labels: found {len(labels)} for {len(names)} sources, expected one "
            "for each, in order"
        )
    files: list[tuple[str, Label | None]] = []
    notes: list[str] = []
    for index, name in enumerate(names):
        label = None if labels is None else labels[index]
        for listed in _listed(name):
            files += [(file, label) for file in _files(listed, notes)]
    return files, notes


def _listed(name: str) -> list[str]:
    """Return the lines of a list of files, or the name of anything else."""
    if not name.startswith(_LIST_MARK) or Path(name).exists():
        return [name]
    path = name.removeprefix(_LIST_MARK)
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise system_error(path, error) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"no list of files: {path}: found {error}, expected a text") from None
    names = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    names = [RemoteUrl(each) if is_url(each) else each for each in names]
    if not names:
        raise ConfigError(f"empty list of files: {path}: expected a path on each line")
    return names


def _files(name: str, notes: list[str]) -> list[str]:
    """Return the files that a path stands for."""
    if "://" in name or not Path(name).is_dir() or _is_source(name):
        return [name]
    found = []
    for path in sorted(Path(name).iterdir()):
        if path.name.startswith((".", "_")):  # as of Spark, Hive and file managers
            continue
        if _is_source(str(path)):
            found.append(str(path))
        elif path.is_dir():
            notes.append(f"{path}: left out: a directory within a directory; name it to convert it")
        elif not first_bytes(str(path), 1):
            raise ImporterError(
                f"empty file: {path}: found no bytes, expected a file of images; fetch it again, or "
                "remove it from the directory",
                str(path),
            )
        else:
            notes.append(f"{path}: left out: of no known format")
    if not found:
        raise ConfigError(f"no sources: {name}: found no file of a known format in the directory")
    return found


def _is_source(path: str) -> bool:
    try:
        recognise_format(path)
    except ImporterError:
        return False
    return True


def read_source(
    path: str, label: Label | None, options: ImportOptions
) -> tuple[Schema, SourceFile]:
    """Open a source and return its schema, and what the plan needs to know of it.

    Raises
    ------
    E2eioError
        As `importers.open_source`.
    """
    source = open_source(path, replace(options, label=label))
    try:
        return source.schema, SourceFile(
            path,
            source.n_bytes,
            source.n_samples,
            source.fingerprint,
            source.geometry,
            source.cuts,
            source.skipped,
            label,
        )
    finally:
        source.close()


def common_schema(sources: Iterable[tuple[Schema, SourceFile]]) -> Schema:
    """Return the schema that all sources have.

    Raises
    ------
    ConfigError
        There are no sources.
    SchemaMismatchError
        Two differ in schema.
    """
    first: tuple[Schema, SourceFile] | None = None
    for schema, file in sources:
        if first is None:
            first = schema, file
        elif schema != first[0]:
            raise _mismatch(first[1].path, first[0], file.path, schema)
    if first is None:
        raise ConfigError("no sources: found an empty list, expected at least one file")
    return first[0]


def _mismatch(
    first_path: str, first: Schema, second_path: str, second: Schema
) -> SchemaMismatchError:
    for name, one, other in _parts(first, second):
        if one != other:
            return SchemaMismatchError(
                f"schemas differ: {second_path} and {first_path}: found {name} {other}, expected "
                f"{one} as in the latter; convert them apart, leave one out, or mend rename and "
                "scalars",
                second_path,
            )
    return SchemaMismatchError(
        f"schemas differ: {second_path} and {first_path}; convert them apart", second_path
    )


def _parts(first: Schema, second: Schema) -> list[tuple[str, object, object]]:
    one, other = (
        [f"{scalar.name} ({scalar.dtype})" for scalar in schema.scalars]
        for schema in (first, second)
    )
    return [
        ("image", first.image.name, second.image.name),
        ("shape C, H, W", first.image.shape, second.image.shape),
        ("channels", list(first.channels), list(second.channels)),
        ("scalars", one, other),
    ]
