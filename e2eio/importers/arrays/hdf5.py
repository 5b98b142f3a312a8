"""HDF5 files: images as arrays of four dimensions, channels first or last, stored in any way HDF5 knows.

Deflated chunks are inflated by threads of this package, contiguous arrays read without the library, and
everything else by h5py, in whole chunks (docs/design/0010-hdf5.md). An array with parts that were
never written is refused: HDF5 would read zeros there. So are arrays whose numbers lie in other files.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from e2eio.errors import E2eioError, ImporterError, MissingDependencyError
from e2eio.importers.arrays.blocks import ArraySource, reading_threads
from e2eio.importers.arrays.chunk_inflation import ChunkLayout, InflatedRows
from e2eio.importers.arrays.selection import ArrayInfo, select
from e2eio.importers.files import open_binary, system_error

try:
    import h5py
    from h5py._objects import phil
except ImportError as error:  # pragma: no cover - exercised without the extra
    raise MissingDependencyError(
        "package h5py is missing: it reads HDF5 files; run pip install 'e2eio[hdf5]'"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.importers.source import ImportOptions

__all__ = ["Hdf5Source"]

_AGAIN: Final = "fetch the file again"
_MAX_OBJECTS: Final = 10_000
_MAX_CHUNK_BYTES: Final = 1 << 30
_INFLATED_BYTES: Final = 16 << 10  # chunks below are left to h5py, which takes less time over each
_END_BYTES: Final = 1 << 16  # of both ends of the file, for its fingerprint
_PROBES: Final = 16
_PROBE_BYTES: Final = 4096

#: Filters by number, as H5Zpublic.h has them, and lzf, which h5py brings along.
_FILTERS: Final = {
    **{1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset"},
    32000: "lzf",
}
_OURS: Final = (("deflate",), ("shuffle", "deflate"))
#: What a stored byte gives at most: 1,032 of deflate (zlib's manual), 88 of lzf (264 for 3).
_MAX_RATIO: Final = {"deflate": 1040, "lzf": 90, "shuffle": 1, "fletcher32": 1}


class Hdf5Source(ArraySource):
    """An HDF5 file, opened; one thread at a time may use it.

    Parameters
    ----------
    path : str
    options : ImportOptions

    Raises
    ------
    ImporterError
        The file is truncated, damaged or being written, or has no array of images.
    ConfigError
        What the arrays mean is not clear, or is not what the options say.

    Examples
    --------
    >>> source = Hdf5Source("quark-gluon_data-set_n139306.hdf5", ImportOptions())  # doctest: +SKIP
    >>> images, scalars = next(source.chunks(0, 2))  # doctest: +SKIP
    >>> images.shape, sorted(scalars)  # doctest: +SKIP
    ((2, 3, 125, 125), ['m0', 'pt', 'y'])
    """

    def __init__(self, path: str, options: ImportOptions) -> None:
        self._file: Any = None
        self._stream = open_binary(path)
        try:
            n_bytes = self._stream.seek(0, os.SEEK_END)
            with _translated(path, ""):
                self._file = _opened(path, self._stream)
                arrays = list(_walk(path, self._file))
            selection = select(path, arrays, options)
            used = [*selection.images, *{column.array for column in selection.columns}]
            with _translated(path, ""):
                for array in used:
                    _check_stored(path, self._file[array.path], n_bytes)
                fingerprint = _fingerprint(self._file, self._stream, n_bytes, used)
                lock = threading.Lock()
                super().__init__(
                    path,
                    n_bytes,
                    fingerprint,
                    selection,
                    lambda array: _CheckedRows(path, self._file[array.path], self._stream, lock),
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._file is not None:
            self._file.close()
        self._stream.close()


class _CheckedRows:
    """Rows of a dataset, read in the quickest way; errors are this package's."""

    def __init__(self, path: str, dataset: Any, stream: BinaryIO, lock: threading.Lock) -> None:
        self._path = path
        self._name = dataset.name
        self.step: int = dataset.chunks[0] if dataset.chunks is not None else 1
        self._rows: _PlainRows | InflatedRows | _LibraryRows = _LibraryRows(dataset)
        self.is_plain = dataset.chunks is None
        if not _is_exact(dataset):
            return
        if dataset.chunks is None and dataset.id.get_offset() is not None:
            self._rows = _PlainRows(dataset, stream, lock)
        elif _filters(dataset) in _OURS and _chunk_bytes(dataset) >= _INFLATED_BYTES:
            layout = ChunkLayout(dataset.shape, dataset.chunks, dataset.dtype, _filters(dataset))
            self._rows = InflatedRows(layout, _fetcher(dataset), reading_threads())

    def read(self, begin: int, end: int) -> NDArray[Any]:
        with _translated(self._path, f", {self._name}, samples {begin} to {end - 1}", begin):
            return self._rows.read(begin, end)


