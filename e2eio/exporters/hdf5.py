"""HDF5: the images as one dataset, or their pixels in the layout of compressed sparse rows."""

from __future__ import annotations

import io
import json
import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from e2eio.errors import MissingDependencyError
from e2eio.exporters.sink import ExportOptions, describe, pixel_lists

try:
    import h5py
except ImportError as error:  # pragma: no cover - exercised without the extra
    raise MissingDependencyError(
        "package h5py is missing: it writes HDF5 files; run pip install 'e2eio[hdf5]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from e2eio.schema import Schema

__all__ = ["Hdf5Sink"]

_CHUNK_NUMBERS = 1 << 16  # of a chunk of positions or values
_CACHE_BYTES = 64 << 20  # holds a chunk that is written in parts, as where a file ends in a batch


class _PatientFile(io.FileIO):
    """A file that never tells libhdf5 of an error: told of one, it goes on with half of its structures and crashes.

    The first error is kept, and whatever is written after it is not. One thread at a time.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def require_written(self) -> None:
        """Raise what the system has refused with."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all of `data`."""
        left = memoryview(data)
        try:
            while len(left) and self._error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self._error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Give the file a size."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
        return size or 0


class Hdf5Sink:
    """Dense: a dataset ``[n, C, H, W]`` or ``[n, H, W, C]`` named as the image field, in chunks of whole samples.

    Sparse: a group per channel with ``offsets`` int64 [n + 1], ``positions`` int32 (``y * W + x``) and ``values``
    float32. Scalars are datasets [n]; the attribute ``e2eio`` holds shape, channels and units as JSON. One thread at a time.
    """

    def __init__(self, path: Path, schema: Schema, n: int, options: ExportOptions) -> None:
        self._stream = _PatientFile(path)
        self._options = options
        self._done = 0
        with self._reported():
            self._file = h5py.File(self._stream, "w", rdcc_nbytes=_CACHE_BYTES)
            self._make_datasets(schema, n)

    def _make_datasets(self, schema: Schema, n: int) -> None:
        options = self._options
        self._file.attrs["e2eio"] = json.dumps(describe(schema, options))
        self._scalars = {
            field.name: self._file.create_dataset(field.name, (n,), field.dtype)
            for field in schema.scalars
        }
        if options.form == "dense":
            n_channels, height, width = schema.image.shape
            chw = options.layout == "CHW"
            shape = (n_channels, height, width) if chw else (height, width, n_channels)
            chunked: dict[str, Any] = {
                "chunks": (min(n, options.group_samples), *shape),
                "compression": options.compression,
                "shuffle": options.compression is not None,
            }
            self._images = self._file.create_dataset(
                schema.image.name, (n, *shape), "f4", **(chunked if n else {})
            )
        else:
            self._channels = [self._channel(name, n) for name in schema.channels]

    def _channel(self, name: str, n: int) -> Any:
        group = self._file.create_group(name)
        group.create_dataset("offsets", (n + 1,), "i8")
        for what, dtype in (("positions", "i4"), ("values", "f4")):
            group.create_dataset(
                what,
                (0,),
                dtype,
                maxshape=(None,),
                chunks=(_CHUNK_NUMBERS,),
                compression=self._options.compression,
                shuffle=self._options.compression is not None,
            )
        return group

    def write(self, images: NDArray[np.float32], scalars: dict[str, NDArray[Any]]) -> None:
        """See ImageSink."""
        with self._reported():
            self._write(images, scalars)

    def _write(self, images: NDArray[np.float32], scalars: dict[str, NDArray[Any]]) -> None:
        here = slice(self._done, self._done + len(images))
        for name, column in self._scalars.items():
            column[here] = scalars[name]
        if self._options.form == "dense":
            chw = self._options.layout == "CHW"
            self._images[here] = images if chw else images.transpose(0, 2, 3, 1)
        else:
            for group, lists in zip(self._channels, pixel_lists(images), strict=True):
                first = group["positions"].shape[0]
                last = first + len(lists.positions)
                group["offsets"][here.start + 1 : here.stop + 1] = first + lists.offsets[1:]
                for what, numbers in (("positions", lists.positions), ("values", lists.values)):
                    group[what].resize((last,))
                    group[what][first:last] = numbers
        self._done = here.stop

    def close(self) -> None:
        """See ImageSink."""
        with self._reported():
            self._file.close()
        self._stream.close()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Raise the error of the system that was kept, before any that has followed from it."""
        with _interrupts_later():
            try:
                yield
            finally:
                self._stream.require_written()


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Have Ctrl-C wait: in the midst of a write for libhdf5 it would be another error that makes it crash."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    seen: list[Any] = []
    signal.signal(signal.SIGINT, lambda _, frame: seen.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if seen:
        before(signal.SIGINT, seen[0])
