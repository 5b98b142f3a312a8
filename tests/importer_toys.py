"""Small images for the tests of importers, files of them, and ways to read what is in a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from e2eio.importers import ImageSource, ImportOptions, open_source

__all__ = [
    "READ_ALL",
    "SMALL",
    "TWO",
    "Truth",
    "flat_column",
    "read_all",
    "read_file",
    "run_measured",
    "same_bits",
    "small_images",
    "sparse_images",
    "write_hdf5",
    "write_parquet",
]

Truth = dict[str, NDArray[np.float32]]
TWO = ImportOptions(channels=("a", "b"))
SMALL = ImportOptions(shape=(2, 3, 4), channels=("a", "b"))


def small_images(n: int, dtype: str = "f4") -> NDArray[Any]:
    """Return [n, 2, 3, 4], all numbers different."""
    return np.arange(1, n * 24 + 1, dtype=dtype).reshape(n, 2, 3, 4)


def sparse_images(n: int, dtype: str = "f4") -> NDArray[Any]:
    """Return [n, 2, 15, 16], four pixels of five empty."""
    values = np.arange(1, n * 480 + 1).reshape(n, 2, 15, 16) % 251
    return np.where(values % 5 == 0, values, 0).astype(dtype)


def write_hdf5(path: Path, arrays: dict[str, Any], **options: Any) -> Path:
    """Write arrays; those of four dimensions as `options` say."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            chosen = options if np.ndim(values) == 4 else {}
            file.create_dataset(name, data=values, **chosen)
    return path


def write_parquet(path: Path, columns: dict[str, Any], **options: object) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def flat_column(images: NDArray[Any]) -> pa.Array:
    """Return images as a column of flat lists, channels last."""
    rows = [row.transpose(1, 2, 0).ravel() for row in images]
    return pa.array(rows, type=pa.list_(pa.from_numpy_dtype(images.dtype)))


def read_all(
    source: ImageSource, begin: int = 0, end: int | None = None
) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    chunks = list(source.chunks(begin, source.n_samples if end is None else end))
    images = np.concatenate([images for images, _ in chunks])
    return images, {name: np.concatenate([s[name] for _, s in chunks]) for name in chunks[0][1]}


def read_file(path: Path, options: ImportOptions = TWO) -> NDArray[Any]:
    source = open_source(path, options)
    try:
        return read_all(source)[0]
    finally:
        source.close()


def same_bits(found: NDArray[Any], truth: NDArray[Any]) -> bool:
    assert found.dtype is np.dtype(truth.dtype.name)  # the writer takes numpy's own dtypes alone
    return found.shape == truth.shape and found.tobytes() == truth.tobytes()


_PEAK = r"""
import re, sys

def peak():  # MiB; ru_maxrss would begin with the size of the process that has started this one
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) >> 10
"""

#: Prints how many samples a file has, and by how many MiB reading them all made the process grow.
READ_ALL = """
from e2eio.importers import open_source
source = open_source(sys.argv[1])
before, n = peak(), 0
for images, _ in source.chunks(0, source.n_samples):
    n += len(images)
print(n, peak() - before)
"""


def run_measured(program: str, path: Path) -> str:
    """Return what a program prints that is run on a file, and knows its peak() of memory."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK + program, str(path)],
        cwd=path.parent,  # not the source tree, which has no compiled core
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
