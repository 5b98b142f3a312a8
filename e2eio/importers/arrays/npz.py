"""NumPy's `.npz`: a zip archive of arrays, one of images and scalars beside it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.errors import ConfigError, ImporterError
from e2eio.importers.arrays.npy import NumpyFileSource
from e2eio.importers.files import open_binary, system_error
from e2eio.importers.npy_array import ArrayHeader, check_size, native, read_header, scalar_dtype
from e2eio.importers.source import Chunk, ImportOptions, make_schema
from e2eio.presets import IMAGE_COLUMNS
from e2eio.schema import DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NpzSource"]

_WHOLE_BYTES: Final = 256 << 20  # of an array in Fortran order, which has to be read as a whole
_AGAIN: Final = "fetch or write the file again"


class NpzSource(NumpyFileSource):
    """A `.npz` file, stored or deflated; one thread at a time may use it.

    Checksums of its arrays are verified where they end, so it is read from the first row on: one
    task for each file. The images are the array of a known name, or the only one of several axes;
    arrays of one number for each image are scalars.

    Parameters
    ----------
    path : str
    options : ImportOptions

    Raises
    ------
    ImporterError
        The file is truncated or damaged, or holds no images.
    ConfigError
        What the images mean is not clear, or is not what the options say.

    Examples
    --------
    >>> source = NpzSource("truth_x1.npz", ImportOptions())  # doctest: +SKIP
    >>> images, scalars = next(source.chunks(0, 16))  # doctest: +SKIP
    >>> images.shape, sorted(scalars)  # doctest: +SKIP
    ((16, 8, 125, 125), ['m0', 'pt', 'y'])
    """

    def __init__(self, path: str, options: ImportOptions) -> None:
        super().__init__(path)
        headers, others = self._read_headers()
        image = _image_array(path, headers, others, options)
        self._header = headers.pop(image)
        where = f"array {image!r} of {path}"
        self._describe(where, image, options)
        self._scalars: dict[str, ArrayHeader] = {}
        for name, header in headers.items():
            if header.shape == self._header.shape[:1] and scalar_dtype(header.dtype) in DTYPES:
                self._scalars[name] = header
            else:
                others.append(f"{name} ({header.dtype} {list(header.shape)})")
        self._skipped = tuple(others)
        fields = [(name, scalar_dtype(h.dtype)) for name, h in self._scalars.items()]
        self._schema = make_schema(where, image, self._geometry, fields, options)

    @property
    def cuts(self) -> NDArray[np.int64]:
        """The first row and the end."""
        return np.array([0, self.n_samples], np.int64)

    def _read(self, begin: int, end: int) -> Iterator[Chunk]:
        row, step = begin, self._rows_at_once()
        with ExitStack() as stack:
            archive = stack.enter_context(self._opened())
            members = {}
            for name, header in {self._image: self._header, **self._scalars}.items():
                member = stack.enter_context(archive.open(f"{name}.npy"))
                members[name] = member
                passed = header.n_bytes + begin * header.row_bytes
                if not header.fortran_order:
                    self._pass_over(member, passed)
            whole = self._whole(members) if self._header.fortran_order else None
            while row < end:
                n_rows = min(step, end - row)
                if whole is None:
                    images = self._images(self._take(members[self._image], self._header, n_rows))
                else:
                    images = self._images(whole[row : row + n_rows])
                scalars = {
                    name: _scalar(self._take(members[name], header, n_rows), header.dtype)
                    for name, header in self._scalars.items()
                }
                row += n_rows
                if row == self.n_samples:
                    self._check_ends(members)
                yield images, scalars

    def _whole(self, members: dict[str, IO[bytes]]) -> NDArray[Any]:
        header = self._header
        n_bytes = header.shape[0] * header.row_bytes
        if n_bytes > _WHOLE_BYTES:
            raise ImporterError(
                f"array in Fortran order: {self._image!r} of {self._path}: found {n_bytes} bytes, "
                f"expected at most {_WHOLE_BYTES} in that order; save it in C order "
                "(numpy.ascontiguousarray), or as .npy",
                self._path,
            )
        self._pass_over(members[self._image], header.n_bytes)
        data = self._take(members[self._image], header, header.shape[0])
        images: NDArray[Any] = np.frombuffer(data, header.dtype).reshape(header.shape[::-1]).T
        return images

    def _read_headers(self) -> tuple[dict[str, ArrayHeader], list[str]]:
        headers: dict[str, ArrayHeader] = {}
        others = []
        with self._opened() as archive:
            for info in archive.infolist():
                name, dot, kind = info.filename.rpartition(".")
                if not dot or kind != "npy":
                    others.append(f"{info.filename} (no array)")
                    continue
                where = f"array {name!r} of {self._path}"
                if name in headers:
                    raise self._damaged(where, "two of that name", "one")
                if info.flag_bits & 1 or info.compress_type not in (
                    zipfile.ZIP_STORED,
                    zipfile.ZIP_DEFLATED,
                ):
                    raise self._damaged(
                        where, "an encrypted or unusual member", "a stored or deflated one"
                    )
                with archive.open(info) as member:
                    headers[name] = read_header(member, where, self._path)
                check_size(headers[name], info.file_size, where, self._path)
        return headers, others

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        """Open the archive; within the block, its errors become those of this package."""
        with open_binary(self._path) as stream:
            try:
                with zipfile.ZipFile(stream) as archive:
                    yield archive
            except OSError as error:
                raise system_error(self._path, error) from error
            except (
                *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OverflowError),
                *(RuntimeError, KeyError, UnicodeDecodeError),
            ) as error:
                raise self._damaged(self._path, repr(str(error)), "a valid zip archive") from error

    def _pass_over(self, member: IO[bytes], n_bytes: int) -> None:
        while n_bytes:
            piece = member.read(min(n_bytes, 1 << 20))
            if not piece:
                raise self._truncated(0)
            n_bytes -= len(piece)

    def _take(self, member: IO[bytes], header: ArrayHeader, n_rows: int) -> bytes:
        data = member.read(n_rows * header.row_bytes)
        if len(data) < n_rows * header.row_bytes:
            raise self._truncated(0)
        return data

    def _check_ends(self, members: dict[str, IO[bytes]]) -> None:
        """Read on to where the checksums are verified."""
        for name, member in members.items():
            if member.read(1):
                raise self._damaged(f"array {name!r} of {self._path}", "more bytes", "its end")

    def _damaged(self, where: str, found: str, expected: str) -> ImporterError:
        return ImporterError(
            f"damaged npz file: {where}: found {found}, expected {expected}; {_AGAIN}", self._path
        )


def _image_array(
    path: str, headers: dict[str, ArrayHeader], others: list[str], options: ImportOptions
) -> str:
    shapes = {name: list(header.shape) for name, header in headers.items()}
    if options.image is not None:
        if options.image in headers:
            return options.image
        raise ConfigError(
            f"no such image array: {path}: found arrays {shapes}, expected {options.image!r}; "
            "mend image"
        )
    known = [name for name in IMAGE_COLUMNS if name in headers]
    several = [name for name, header in headers.items() if len(header.shape) > 2]
    flat = [name for name, header in headers.items() if len(header.shape) == 2]
    candidates = known or several or flat
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise ConfigError(
            f"several image arrays: {path}: found {candidates}, expected one; pass image"
        )
    raise ImporterError(
        f"no image array: {path}: found arrays {shapes} and other members {others[:8]}, expected "
        "one of images [n, C, H, W]; check that this is a file of images (pickles are not read)",
        path,
    )


def _scalar(data: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    return native(np.frombuffer(data, dtype)).astype(scalar_dtype(dtype), copy=False)
