"""The same jets in every format: files, their sizes, and digests that say what is in them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.contender import digest_sample

__all__ = [
    "Chunk",
    "DataError",
    "Derived",
    "JetSource",
    "ParquetJets",
    "ToySource",
    "derive",
    "derive_shards",
    "write_parquet",
]

Chunk = tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]
CHUNK = 64
SCALARS = ("y", "m0", "pt")
# Copies of the dense images that contenders' own files take, at most; the others are compressed.
UNCOMPRESSED = {"npy_files": 1, "ffcv": 2, "hdf5_contiguous": 1, "mds": 1, "arrow": 2}


class DataError(Exception):
    """The data asked for cannot be had; the message says what to do."""


class JetSource(Protocol):
    """Jets by number."""

    @property
    def description(self) -> str: ...
    @property
    def resolution(self) -> int: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...
    def chunk(self, begin: int, end: int) -> Chunk:
        """Return images float32 [n, C, H, W] and scalars float32 [n] each."""


@dataclass(frozen=True, slots=True)
class ToySource:
    """Toy jets, seed 0."""

    resolution: int

    @property
    def description(self) -> str:
        return "toy jets (e2eio.sim), seed 0"

    @property
    def shape(self) -> tuple[int, int, int]:
        return (8, 125 * self.resolution, 125 * self.resolution)

    def chunk(self, begin: int, end: int) -> Chunk:
        from e2eio.sim import ToyJets  # here, as contenders' processes import this module as well

        return ToyJets(resolution=self.resolution).chunk(begin, end)


class ParquetJets:
    """Jets of a Parquet file in any layout that e2eio imports, over and over again.

    Raises DataError if the file is missing, laid out differently or of another granularity.
    """

    def __init__(self, path: Path) -> None:
        from e2eio import errors, importers  # here, as contenders' processes import this module

        try:
            self._source = importers.open_source(path)
        except errors.E2eioError as error:
            raise DataError(str(error)) from error
        self.shape = self._source.schema.image.shape
        edges = {125: 1, 375: 3}
        if self.shape[2] not in edges or self._source.n_samples == 0:
            raise DataError(
                f"other granularity: {path}: found {self._source.n_samples} images of {self.shape}, "
                "expected 125 or 375 pixels a side, one jet or more"
            )
        self.resolution = edges[self.shape[2]]
        self._name = path.name

    @property
    def description(self) -> str:
        return f"{self._name} ({self._source.n_samples} jets, repeated as needed)"

    def chunk(self, begin: int, end: int) -> Chunk:
        total = self._source.n_samples
        images = np.empty((end - begin, *self.shape), np.float32)
        scalars = {name: np.zeros(end - begin, np.float32) for name in SCALARS}
        done = 0
        while done < end - begin:
            first = (begin + done) % total
            last = min(total, first + end - begin - done)
            for pixels, columns in self._source.chunks(first, last):
                here = slice(done, done + len(pixels))
                images[here] = pixels
                for name in set(SCALARS) & set(columns):
                    scalars[name][here] = columns[name]
                done = here.stop
        return images, scalars


@dataclass(frozen=True, slots=True)
class Derived:
    """The files of one resolution: paths and bytes per sample by format.

    `folder` is where contenders write files of formats of their own, out of "npy".
    """

    files: dict[str, str]
    bytes_per_sample: dict[str, float]
    n_samples: int
    shape: tuple[int, int, int]
    folder: str = ""


class _Sink(Protocol):
    def write(
        self, images: NDArray[np.float32], scalars: dict[str, NDArray[np.float32]]
    ) -> None: ...


class _ParquetSink:
    """The published layout: snappy, one jet per row group, `X_jets` a flat list (H, W, C)."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa = pa
        fields = [("X_jets", pa.list_(pa.float32()))] + [(name, pa.float32()) for name in SCALARS]
        self._schema = pa.schema(fields)
        self._writer = stack.enter_context(
            pq.ParquetWriter(path, self._schema, compression="snappy")
        )

    def write(self, images: NDArray[np.float32], scalars: dict[str, NDArray[np.float32]]) -> None:
        pa = self._pa
        for k, image in enumerate(images):
            pixels = pa.array(np.ascontiguousarray(image.transpose(1, 2, 0)).reshape(-1))
            column = pa.ListArray.from_arrays(pa.array([0, len(pixels)], pa.int32()), pixels)
            columns = [column] + [pa.array(scalars[name][k : k + 1]) for name in SCALARS]
            self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))


class _Hdf5Sink:
    """gzip level 4, one chunk per jet."""

    def __init__(self, path: Path, n: int, shape: tuple[int, int, int], stack: ExitStack) -> None:
        import h5py

        file = stack.enter_context(h5py.File(path, "w"))
        options = {"compression": "gzip", "compression_opts": 4}
        self._images = file.create_dataset(
            "X_jets", (n, *shape), "f4", chunks=(1, *shape), **options
        )
        self._scalars = {name: file.create_dataset(name, (n,), "f4") for name in SCALARS}
        self._n = 0

    def write(self, images: NDArray[np.float32], scalars: dict[str, NDArray[np.float32]]) -> None:
        where = slice(self._n, self._n + len(images))
        self._images[where] = images
        for name, column in self._scalars.items():
            column[where] = scalars[name]
        self._n = where.stop