class _PlainRows:
    """Rows of a contiguous dataset, read past the library."""

    def __init__(self, dataset: Any, stream: BinaryIO, lock: threading.Lock) -> None:
        self._shape = dataset.shape
        self._dtype = dataset.dtype
        self._offset = int(dataset.id.get_offset())
        self._stream = stream
        self._lock = lock

    def read(self, begin: int, end: int) -> NDArray[Any]:
        out = np.empty((end - begin, *self._shape[1:]), self._dtype)
        values = out.reshape(-1).view(np.uint8).data
        row_bytes = math.prod(self._shape[1:]) * self._dtype.itemsize
        at = 0
        with self._lock:
            self._stream.seek(self._offset + begin * row_bytes)
            while at < len(values):
                n = self._stream.readinto(values[at:])  # type: ignore[attr-defined]
                if not n:
                    raise ValueError(f"end of file after {at} of {len(values)} bytes")
                at += n
        return _native(out)


class _LibraryRows:
    """Rows of a dataset, read by h5py."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def read(self, begin: int, end: int) -> NDArray[Any]:
        # In the stored byte order: libhdf5 would convert more slowly.
        out = np.empty((end - begin, *self._dataset.shape[1:]), self._dataset.dtype)
        self._dataset.read_direct(out, np.s_[begin:end])
        if out.dtype == np.bool_:
            return np.asarray(out.view(np.uint8) != 0)
        return _native(out)


def _native(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.isnative:
        return values
    swapped: NDArray[Any] = values.byteswap(inplace=True).view(values.dtype.newbyteorder())
    return swapped


def _is_exact(dataset: Any) -> bool:
    """Tell whether the stored numbers are what numpy's dtype says, bit for bit."""
    kind = dataset.dtype
    return kind.kind in "fiu" and bool(h5py.h5t.py_create(kind).equal(dataset.id.get_type()))


def _fetcher(dataset: Any) -> Callable[[tuple[int, ...]], tuple[int, bytes]]:
    held = threading.local()
    # What does not get smaller is stored as it is, or with a few bytes for every 16 KiB.
    most = _chunk_bytes(dataset) + _chunk_bytes(dataset) // 1000 + 64
    chunk_id = dataset.id

    def fetch(origin: tuple[int, ...]) -> tuple[int, bytes]:
        if not hasattr(held, "buffer"):
            held.buffer = np.empty(most, np.uint8)
        # h5py 3.14 does not take its lock here (h5py#2764 mends that), and two threads crash.
        with phil:
            mask, raw = chunk_id.read_direct_chunk(origin, out=held.buffer)
        return mask, raw

    return fetch


def _filters(dataset: Any) -> tuple[str, ...]:
    plist = dataset.id.get_create_plist()
    numbers = [int(plist.get_filter(index)[0]) for index in range(plist.get_nfilters())]
    return tuple(_FILTERS.get(number, f"filter {number}") for number in numbers)


def _chunk_bytes(dataset: Any) -> int:
    return int(math.prod(dataset.chunks) * dataset.dtype.itemsize)


def _check_stored(path: str, dataset: Any, n_bytes: int) -> None:
    """Refuse what was never written, what the file cannot hold, and what cannot be decoded."""
    where = f"{dataset.name} of {path}"
    stored = int(dataset.id.get_storage_size())
    n_parts, ratio = 1, 1
    full_bytes = math.prod(dataset.shape) * int(dataset.dtype.itemsize)
    written = stored > 0
    if dataset.chunks is not None:
        grid = [-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)]
        n_parts = math.prod(grid)
        n_written = int(dataset.id.get_num_chunks())
        written = n_written == n_parts
        if _chunk_bytes(dataset) > _MAX_CHUNK_BYTES:
            raise ImporterError(
                f"chunks too large: {where}: found {_chunk_bytes(dataset)} bytes each, expected at "
                f"most {_MAX_CHUNK_BYTES}; rewrite the file with h5repack",
                path,
            )
        full_bytes = n_parts * _chunk_bytes(dataset)
        ratio = _check_filters(where, path, dataset)
    if not written:
        found = "no data" if dataset.chunks is None else f"{n_written} of {n_parts} chunks"
        raise ImporterError(
            f"incomplete array: {where}: found {found}, expected all to be written; the writer "
            "stopped early: write the file again, or resize the array to what was written",
            path,
        )
    if stored > n_bytes or (ratio and full_bytes > ratio * stored + 64 * n_parts):
        raise ImporterError(
            f"damaged HDF5 file: {where}: found {stored} bytes stored in a file of {n_bytes} for "
            f"{full_bytes} bytes, expected more; {_AGAIN}",
            path,
        )


