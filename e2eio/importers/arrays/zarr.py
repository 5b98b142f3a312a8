"""Zarr stores, of version 2 and 3, in directories and zip files: arrays named as in the HDF5 files.

A chunk that is not there reads as the fill value, and writers leave out chunks of nothing but that.
So a lost file cannot be told from an empty chunk, but where chunks hold whole images: a jet of zeros
alone does not occur, and is refused.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.errors import E2eioError, ImporterError, MissingDependencyError
from e2eio.importers.arrays.blocks import ArraySource
from e2eio.importers.arrays.selection import ArrayInfo, select
from e2eio.importers.arrays.zstd_chunks import ZstdLayout, read_rows
from e2eio.importers.files import system_error

try:
    import zarr
except ImportError as error:  # pragma: no cover - exercised without the extra
    raise MissingDependencyError(
        "package zarr is missing: it reads Zarr stores; run pip install 'e2eio[zarr]'"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.importers.source import ImportOptions

__all__ = ["ZarrSource"]

_MAX_ARRAYS: Final = 10_000
_MAX_DEPTH: Final = 16
_MAX_CHUNK_BYTES: Final = 1 << 30
_MAX_EMPTY: Final = 1000  # chunks without a file for one with
_END_BYTES: Final = 1 << 16

#: Codecs of numbers. Others are refused: `pickle` runs what the file says.
_CODECS: Final = frozenset(
    (
        *("bytes", "transpose", "sharding_indexed", "crc32c", "crc32", "adler32", "fletcher32"),
        *("gzip", "zlib", "bz2", "lzma", "lz4", "zstd", "blosc", "shuffle", "delta", "bitround"),
    )
)


class ZarrSource(ArraySource):
    """A Zarr store, opened; one thread at a time may use it.

    Parameters
    ----------
    path : str
        A directory, or a zip file.
    options : ImportOptions

    Raises
    ------
    ImporterError
        The store is damaged or incomplete, or has no array of images.
    ConfigError
        What the arrays mean is not clear, or is not what the options say.

    Examples
    --------
    >>> source = ZarrSource("jets.zarr", ImportOptions())  # doctest: +SKIP
    >>> images, scalars = next(source.chunks(0, 2))  # doctest: +SKIP
    """

    def __init__(self, path: str, options: ImportOptions) -> None:
        self._store: Any = None
        try:
            with _translated(path, ""):
                n_bytes, n_files, fingerprint = _measured(path)
                self._store = _store(path)
                arrays = dict(_arrays(path, zarr.open(self._store, mode="r")))
                described = [_described(name, array) for name, array in arrays.items()]
            selection = select(path, described, options)
            used = [*selection.images, *{column.array for column in selection.columns}]
            with _translated(path, ""):
                for info in used:
                    _check(path, arrays[info.path], n_files, info in selection.images)
            super().__init__(
                path,
                n_bytes,
                fingerprint,
                selection,
                lambda info: _Rows(path, arrays[info.path]),
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the store; may be called again."""
        if self._store is not None:
            self._store.close()


class _Rows:
    """Rows of an array; zarr decodes the chunks of one read in its own threads."""

    def __init__(self, path: str, array: Any) -> None:
        self._path = path
        self._array = array
        self.step: int = int((array.shards or array.chunks)[0])
        self.is_plain = False
        self._zstd = _zstd_layout(path, array)

    def read(self, begin: int, end: int) -> NDArray[Any]:
        where = f", {self._array.path}, samples {begin} to {end - 1}"
        with _translated(self._path, where, begin):
            rows = None if self._zstd is None else read_rows(self._zstd, begin, end)
            if rows is None:
                rows = np.asarray(self._array[begin:end])
        if rows.shape != (end - begin, *self._array.shape[1:]):
            raise ImporterError(
                f"damaged Zarr store: {self._path}{where}: found shape {rows.shape}, expected "
                f"{end - begin} rows; copy the store again",
                self._path,
                sample=begin,
            )
        return rows if rows.dtype.isnative else rows.astype(rows.dtype.newbyteorder("="))


def _zstd_layout(path: str, array: Any) -> ZstdLayout | None:
    """Return how the array is stored, if `read_rows` can read it: what zarr writes unless told otherwise."""
    metadata = array.metadata
    if metadata.zarr_format != 3 or array.shards or not os.path.isdir(path):  # noqa: PTH112
        return None
    codecs = [codec.to_dict() for codec in metadata.codecs]
    if [codec["name"] for codec in codecs] != ["bytes", "zstd"]:
        return None
    order = codecs[0].get("configuration", {}).get("endian", sys.byteorder)
    dtype = np.dtype(array.dtype)
    whole = tuple(array.chunks[1:]) == tuple(array.shape[1:])
    if order != sys.byteorder or not dtype.isnative or dtype.kind not in "fiu" or not whole:
        return None
    folder: Path = Path(path) / array.path
    more = (0,) * (len(array.shape) - 1)

    def file_of(chunk: int) -> Path:
        return folder / str(metadata.encode_chunk_key((chunk, *more)))

    return ZstdLayout(tuple(array.shape), int(array.chunks[0]), dtype, file_of)


