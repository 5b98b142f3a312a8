"""One class per format: writes jets as the field does, and reads them as fast as its library can.

Each `read` is given a part of the work: it is called once in each of several processes, as a conversion has them.
Settings are the fastest of those tried on 2 cores (x1 jets, page cache warm); they stand beside the calls.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.data import SCALARS, Chunk, write_parquet

__all__ = ["FORMATS", "Images", "SourceFormat"]

Images = NDArray[np.float32]
BLOCK = 64  # jets that are read at a time, where a library is asked for ranges


class SourceFormat(Protocol):
    """A format and its own library."""

    name: str
    title: str
    suffix: str

    def write(self, path: Path, n: int, chunks: Iterator[Chunk]) -> None:
        """Write n jets [C, H, W]."""

    def read(self, paths: Sequence[Path], part: int, parts: int) -> Iterator[Images]:
        """Yield the images of one of several equal parts, as numpy arrays, in any shape."""


def _rows(n: int, part: int, parts: int) -> tuple[int, int]:
    return part * n // parts, (part + 1) * n // parts


class Parquet:
    """The published layout: snappy, a jet per row group, flat lists."""

    name = "parquet"
    title = "Parquet, pyarrow: flattened lists"
    suffix = ".snappy.parquet"

    def write(self, path: Path, n: int, chunks: Iterator[Chunk]) -> None:
        """See SourceFormat."""
        write_parquet(path, chunks)

    def read(self, paths: Sequence[Path], part: int, parts: int) -> Iterator[Images]:
        """Batches across row groups, without pyarrow's threads, as there are processes: read_row_group takes 1.3 x as long."""
        pq = import_module("pyarrow.parquet")
        for path in paths:
            file = pq.ParquetFile(path, memory_map=False, pre_buffer=False)
            groups = range(*_rows(file.num_row_groups, part, parts))
            for batch in file.iter_batches(32, row_groups=list(groups), use_threads=False):
                yield batch.column("X_jets").values.to_numpy(zero_copy_only=True)


class ParquetToPydict(Parquet):
    """The same file, as the field's code reads it."""

    name = "to_pydict"
    title = "Parquet, the field's to_pydict loop"

    def read(self, paths: Sequence[Path], part: int, parts: int) -> Iterator[Images]:
        """A row group and a jet at a time."""
        pq = import_module("pyarrow.parquet")
        for path in paths:
            file = pq.ParquetFile(path)
            for group in range(*_rows(min(file.num_row_groups, 256), part, parts)):
                row = file.read_row_group(group).to_pydict()
                yield np.float32(row["X_jets"]).reshape(1, 125, 125, 8)