def _check_filters(where: str, path: str, dataset: Any) -> int:
    """Return how many bytes a stored byte may give; 0: there is no bound."""
    ratio = 1
    plist = dataset.id.get_create_plist()
    for index, name in enumerate(_filters(dataset)):
        number = int(plist.get_filter(index)[0])
        if not h5py.h5z.filter_avail(number):
            raise ImporterError(
                f"unknown compression: {where}: found {name}, which this libhdf5 does not have; "
                "rewrite the file with h5repack -f GZIP=4, or import hdf5plugin first",
                path,
            )
        ratio *= _MAX_RATIO.get(name, 0)
    return ratio


def _opened(path: str, stream: BinaryIO) -> Any:
    # Locks of a reader only get in the way, and some file systems of clusters have none.
    if os.path.exists(path):  # noqa: PTH110 - a URL is no path
        try:
            return h5py.File(path, "r", locking=False)
        except OSError as error:
            if "locking flag" not in str(error):
                raise
            return h5py.File(path, "r")  # the program has it open, with locks
    return h5py.File(stream, "r")


def _walk(path: str, file: Any) -> Iterator[ArrayInfo]:
    """Yield the arrays of the file; those of other files only as obstacles."""
    own = h5py.h5o.get_info(file.id).fileno
    seen = {h5py.h5o.get_info(file.id).addr}
    pending = [("", file)]
    n_objects = 0
    while pending:
        prefix, group = pending.pop()
        for name in group:
            n_objects += 1
            if n_objects > _MAX_OBJECTS:
                raise ImporterError(
                    f"too many objects: {path}: found more than {_MAX_OBJECTS} arrays and groups, "
                    "expected a few arrays of many samples; stack them",
                    path,
                )
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield ArrayInfo(prefix + name, (), "", f"a link to {link.filename}")
                continue
            item = group.get(name) if isinstance(link, h5py.SoftLink) else group[name]
            if item is None:
                yield ArrayInfo(prefix + name, (), "", "a link to nothing")
                continue
            info = h5py.h5o.get_info(item.id)
            if info.fileno != own:
                yield ArrayInfo(prefix + name, (), "", "a link to another file")
            elif isinstance(item, h5py.Dataset):
                yield _described(prefix + name, item)
            elif isinstance(item, h5py.Group) and info.addr not in seen:
                seen.add(info.addr)
                pending.append((f"{prefix}{name}/", item))


def _described(path: str, dataset: Any) -> ArrayInfo:
    try:
        kind = dataset.dtype
    except TypeError:  # numpy has nothing like it
        return ArrayInfo(path, dataset.shape or (), "a type that numpy does not have")
    obstacle = ""
    if dataset.is_virtual:
        obstacle = "a virtual dataset: its numbers are in other files"
    elif dataset.id.get_create_plist().get_external_count():
        obstacle = "its numbers are in other files"
    if dataset.shape is None:
        return ArrayInfo(path, (), "empty", obstacle)
    name = kind.newbyteorder("=").name if kind.kind in "fiub" else str(kind)
    return ArrayInfo(path, tuple(map(int, dataset.shape)), name, obstacle)


def _fingerprint(file: Any, stream: BinaryIO, n_bytes: int, used: list[ArrayInfo]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for array in sorted(used, key=str):
        dataset = file[array.path]
        stored = dataset.id.get_storage_size()
        digest.update(f"{array} {dataset.chunks} {_filters(dataset)} {stored}\n".encode())
    probes = [(0, _END_BYTES), (max(0, n_bytes - _END_BYTES), _END_BYTES)]
    probes += [(n_bytes * probe // _PROBES, _PROBE_BYTES) for probe in range(1, _PROBES)]
    for at, size in probes:
        stream.seek(at)
        digest.update(stream.read(size))
    return digest.digest()


@contextmanager
def _translated(path: str, where: str, sample: int | None = None) -> Iterator[None]:
    """Turn what h5py raises into this package's errors; it has no class of its own for damage."""
    try:
        yield
    except E2eioError:
        raise
    except Exception as error:  # damage makes h5py raise almost anything
        raise _error(path, where, sample, error) from error


def _error(path: str, where: str, sample: int | None, error: Exception) -> E2eioError:
    lines = str(error).strip("'").splitlines()  # a KeyError's text comes in quotes
    text = lines[0].strip().rstrip(".") if lines else type(error).__name__
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (told := re.search(r"errno = (\d+)", text)) is not None:
        number = int(told[1]) or None
    if number is not None:
        return system_error(path, OSError(number, os.strerror(number)))
    if "already open for" in text:
        return ImporterError(
            f"HDF5 file being written: {path}: found the mark of a writer, expected a closed file; "
            "wait for the writer, or run h5clear -s if it has died",
            path,
        )
    what = "truncated" if "truncated file" in text else "damaged"
    return ImporterError(
        f"{what} HDF5 file: {path}{where}: found {text!r}, expected a readable array; {_AGAIN}",
        path,
        sample=sample,
    )
