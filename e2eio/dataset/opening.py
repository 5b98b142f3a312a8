"""What shards a path stands for: a file, a directory, or what is made of files of other formats."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from e2eio import _core, manifest
from e2eio.errors import (
    ConfigError,
    CorruptShardError,
    E2eioError,
    SchemaMismatchError,
    ShardNotFoundError,
)
from e2eio.remote import RemoteUrl, StorageOptions, is_url
from e2eio.schema import Schema
from e2eio.shards import StoredShards

if TYPE_CHECKING:
    from e2eio.importers import ImportOptions
    from e2eio.shards import ShardPart

__all__ = ["check_schemas", "open_parts"]

_MAGIC: Final = b"\x89E2E\r\n\x1a\n"  # docs/format.md

_Opened = tuple[list[_core.ShardReader], tuple[manifest.ChannelStatistics, ...] | None]


def open_parts(
    sources: Sequence[str | os.PathLike[str] | _core.ShardReader],
    cache: str | os.PathLike[str] | None,
    import_options: ImportOptions | None,
    storage_options: StorageOptions,
) -> list[ShardPart]:
    """Open what a dataset was told to be: paths or URLs of shards, or of files of other formats.

    Raises
    ------
    ConfigError
        Both kinds are in one list, or options of the latter are given for the former.
    """
    foreign = [_is_foreign(each) for each in sources]
    if any(foreign) or cache is not None:  # the cache may have what is not there any more
        foreign = [known or _is_missing(each) for known, each in zip(foreign, sources, strict=True)]
    if not any(foreign):
        remote = any(is_url(each) for each in sources)
        for name, value in (
            ("cache", None if remote else cache),
            ("import_options", import_options),
        ):
            if value is not None:
                raise ConfigError(
                    f"{name} is {value!r} for {sources[0]!r}; expected URLs, or files of other formats: "
                    "local shards need none"
                )
        return [StoredShards(*_open(each, cache, storage_options)) for each in sources]
    if not all(foreign):
        raise ConfigError(
            f"shards and files of other formats: found {sources[foreign.index(True)]!r} and "
            f"{sources[foreign.index(False)]!r} in one list; expected one kind: convert the former"
        )
    from e2eio.direct import open_direct  # starts processes, which most programs need not know
    from e2eio.importers import ImportOptions

    paths = [os.fspath(each) for each in sources if not isinstance(each, _core.ShardReader)]
    return [open_direct(paths, cache, import_options or ImportOptions())]


def check_schemas(parts: Sequence[ShardPart]) -> None:
    """Raise SchemaMismatchError if the shards hold different fields."""
    first = parts[0].schema
    for part in parts:
        for index, reader in enumerate(part.readers):
            schema = part.schema if isinstance(reader, _core.LateShard) else _schema_of(reader)
            if schema != first:
                raise SchemaMismatchError(
                    f"schemas differ: {parts[0].path_of(0)} and {part.path_of(index)}; "
                    "load them as separate datasets",
                    path=part.path_of(index),
                )
            if isinstance(reader, _core.LateShard):
                break  # a plan's shards have one schema


def _is_missing(source: str | os.PathLike[str] | _core.ShardReader) -> bool:
    if isinstance(source, _core.ShardReader) or is_url(source):
        return False
    return not os.path.exists(source)  # noqa: PTH110 - it may hold a NUL


def _schema_of(reader: _core.ShardReader) -> Schema:
    return Schema.from_core(reader.schema)


def _is_foreign(source: str | os.PathLike[str] | _core.ShardReader) -> bool:
    if isinstance(source, _core.ShardReader):
        return False
    text = os.fspath(source)
    path = Path(text)
    if "\0" in text:
        return False  # no path at all
    if is_url(text) and PurePosixPath(RemoteUrl(text).name).suffix in ("", ".e2e"):
        return False  # others are looked into
    if path.is_dir() and ((path / manifest.FILE_NAME).exists() or any(path.glob("*.e2e"))):
        return False
    try:
        with path.open("rb") as stream:
            if stream.read(len(_MAGIC)) == _MAGIC:
                return False
    except OSError:
        pass  # missing, a directory, or a URL
    from e2eio.importers import recognise_format

    try:
        recognise_format(text)
    except (E2eioError, OSError):
        return False  # the error is that of a shard
    return True


def _open(
    source: str | os.PathLike[str] | _core.ShardReader,
    cache: str | os.PathLike[str] | None,
    storage_options: StorageOptions,
) -> _Opened:
    if isinstance(source, _core.ShardReader):
        return [source], None
    text = os.fspath(source)
    if is_url(text):
        from e2eio.remote.opening import open_dataset  # brings in asyncio

        return open_dataset(RemoteUrl(source), storage_options, cache)
    path = Path(text)
    if not path.is_dir():
        return [_core.ShardReader(text)], None
    if (path / manifest.FILE_NAME).exists():
        return _open_listed(path)
    shards = sorted(path.glob("*.e2e"))
    if not shards:
        raise ShardNotFoundError(
            f"no dataset: {text}: found neither {manifest.FILE_NAME} nor *.e2e; "
            "make one with 'e2eio convert'",
            path=text,
        )
    return [_core.ShardReader(str(shard)) for shard in shards], None


def _open_listed(directory: Path) -> _Opened:
    listed = manifest.read(directory)
    readers = []
    for entry in listed.shards:
        reader = _core.ShardReader(str(directory / entry.file))
        if reader.digest != entry.digest or reader.n_samples != entry.n_samples:
            raise CorruptShardError(
                f"wrong shard: {reader.path}: found digest {reader.digest}, expected {entry.digest} "
                f"from {manifest.FILE_NAME}; convert the dataset again",
                path=reader.path,
            )
        readers.append(reader)
    if not readers:
        raise ShardNotFoundError(f"no dataset: {directory}: lists no shards", path=str(directory))
    return readers, listed.statistics
