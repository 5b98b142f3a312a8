"""What the sources in one file share: what the file says of itself, and the range that is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from e2eio.errors import ConfigError
from e2eio.importers.source import Chunk, Geometry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from e2eio.schema import Schema

__all__ = ["FileSource"]


class FileSource(ABC):
    """An `ImageSource` of one file; one thread at a time may use it.

    Those that derive from it set `_schema`, `_geometry` and `_skipped`, and yield chunks in `_read`.

    Parameters
    ----------
    path : str
    n_bytes : int
        Size of the file.
    fingerprint : bytes
        Digest of as much of the file as tells it from others.
    """

    _schema: Schema
    _geometry: Geometry
    _skipped: Sequence[str] = ()

    def __init__(self, path: str, n_bytes: int, fingerprint: bytes) -> None:
        self._path = path
        self._n_bytes = n_bytes
        self._fingerprint = fingerprint

    @property
    def path(self) -> str:
        """As given."""
        return self._path

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return self._n_bytes

    @property
    def fingerprint(self) -> bytes:
        """Changes with the content, as far as that can be told without reading it all."""
        return self._fingerprint

    @property
    def schema(self) -> Schema:
        """Fields of a sample."""
        return self._schema

    @property
    def geometry(self) -> Geometry:
        """Order of an image's numbers in the file."""
        return self._geometry

    @property
    @abstractmethod
    def n_samples(self) -> int:
        """Samples in the file."""

    @property
    @abstractmethod
    def cuts(self) -> NDArray[np.int64]:
        """Ascending sample numbers, from 0 to `n_samples`, at which reading may begin cheaply."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """What is left out, each with its type or the reason."""
        return tuple(self._skipped)

    def chunks(self, begin: int, end: int) -> Iterator[Chunk]:
        """Yield the samples [begin, end) in order."""
        self._check_range(begin, end)
        if begin < end:
            yield from self._read(begin, end)

    def close(self) -> None:  # noqa: B027 - a file may be open only while it is read
        """Close the file; may be called again."""

    @abstractmethod
    def _read(self, begin: int, end: int) -> Iterator[Chunk]:
        """Yield the samples of a range that is there and not empty."""

    def _check_range(self, begin: int, end: int) -> None:
        if not 0 <= begin <= end <= self.n_samples:
            raise self._wrong_range(begin, end, self.n_samples)

    def _wrong_range(self, begin: int, end: int, n_samples: int | str) -> ConfigError:
        return ConfigError(
            f"wrong range: {self._path}: found [{begin}, {end}), "
            f"expected one within [0, {n_samples})"
        )
