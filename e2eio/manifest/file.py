"""Reading and writing of ``dataset.json``, which may come from anyone."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Final

from e2eio.errors import (
    ConfigError,
    CorruptShardError,
    ShardIOError,
    ShardNotFoundError,
    UnsupportedFormatError,
)
from e2eio.manifest.content import (
    FORMAT,
    VERSION,
    ChannelStatistics,
    Manifest,
    Provenance,
    ShardEntry,
    SourceEntry,
)
from e2eio.schema import Schema

__all__ = ["FILE_NAME", "io_error", "parse", "read", "write"]

FILE_NAME: Final = "dataset.json"
_MAX_BYTES: Final = 1 << 28
_MAX_DEPTH: Final = 32
_DIGEST: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{32}")
_CONTENT: Final = re.compile(r"[0-9a-f]{32}")
_KEYS: Final = (
    *("format", "version", "schema", "n_samples", "shards", "digest"),
    *("statistics", "provenance"),
)


def io_error(what: str, path: str | os.PathLike[str], error: OSError) -> ShardIOError:
    """Return the error of this package for one of the system's."""
    kind = ShardNotFoundError if isinstance(error, FileNotFoundError) else ShardIOError
    reason = os.strerror(error.errno).lower() if error.errno is not None else str(error)
    return kind(f"{what}: {os.fspath(path)}: {reason}", os.fspath(path), errno=error.errno)


def write(directory: str | os.PathLike[str], manifest: Manifest) -> None:
    """Write ``dataset.json`` so that it is there complete or not at all.

    Raises
    ------
    ShardIOError
        The system refused.
    """
    target = Path(directory) / FILE_NAME
    temporary = target.with_name(f"{FILE_NAME}.e2eio-tmp-{os.getpid()}")
    text = json.dumps(manifest.to_json(), indent=1, allow_nan=False) + "\n"
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
        handle = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise io_error("cannot write", target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def read(directory: str | os.PathLike[str]) -> Manifest:
    """Read and check ``dataset.json``.

    Raises
    ------
    ShardNotFoundError
        There is none.
    CorruptShardError
        It is not what docs/format.md, section 7, says.
    UnsupportedFormatError
        It is of a later version.
    """
    path = Path(directory) / FILE_NAME
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise io_error("cannot read", path, error) from error
    if len(data) > _MAX_BYTES:
        raise _corrupt(path, f"found more than {_MAX_BYTES} bytes, expected less")
    return _from_json(path, _parse(path, data))


def parse(name: str, data: bytes) -> Manifest:
    """Check the content of a ``dataset.json``, `name` in messages; errors are those of :func:`read`."""
    return _from_json(name, _parse(name, data))


def _corrupt(path: Path | str, text: str) -> CorruptShardError:
    return CorruptShardError(
        f"corrupt manifest: {path}: {text}; convert again or restore the file", str(path)
    )


def _parse(path: Path | str, data: bytes) -> dict[str, object]:
    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key occurs twice in one object")
        return found

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"found {text}, expected a finite number")
        return value

    try:
        value = json.loads(
            data.decode(), object_pairs_hook=members, parse_float=number, parse_constant=number
        )
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, f"no valid JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise _corrupt(path, f"found {type(value).__name__}, expected an object")
    _check_depth(path, value)
    return value


def _check_depth(path: Path | str, value: object) -> None:
    level: list[object] = [value]
    for _ in range(_MAX_DEPTH):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return
        level = inner
    raise _corrupt(path, f"found more than {_MAX_DEPTH} levels, expected fewer")


def _from_json(path: Path | str, top: dict[str, object]) -> Manifest:
    if top.get("format") != FORMAT:
        raise _corrupt(path, f"found format {top.get('format')!r}, expected {FORMAT!r}")
    version = top.get("version")
    if isinstance(version, int) and version > VERSION:
        raise UnsupportedFormatError(
            f"unsupported manifest: {path}: found version {version}, expected at most {VERSION}; "
            "update e2eio",
            str(path),
        )
    missing = [key for key in _KEYS if key not in top]
    if missing or version != VERSION or isinstance(version, bool):
        raise _corrupt(path, f"found version {version!r} and no {missing}, expected {list(_KEYS)}")
    try:
        manifest = Manifest(
            Schema.from_json(top["schema"]),
            tuple(_shard(item) for item in _list(top["shards"], "shards")),
            tuple(_statistics(item) for item in _list(top["statistics"], "statistics")),
            _provenance(top["provenance"]),
            _contents(top),
        )
        _check(manifest, top)
    except (ConfigError, TypeError, ValueError) as error:
        raise _corrupt(path, str(error)) from None
    return manifest


