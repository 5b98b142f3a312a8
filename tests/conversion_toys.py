"""Small sources for the tests of conversions, and ways to read what became of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from e2eio import manifest
from e2eio.shards import open_shard

__all__ = [
    "BOOSTED_X1",
    "BOOSTED_X3",
    "EXTENT",
    "QUARK_GLUON",
    "SMALL",
    "TOP_GUN",
    "Truth",
    "damage",
    "make_images",
    "names",
    "read_column",
    "read_images",
    "run_python",
    "same_bits",
    "write_small",
]

BOOSTED_X1 = "BoostedTop_x1_fixed_0.snappy.parquet"
BOOSTED_X3 = "BoostedTop_x3_fixed_0.snappy.parquet"
QUARK_GLUON = "QCDToGGQQ_IMGjet_RH1all_jet0_run0_n64.test.snappy.parquet"
TOP_GUN = "top_gun_opendata_0.parquet"

Truth = dict[str, NDArray[np.float32]]
EXTENT = (2, 6, 6)
SMALL: dict[str, Any] = {
    "shape": EXTENT,
    "channels": ("a", "b"),
    "progress": False,
    "isolate": False,
    "processes": 1,
}


def read_images(out: Path) -> NDArray[np.float32]:
    content = manifest.read(out)
    channels = list(range(len(content.schema.channels)))
    readers = [open_shard(out / shard.file) for shard in content.shards]
    return np.concatenate([r.decode(np.arange(r.n_samples), channels) for r in readers])


def read_column(out: Path, name: str) -> NDArray[Any]:
    content = manifest.read(out)
    index = [scalar.name for scalar in content.schema.scalars].index(name)
    return np.concatenate([open_shard(out / s.file).column(index) for s in content.shards])


def same_bits(found: NDArray[np.float32], truth: NDArray[np.float32]) -> bool:
    pair = [np.ascontiguousarray(images, np.float32).view(np.uint32) for images in (found, truth)]
    return np.array_equal(pair[0], pair[1])


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def make_images(n: int, seed: int = 0, dtype: str = "f4") -> NDArray[Any]:
    random = np.random.default_rng(seed)
    images = random.normal(size=(n, *EXTENT)).astype(np.float32).astype(dtype)
    images[random.random(images.shape) < 0.7] = 0
    return images


def write_small(path: Path, images: NDArray[Any], *, row_group_size: int = 4) -> Path:
    rows = list(images.transpose(0, 2, 3, 1).reshape(len(images), -1))
    columns = {"X": pa.array(rows), "y": pa.array(np.arange(len(images)))}
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size, write_page_checksum=True)
    return path


def damage(path: Path) -> None:
    """Flip a bit in the pages in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def run_python(program: str, *args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, args)],
        cwd=cwd,  # not the source tree, which has no compiled core
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