class _NpySink:
    """Raw float32 [n, C, H, W]."""

    def __init__(self, path: Path, n: int, shape: tuple[int, int, int]) -> None:
        self._images = np.lib.format.open_memmap(path, "w+", np.float32, (n, *shape))
        self._n = 0

    def write(self, images: NDArray[np.float32], scalars: dict[str, NDArray[np.float32]]) -> None:
        del scalars  # labels are in a file of their own
        self._images[self._n : self._n + len(images)] = images
        self._n += len(images)


def write_parquet(path: Path, chunks: Iterator[Chunk]) -> int:
    """Write jets in the published layout and return their number."""
    n = 0
    with ExitStack() as stack:
        sink = _ParquetSink(path, stack)
        for images, scalars in chunks:
            sink.write(images, scalars)
            n += len(images)
    return n


def derive(source: JetSource, n: int, work: Path, formats: set[str]) -> Derived:
    """Write the first n jets of a source in each format.

    Parameters
    ----------
    source : JetSource
        Where the jets come from.
    n : int
        Number of jets, at least 1.
    work : Path
        Existing directory for the files.
    formats : set of str
        Out of "e2eio" (converted from the Parquet file), "parquet", "hdf5", "npy"; any other is one
        that contenders write themselves, and is given the room that it needs.

    Raises
    ------
    DataError
        If the disk is too small.
    """
    shape = source.shape
    own = formats - {"e2eio", "parquet", "hdf5", "npy"}
    formats = formats - own | ({"npy"} if own else set())
    n_raw = 2 * ("npy" in formats) + sum(UNCOMPRESSED.get(name, 0) for name in own)
    needed = n_raw * n * 4 * int(np.prod(shape)) if n_raw else n * 100_000
    if shutil.disk_usage(work).free < needed:
        raise DataError(
            f"too little disk: {work}: {needed / 2**30:.1f} GiB needed; choose another --work or "
            "fewer --jets"
        )
    paths = {
        "parquet": "jets.snappy.parquet",
        "hdf5": "jets.h5",
        "npy": "jets.npy",
        "e2eio": "dataset",
    }
    wanted = formats | ({"parquet"} if "e2eio" in formats else set())
    files = {name: str(work / paths[name]) for name in paths if name in wanted}
    _write_files(source, n, files, work)
    if "e2eio" in formats:
        import e2eio

        e2eio.convert([files["parquet"]], files["e2eio"], progress=False, overwrite=True)
    sizes = {name: _count_bytes(Path(path)) / n for name, path in files.items()}
    files |= {"y": str(work / "y.npy"), "reference": str(work / "reference.txt")}
    shutil.rmtree(work / "own", ignore_errors=True)  # of other jets, in a folder that was kept
    return Derived(files, sizes, n, shape, str(work / "own"))


def derive_shards(source: ToySource, n: int, work: Path) -> Derived:
    """Write the first n toy jets as an e2eio dataset alone, without the detour over Parquet."""
    import e2eio
    from e2eio.sim import ToyJets

    digests: list[str] = []
    folder = work / "dataset"
    schema = ToyJets(resolution=source.resolution).schema
    with e2eio.write(folder, schema, overwrite=True) as writer:
        for begin in range(0, n, CHUNK):
            images, scalars = source.chunk(begin, min(begin + CHUNK, n))
            writer.append(images, scalars)
            digests += [
                digest_sample(x, float(y)) for x, y in zip(images, scalars["y"], strict=True)
            ]
    (work / "reference.txt").write_text("\n".join(digests), encoding="ascii")
    files = {"e2eio": str(folder), "reference": str(work / "reference.txt")}
    return Derived(files, {"e2eio": _count_bytes(folder) / n}, n, source.shape)


def _write_files(source: JetSource, n: int, files: dict[str, str], work: Path) -> None:
    shape = source.shape
    digests: list[str] = []
    labels: list[NDArray[np.float32]] = []
    with ExitStack() as stack:
        sinks: list[_Sink] = []
        if "parquet" in files:
            sinks.append(_ParquetSink(Path(files["parquet"]), stack))
        if "hdf5" in files:
            sinks.append(_Hdf5Sink(Path(files["hdf5"]), n, shape, stack))
        if "npy" in files:
            sinks.append(_NpySink(Path(files["npy"]), n, shape))
        for begin in range(0, n, CHUNK):
            images, scalars = source.chunk(begin, min(begin + CHUNK, n))
            for sink in sinks:
                sink.write(images, scalars)
            digests += [
                digest_sample(x, float(y)) for x, y in zip(images, scalars["y"], strict=True)
            ]
            labels.append(scalars["y"])
    np.save(work / "y.npy", np.concatenate(labels))
    (work / "reference.txt").write_text("\n".join(digests), encoding="ascii")


def _count_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
