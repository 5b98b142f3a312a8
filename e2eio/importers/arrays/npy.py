"""NumPy's `.npy`: one array of images.

Arrays are [n, C, H, W], [n, H, W, C], [n, H, W] (one channel) or [n, numbers], of either byte order
and in C or Fortran order. They are read in pieces, never mapped, and never unpickled: an array of
objects is refused by its header.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.errors import ImporterError
from e2eio.importers.file_source import FileSource
from e2eio.importers.files import describe_file
from e2eio.importers.npy_array import ArrayHeader, check_size, native, pixel_dtype, read_header
from e2eio.importers.source import Chunk, ImportOptions, find_geometry, make_schema
from e2eio.importers.streams import open_stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NpySource", "NumpyFileSource"]

_CHUNK_BYTES: Final = 8 << 20
_CHUNK_BYTES_ACROSS: Final = 32 << 20  # of an array in Fortran order: a read for each pixel


class NumpyFileSource(FileSource):
    """What `.npy` and `.npz` have in common; one thread at a time may use it.

    Parameters
    ----------
    path : str
    """

    _header: ArrayHeader

    def __init__(self, path: str) -> None:
        n_bytes, _, fingerprint = describe_file(path)
        super().__init__(path, n_bytes, fingerprint)

    @property
    def n_samples(self) -> int:
        """Length of the array's first axis."""
        return self._header.shape[0]

    def _describe(self, where: str, name: str, options: ImportOptions) -> None:
        header = self._header
        dims = header.shape[1:]
        if len(dims) not in (1, 2, 3) or 0 in dims:
            raise ImporterError(
                f"wrong shape of images: {where}: found {header.shape}, expected [n, C, H, W], "
                "[n, H, W, C], [n, H, W] or [n, numbers]; reshape the array",
                self._path,
            )
        if header.shape[0] == 0:
            raise ImporterError(
                f"no samples: {where}: found {header.shape}, expected at least one; leave out the file",
                self._path,
            )
        if header.dtype.hasobject:
            raise ImporterError(
                f"array of objects: {where}: found a pickle, which is not read as it may run any "
                "program, expected numbers; convert it to an array of numbers",
                self._path,
            )
        if pixel_dtype(header.dtype) is None:
            raise ImporterError(
                f"wrong type of images: {where}: found {header.dtype}, expected floats of 2, 4 or "
                "8 bytes, or integers of 1 or 2; convert the array",
                self._path,
            )
        self._geometry = find_geometry(where, (1, *dims) if len(dims) == 2 else dims, options)
        self._image = name

    def _rows_at_once(self) -> int:
        n_bytes = _CHUNK_BYTES_ACROSS if self._header.fortran_order else _CHUNK_BYTES
        return max(1, n_bytes // self._header.row_bytes)

    def _images(self, data: bytes | NDArray[Any]) -> NDArray[Any]:
        """Return the images that `data` holds one after the other, in C order."""
        values = np.frombuffer(data, self._header.dtype) if isinstance(data, bytes) else data
        pixels = native(values).astype(pixel_dtype(self._header.dtype) or "f4", copy=False)
        return self._geometry.view(pixels)

    def _truncated(self, row: int) -> ImporterError:
        return ImporterError(
            f"truncated array: {self._path}: found {row} images, expected {self.n_samples}, as the "
            f"header says; fetch or write the file again",
            self._path,
            sample=row,
        )


class NpySource(NumpyFileSource):
    """A `.npy` file; one thread at a time may use it.

    Parameters
    ----------
    path : str
    options : ImportOptions
        `image` names the field, which is ``"X"`` otherwise: the file has no names.

    Raises
    ------
    ImporterError
        The file is truncated or damaged, or holds no images.
    ConfigError
        What the images mean is not clear, or is not what the options say.

    Examples
    --------
    >>> source = NpySource("images.npy", ImportOptions(channels=("ecal",)))  # doctest: +SKIP
    """

    def __init__(self, path: str, options: ImportOptions) -> None:
        super().__init__(path)
        with closing(open_stream(path, "")) as stream:
            self._header = read_header(stream, path, path)
        check_size(self._header, self._n_bytes, path, path)
        self._describe(path, options.image or "X", options)
        self._schema = make_schema(path, self._image, self._geometry, [], options)

    @property
    def cuts(self) -> NDArray[np.int64]:
        """All rows."""
        return np.arange(self.n_samples + 1, dtype=np.int64)

    def _read(self, begin: int, end: int) -> Iterator[Chunk]:
        header, step = self._header, self._rows_at_once()
        for row in range(begin, end, step):
            n_rows = min(step, end - row)
            if header.fortran_order:
                yield self._images(self._across(row, n_rows)), {}
                continue
            offset = header.n_bytes + row * header.row_bytes
            with closing(open_stream(self._path, "", offset)) as stream:
                data = stream.read(n_rows * header.row_bytes)
            if len(data) < n_rows * header.row_bytes:
                raise self._truncated(row + len(data) // header.row_bytes)
            yield self._images(data), {}

    def _across(self, row: int, n_rows: int) -> NDArray[Any]:
        """Return rows of an array in Fortran order: of each pixel, the file has all images in turn."""
        header = self._header
        size = header.dtype.itemsize
        pixels = np.empty((header.row_bytes // size, n_rows), header.dtype)
        with closing(open_stream(self._path, "", header.n_bytes + row * size)) as stream:
            for line in pixels:
                data = stream.read(n_rows * size)
                if len(data) < n_rows * size:
                    raise self._truncated(row)
                line[:] = np.frombuffer(data, header.dtype)
                stream.skip((header.shape[0] - n_rows) * size)
        images: NDArray[Any] = pixels.reshape((*header.shape[:0:-1], n_rows)).T
        return images
