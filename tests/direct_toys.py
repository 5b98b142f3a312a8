"""Small Parquet files, loaded without converting them, for the tests of e2eio.direct."""

from __future__ import annotations

import functools
import gc
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import e2eio
from e2eio.importers import ImportOptions

SMALL = ImportOptions(shape=(2, 16, 16), channels=("a", "b"))
N = 1400  # per file: two shards of 700
SECONDS = 60  # against hangs alone


def images(n: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(n, 2, 16, 16)).astype(np.float32)
    return np.where(rng.random(dense.shape) < 0.05, dense, 0).astype(np.float32)


@functools.cache
def _content(seed: int) -> bytes:
    table = pa.table(
        {
            "X": pa.array(list(images(N, seed).transpose(0, 2, 3, 1).reshape(N, -1))),
            "y": np.arange(N, dtype=np.int64) % 2,
            "pt": np.arange(N, dtype=np.float64) + 1000 * seed,
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=100)
    return file.getvalue()


def write(path: Path, seed: int) -> Path:
    path.write_bytes(_content(seed))
    return path


def write_sources(directory: Path) -> list[Path]:
    return [write(directory / f"jets{seed}.parquet", seed) for seed in range(2)]


def direct(sources: list[Path], cache: Path | None = None) -> e2eio.Dataset:
    return e2eio.Dataset(sources, cache=cache, import_options=SMALL)


def load(dataset: e2eio.Dataset, **options: Any) -> e2eio.Loader:
    fields = tuple({**dict.fromkeys(dataset.schema.field_names), "sample_id": None})
    given = {"batch_size": 64, "framework": "numpy", "fields": fields, "timeout": SECONDS}
    return e2eio.Loader(dataset, **{**given, **options})


def by_id(batches: Iterator[Any] | e2eio.Loader) -> dict[int, tuple[Any, ...]]:
    found = {}
    for *fields, ids in batches:
        for i, number in enumerate(ids.tolist()):
            found[number] = tuple(np.array(field[i]).tobytes() for field in fields)
    return found


def makers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "e2eio-maker"]


def assert_settles() -> None:
    gc.collect()
    end = time.monotonic() + SECONDS
    while makers() and time.monotonic() < end:
        time.sleep(0.01)
    assert not makers()
