"""Loaders whose lifecycle is tested: each kind makes batches that are dicts with "X" and "y"."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

import e2eio
from e2eio.schema import Channel, ImageField, ScalarField, Schema
from e2eio.shards import open_shard

__all__ = ["KINDS", "N_SAMPLES", "STALLED", "make_dataset", "make_loader", "program", "run_program"]

N_SAMPLES = 160

#: For open_shard: opening takes a moment, a batch of 16 some seconds.
STALLED = (10_000.0, 0.0)

#: Python that makes a loader of `dataset` with batches of `batch_size`, in order. The DataLoader has torch's face: no
#: close(), and its stats() are those of the epoch that was.
KINDS = {
    "numpy": 'e2eio.Loader(dataset, batch_size=batch_size, framework="numpy", threads=2, prefetch=2)',
    "torch": 'e2eio.Loader(dataset, batch_size=batch_size, framework="torch", threads=2, prefetch=2)',
    "DataLoader": "e2eio.DataLoader(dataset, batch_size=batch_size, num_workers=2, prefetch_factor=1)",
}


def make_dataset(directory: Path, *, n_shards: int = 1) -> Path:
    """Write N_SAMPLES images [2, 24, 24] of noise in [n, n + 1), where n, and y, is the sample's number."""
    rng = np.random.default_rng(11)
    numbers = np.arange(N_SAMPLES, dtype=np.float32)
    noise = rng.integers(0, 2**15, (N_SAMPLES, 2, 24, 24)) / 2**15
    images = numbers[:, None, None, None] + noise
    schema = Schema(
        ImageField("X", (Channel("a", "GeV"), Channel("b", "GeV")), 24, 24),
        (ScalarField("y", "float32", ""),),
    )
    with e2eio.write(directory, schema, shard_samples=N_SAMPLES // n_shards) as writer:
        writer.append(images.astype(np.float32), {"y": numbers})
    return directory


def make_loader(
    kind: str, path: Path, *, batch_size: int = 16, throttle: tuple[float, float] | None = None
) -> Any:
    """Return a loader of that kind over a dataset of one shard."""
    shard = next(path.glob("*.e2e"))
    names = {
        "e2eio": e2eio,
        "dataset": e2eio.Dataset(open_shard(shard, throttle=throttle)),
        "batch_size": batch_size,
    }
    return eval(KINDS[kind], names)


_PRELUDE = """
import atexit, gc, os, pickle, signal, sys, threading, time
import e2eio
from e2eio.shards import open_shard

shard, batch_size = sys.argv[1], 16
fast = e2eio.Dataset(shard)
slow = e2eio.Dataset(open_shard(shard, throttle={stalled}))

def make(dataset):
    return {kind}

def numbers(batches):
    return [int(y) for batch in batches for y in batch["y"]]

def check(batch):  # the pixels are the sample's
    for x, y in zip(batch["X"], batch["y"]):
        assert (x // 1 == y).all()
"""


def program(kind: str, text: str) -> str:
    """Return a program that begins with `make(dataset)`, `fast` and `slow` (datasets), and helpers."""
    return _PRELUDE.format(stalled=STALLED, kind=KINDS[kind]) + textwrap.dedent(text)


def run_program(kind: str, text: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run such a program over the dataset at `path`; a hang is an error."""
    shard = next(path.glob("*.e2e"))
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program(kind, text), str(shard)],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