def _check(manifest: Manifest, top: dict[str, object]) -> None:
    if manifest.n_samples != _count(top, "n_samples"):
        raise ValueError(
            f"found n_samples {top['n_samples']}, expected the shards' sum {manifest.n_samples}"
        )
    if manifest.digest != top["digest"]:
        raise ValueError(
            f"found digest {top['digest']!r}, expected that of the shards {manifest.digest!r}"
        )
    if manifest.content != top.get("content"):
        raise ValueError(
            f"found content {top.get('content')!r}, expected that of shard_contents "
            f"{manifest.content!r}"
        )
    files = [shard.file for shard in manifest.shards]
    if len(set(files)) != len(files):
        raise ValueError("a shard occurs twice")
    if len(manifest.statistics) != len(manifest.schema.channels):
        raise ValueError(
            f"found statistics of {len(manifest.statistics)} channels, "
            f"expected {len(manifest.schema.channels)}"
        )


def _object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{what}: found {type(value).__name__}, expected an object")
    return value


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"{what}: found {type(value).__name__}, expected a list")
    return value


def _text(members: dict[str, object], key: str) -> str:
    value = members.get(key)
    if not isinstance(value, str):
        raise TypeError(f"{key}: found {value!r}, expected text")
    return value


def _count(members: dict[str, object], key: str) -> int:
    value = members.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise TypeError(f"{key}: found {value!r}, expected 0 to 2^63 - 1")
    return value


def _number(members: dict[str, object], key: str) -> float:
    value = members.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{key}: found {value!r}, expected a number")
    return float(value)


def _shard(value: object) -> ShardEntry:
    members = _object(value, "shard")
    file, digest = _text(members, "file"), _text(members, "digest")
    if not file or file in (".", "..") or "/" in file or "\\" in file or "\0" in file:
        raise ValueError(f"found shard file {file!r}, expected a plain file name")
    if _DIGEST.fullmatch(digest) is None:
        raise ValueError(f"found shard digest {digest!r}, expected 8 and 32 hex digits")
    return ShardEntry(file, _count(members, "n_samples"), _count(members, "n_bytes"), digest)


def _contents(top: dict[str, object]) -> tuple[str, ...] | None:
    if "shard_contents" not in top:  # of a dataset that an earlier version has written
        return None
    contents = _list(top["shard_contents"], "shard_contents")
    for content in contents:
        if not isinstance(content, str) or _CONTENT.fullmatch(content) is None:
            raise ValueError(f"found shard content {content!r}, expected 32 hex digits")
    return tuple(str(content) for content in contents)


def _statistics(value: object) -> ChannelStatistics:
    members = _object(value, "statistics")
    least = None if members.get("min") is None else _number(members, "min")
    most = None if members.get("max") is None else _number(members, "max")
    return ChannelStatistics(
        _count(members, "nonzero"),
        _count(members, "nonfinite"),
        least,
        most,
        _number(members, "sum"),
        _number(members, "sum_squares"),
    )


def _provenance(value: object) -> Provenance:
    members = {"n_zeroed": 0, "n_skipped": 0, **_object(value, "provenance")}
    sources = [_object(item, "source") for item in _list(members.get("sources"), "sources")]
    return Provenance(
        tuple(
            SourceEntry(_text(item, "path"), _count(item, "n_bytes"), _count(item, "n_samples"))
            for item in sources
        ),
        _text(members, "converter"),
        _object(members.get("options"), "options"),
        _text(members, "created"),
        None if members.get("n_rounded") is None else _count(members, "n_rounded"),
        None if members["n_zeroed"] is None else _count(members, "n_zeroed"),
        _count(members, "n_skipped"),
    )