def _store(path: str) -> Any:
    if os.path.isdir(path):  # noqa: PTH112 - the path is used as given
        return zarr.storage.LocalStore(path, read_only=True)
    return zarr.storage.ZipStore(path, mode="r")


def _arrays(path: str, top: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(top, zarr.Array):
        yield Path(path).name.partition(".")[0], top
        return
    pending = [("", top, 0)]
    n_members = 0
    while pending:
        prefix, group, depth = pending.pop()
        for name, member in sorted(group.members(max_depth=0)):
            n_members += 1
            if n_members > _MAX_ARRAYS:
                raise ImporterError(
                    f"too many arrays: {path}: found more than {_MAX_ARRAYS} arrays and groups, "
                    "expected a few arrays of many samples; stack them",
                    path,
                )
            if isinstance(member, zarr.Array):
                yield prefix + name, member
            elif depth < _MAX_DEPTH:
                pending.append((f"{prefix}{name}/", member, depth + 1))


def _described(name: str, array: Any) -> ArrayInfo:
    kind = array.dtype
    dtype = kind.newbyteorder("=").name if kind.kind in "fiub" else str(kind)
    return ArrayInfo(name, tuple(map(int, array.shape)), dtype)


def _codecs(array: Any) -> Iterator[str]:
    """Yield the names of all codecs of an array, those within shards too."""
    metadata = array.metadata
    if metadata.zarr_format == 2:
        codecs = [
            *(metadata.filters or ()),
            *([metadata.compressor] if metadata.compressor else ()),
        ]
        yield from (str(codec.get_config()["id"]) for codec in codecs)
        return
    pending = [codec.to_dict() for codec in metadata.codecs]
    while pending:
        codec = pending.pop()
        yield str(codec["name"]).removeprefix("numcodecs.")
        settings = codec.get("configuration", {})
        for key in ("codecs", "index_codecs"):
            inner = settings.get(key, ())
            pending += [item if isinstance(item, Mapping) else item.to_dict() for item in inner]


def _check(path: str, array: Any, n_files: int, is_image: bool) -> None:
    """Refuse codecs that are not known to be harmless, too large chunks, and what is not there."""
    where = f"{array.path or 'the array'} of {path}"
    unknown = sorted({*_codecs(array)} - _CODECS)
    if unknown:
        raise ImporterError(
            f"unknown codec: {where}: found {', '.join(unknown)}, expected some of "
            f"{', '.join(sorted(_CODECS))}; write the array again with one of these",
            path,
        )
    chunk = array.shards or array.chunks
    n_bytes = math.prod(chunk) * array.dtype.itemsize
    if n_bytes > _MAX_CHUNK_BYTES:
        raise ImporterError(
            f"chunks too large: {where}: found {n_bytes} bytes each, expected at most "
            f"{_MAX_CHUNK_BYTES}; write the array again with smaller ones",
            path,
        )
    if not is_image:
        return
    n_chunks = int(array.nchunks)
    inner = math.prod(-(-n // c) for n, c in zip(chunk, array.chunks, strict=True))
    # What is stored is counted by looking for every chunk: not where there are too many to look for.
    n_stored = int(array.nchunks_initialized) if n_chunks <= _MAX_EMPTY * n_files * inner else 0
    whole = tuple(chunk[1:]) == tuple(array.shape[1:])
    if n_stored == 0 or n_chunks > _MAX_EMPTY * n_stored or (whole and n_stored < n_chunks):
        raise ImporterError(
            f"incomplete array: {where}: found {n_stored} of {n_chunks} chunks, expected all to be "
            "there; copy the store again, or write it with write_empty_chunks",
            path,
        )


def _measured(path: str) -> tuple[int, int, bytes]:
    """Return bytes and files of the store, and a digest of its metadata and of all names and sizes."""
    digest = hashlib.blake2b(digest_size=16)
    if not os.path.isdir(path):  # noqa: PTH112 - the path is used as given
        with Path(path).open("rb") as stream:
            n_bytes = stream.seek(0, os.SEEK_END)
            # The end holds the names, with a checksum of each file.
            stream.seek(max(0, n_bytes - _END_BYTES))
            digest.update(f"{n_bytes}\n".encode() + stream.read())
        with zipfile.ZipFile(path) as archive:
            n_files = len(archive.namelist())
        return n_bytes, n_files, digest.digest()
    n_bytes = n_files = 0
    for folder, names, files in os.walk(path):
        names.sort()
        for name in sorted(files):
            file = Path(folder) / name
            size = file.stat().st_size
            n_files += 1
            n_bytes += size
            digest.update(f"{file.relative_to(path)} {size}\n".encode("utf-8", "surrogateescape"))
            if name in ("zarr.json", ".zarray", ".zgroup"):
                digest.update(file.read_bytes())
    return n_bytes, n_files, digest.digest()


@contextmanager
def _translated(path: str, where: str, sample: int | None = None) -> Iterator[None]:
    """Turn what zarr and its codecs raise into this package's errors."""
    try:
        yield
    except E2eioError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise system_error(path, error) from error
        found = (str(error).splitlines() or [""])[0].strip().rstrip(".") or type(error).__name__
        raise ImporterError(
            f"damaged Zarr store: {path}{where}: found {found!r}, expected a readable array; "
            "copy the store again",
            path,
            sample=sample,
        ) from error
