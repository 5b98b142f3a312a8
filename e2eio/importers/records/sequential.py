"""What formats have in common that can only be read from their begin on: TFRecord and tar.

Such a file has no table of contents. As it is, its samples are found by going from header to header,
so that reading may begin at any of them. Compressed, it has to be inflated in full to count the
samples, and reading begins at the first: one task for each such file, and many files for many
processes. The count is made when it is first asked for, not when the file is opened, as who reads a
task does not need it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from e2eio.errors import E2eioError, ImporterError
from e2eio.importers.file_source import FileSource
from e2eio.importers.files import describe_file
from e2eio.importers.source import Chunk, ImportOptions
from e2eio.importers.streams import Compression, Stream, find_compression, open_stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Row", "RowReader", "SequentialSource"]

#: The numbers of an image, flat, and each scalar in the order of the schema, as an array of one.
Row = tuple["NDArray[Any]", "list[NDArray[Any]]"]

_CHUNK_BYTES: Final = 4 << 20  # small enough for a cache: the images are copied there
_MAX_CHUNK_ROWS: Final = 4_096


class RowReader(Protocol):
    """Goes from sample to sample."""

    @property
    def offset_bytes(self) -> int:
        """Of the next sample."""

    def skip(self) -> bool:
        """Pass over a sample; return False if there is none."""

    def read(self) -> Row | None:
        """Return the next sample, or None if there is none."""


class SequentialSource(FileSource):
    """An `ImageSource` of a file that is read from its begin on; one thread at a time may use it.

    Parameters
    ----------
    path : str
    options : ImportOptions
    """

    _dtype: str  # of pixels as they are delivered

    def __init__(self, path: str, options: ImportOptions) -> None:
        n_bytes, head, fingerprint = describe_file(path)
        super().__init__(path, n_bytes, fingerprint)
        self._options = options
        self._compression: Compression = find_compression(head)
        self._found: NDArray[np.int64] | None = None
        self._read_first(options)

    @abstractmethod
    def _read_first(self, options: ImportOptions) -> None:
        """Find out from the first sample what all of them have to be."""

    @abstractmethod
    def _rows(self, stream: Stream, offset_bytes: int, number: int) -> RowReader:
        """Return a reader of samples for a stream that stands at the sample `number`."""

    @property
    def n_samples(self) -> int:
        """Samples in the file; the first call goes through it, and inflates it if it is compressed."""
        return len(self._offsets())

    @property
    def cuts(self) -> NDArray[np.int64]:
        """All samples; of a compressed file, the first and the end alone."""
        step = max(1, self.n_samples) if self._compression else 1
        return np.arange(0, self.n_samples + 1, step, dtype=np.int64)

    def _check_range(self, begin: int, end: int) -> None:
        if self._found is not None:
            super()._check_range(begin, end)
        elif not 0 <= begin <= end:  # to count the samples is to go through the file
            raise self._wrong_range(begin, end, "its samples")

    def _read(self, begin: int, end: int) -> Iterator[Chunk]:
        """Yield chunks; a damaged sample is reported after those before it."""
        seek = begin > 0 and not self._compression
        first = begin if seek else 0
        offset = int(self._offsets()[begin]) if seek and begin < self.n_samples else 0
        with closing(open_stream(self._path, self._compression, offset)) as stream:
            rows = self._rows(stream, offset, first)
            for number in range(first, begin):
                if not rows.skip():
                    raise self._too_few(number, end)
            yield from self._gathered(rows, begin, end)

    def _gathered(self, rows: RowReader, begin: int, end: int) -> Iterator[Chunk]:
        row_bytes = self._geometry.n_pixels * np.dtype(self._dtype).itemsize
        n_rows = max(1, min(_CHUNK_BYTES // row_bytes, _MAX_CHUNK_ROWS))
        number = begin
        while number < end:
            images = np.empty((min(n_rows, end - number), self._geometry.n_pixels), self._dtype)
            scalars = {s.name: np.empty(len(images), s.dtype) for s in self._schema.scalars}
            error, n_read = self._fill(rows, images, list(scalars.values()), number, end)
            if n_read:
                kept = {name: values[:n_read] for name, values in scalars.items()}
                yield self._geometry.view(images[:n_read]), kept
            if error is not None:
                raise error
            number += n_read

    def _fill(
        self,
        rows: RowReader,
        images: NDArray[Any],
        columns: list[NDArray[Any]],
        number: int,
        end: int,
    ) -> tuple[E2eioError | None, int]:
        """Read as many samples as `images` holds; return what went wrong, and how many are there."""
        for at in range(len(images)):
            try:
                row = rows.read()
            except E2eioError as error:
                return error, at
            if row is None:
                return self._too_few(number + at, end), at
            pixels, values = row
            images[at] = pixels
            for column, value in zip(columns, values, strict=True):
                column[at : at + 1] = value
        return None, len(images)

    def _offsets(self) -> NDArray[np.int64]:
        if self._found is None:
            with closing(open_stream(self._path, self._compression)) as stream:
                self._found = np.fromiter(_walk(self._rows(stream, 0, 0)), np.int64)
        return self._found

    def _too_few(self, found: int, end: int) -> ImporterError:
        return ImporterError(
            f"too few samples: {self._path}: found {found}, expected {end}; has the file changed?",
            self._path,
            sample=found,
        )


def _walk(rows: RowReader) -> Iterator[int]:
    offset = rows.offset_bytes
    while rows.skip():
        yield offset
        offset = rows.offset_bytes