class Hdf5:
    """Chunks of 32 jets, as the field's files have them."""

    name = "hdf5"
    title = "HDF5 gzip, h5py: slabs of whole chunks"
    suffix = ".h5"
    compression: str | None = "gzip"

    def write(self, path: Path, n: int, chunks: Iterator[Chunk]) -> None:
        """See SourceFormat."""
        h5py = import_module("h5py")
        with h5py.File(path, "w") as file:
            options: dict[str, Any] = {}
            if self.compression is not None:
                options = {"compression": self.compression, "chunks": (min(32, n), 125, 125, 8)}
            images = file.create_dataset("X_jets", (n, 125, 125, 8), "f4", **options)
            columns = {name: file.create_dataset(name, (n,), "f4") for name in SCALARS}
            begin = 0
            for pixels, scalars in chunks:
                here = slice(begin, begin + len(pixels))
                images[here] = pixels.transpose(0, 2, 3, 1)
                for name, column in columns.items():
                    column[here] = scalars[name]
                begin = here.stop

    def read(self, paths: Sequence[Path], part: int, parts: int) -> Iterator[Images]:
        """Into memory that is used again: read_direct saves the clearing of new pages."""
        h5py = import_module("h5py")
        for path in paths:
            with h5py.File(path, "r", rdcc_nbytes=0) as file:
                images = file["X_jets"]
                begin, end = _rows(-(-len(images) // BLOCK), part, parts)
                out = np.empty((BLOCK, *images.shape[1:]), np.float32)
                for first in range(begin * BLOCK, min(end * BLOCK, len(images)), BLOCK):
                    n = min(BLOCK, len(images) - first)
                    images.read_direct(out, np.s_[first : first + n], np.s_[:n])
                    yield out[:n]


class Hdf5Lzf(Hdf5):
    """As the files that the field re-chunked."""

    name = "hdf5_lzf"
    title = "HDF5 lzf, h5py: slabs of whole chunks"
    compression = "lzf"


class Hdf5Raw(Hdf5):
    """Contiguous and not compressed, as Dataset_Specific_Unlabelled.h5 is."""

    name = "hdf5_raw"
    title = "HDF5 contiguous, h5py: slabs"
    compression = None


class TfRecord:
    """GZIP, as the talk's files."""

    name = "tfrecord"
    title = "TFRecord GZIP, tf.data: parallel reads and maps"
    suffix = ".tfrecord"

    def write(self, path: Path, n: int, chunks: Iterator[Chunk]) -> None:
        """See SourceFormat."""
        tf = _tensorflow()
        with tf.io.TFRecordWriter(str(path), "GZIP") as file:
            for pixels, scalars in chunks:
                for k, image in enumerate(pixels):
                    flat = image.transpose(1, 2, 0).reshape(-1)
                    values = {
                        "X_jets": flat,
                        **{name: scalars[name][k : k + 1] for name in SCALARS},
                    }
                    feature = {
                        name: tf.train.Feature(float_list=tf.train.FloatList(value=column))
                        for name, column in values.items()
                    }
                    example = tf.train.Example(features=tf.train.Features(feature=feature))
                    file.write(example.SerializeToString())

    def read(self, paths: Sequence[Path], part: int, parts: int) -> Iterator[Images]:
        """A process per part with its own files: two threads of tf.data in one process are no faster."""
        tf = _tensorflow()
        mine = [str(path) for path in paths[part::parts]]
        features = {"X_jets": tf.io.FixedLenFeature((125, 125, 8), tf.float32)}
        batches = tf.data.TFRecordDataset(mine, "GZIP", buffer_size=1 << 20).batch(32)
        for batch in batches.map(lambda each: tf.io.parse_example(each, features)).prefetch(1):
            yield batch["X_jets"].numpy()


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return import_module("tensorflow")


class Npy:
    """An uncompressed array: a copy of memory."""

    name = "npy"
    title = "npy, numpy: readinto"
    suffix = ".npy"

    def write(self, path: Path, n: int, chunks: Iterator[Chunk]) -> None:
        """See SourceFormat."""
        images = np.lib.format.open_memmap(path, "w+", np.float32, (n, 8, 125, 125))
        begin = 0
        for pixels, _ in chunks:
            images[begin : begin + len(pixels)] = pixels
            begin += len(pixels)
        images.flush()

    def read(self, paths: Sequence[Path], part: int, parts: int) -> Iterator[Images]:
        """Into memory that is used again: faster than np.load, mapped or not."""
        out = np.empty((BLOCK, 8, 125, 125), np.float32)
        for path in paths:
            n = len(np.load(path, mmap_mode="r"))
            begin, end = _rows(n, part, parts)
            offset = path.stat().st_size - n * out[0].nbytes
            with path.open("rb", buffering=0) as file:
                file.seek(offset + begin * out[0].nbytes)
                while begin < end:
                    size = min(BLOCK, end - begin)
                    file.readinto(out[:size].data.cast("B"))
                    yield out[:size]
                    begin += size


class Root:
    """A branch of fixed size, ZSTD, as uproot and ROOT write it."""

    name = "root"
    title = "ROOT TTree zstd, uproot: iterate"
    suffix = ".root"

    def write(self, path: Path, n: int, chunks: Iterator[Chunk]) -> None:
        """See SourceFormat."""
        uproot = import_module("uproot")
        with uproot.recreate(path, compression=uproot.ZSTD(3)) as file:
            kinds = {
                "X_jets": np.dtype(("f4", (125000,))),
                **dict.fromkeys(SCALARS, np.dtype("f4")),
            }
            tree = file.mktree("events", kinds)
            for pixels, scalars in chunks:
                flat = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).reshape(len(pixels), -1)
                tree.extend({"X_jets": flat, **{name: scalars[name] for name in SCALARS}})

    def read(self, paths: Sequence[Path], part: int, parts: int) -> Iterator[Images]:
        """Steps of whole baskets."""
        uproot = import_module("uproot")
        for path in paths:
            with uproot.open(path) as file:
                tree = file["events"]
                begin, end = _rows(tree.num_entries // BLOCK, part, parts)
                options = {"entry_start": begin * BLOCK, "entry_stop": end * BLOCK}
                for step in tree.iterate(["X_jets"], step_size=BLOCK, library="np", **options):
                    yield step["X_jets"]


class Zarr:
    """Blosc zstd, chunks of 32 jets."""

    name = "zarr"
    title = "Zarr zstd, zarr: slabs of whole chunks"
    suffix = ".zarr"

    def write(self, path: Path, n: int, chunks: Iterator[Chunk]) -> None:
        """See SourceFormat."""
        zarr = import_module("zarr")
        group = zarr.open_group(str(path), mode="w")
        images = group.create_array(
            "X_jets", shape=(n, 8, 125, 125), chunks=(32, 8, 125, 125), dtype="f4"
        )
        columns = {
            name: group.create_array(name, shape=(n,), chunks=(n,), dtype="f4") for name in SCALARS
        }
        begin = 0
        for pixels, scalars in chunks:
            here = slice(begin, begin + len(pixels))
            images[here] = pixels
            for name, column in columns.items():
                column[here] = scalars[name]
            begin = here.stop

    def read(self, paths: Sequence[Path], part: int, parts: int) -> Iterator[Images]:
        """See SourceFormat."""
        zarr = import_module("zarr")
        for path in paths:
            images = zarr.open_group(str(path), mode="r")["X_jets"]
            begin, end = _rows(-(-images.shape[0] // BLOCK), part, parts)
            for first in range(begin * BLOCK, min(end * BLOCK, images.shape[0]), BLOCK):
                yield images[first : first + BLOCK]


#: By name, in the order of the table.
FORMATS: dict[str, SourceFormat] = {
    each.name: each
    for each in (
        Parquet(),
        ParquetToPydict(),
        Hdf5(),
        Hdf5Lzf(),
        Hdf5Raw(),
        TfRecord(),
        Root(),
        Zarr(),
        Npy(),
    )
}
