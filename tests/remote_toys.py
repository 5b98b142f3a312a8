"""A server of a small dataset, and what comes from it, for the tests of e2eio.remote."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import e2eio
from faulty_server import FaultyServer

N = 150
SHUFFLES: list[Any] = [False, True, "window"]


@contextmanager
def served(directory: Path) -> Iterator[FaultyServer]:
    """A server of a directory; whoever reads from it leaves no thread."""
    with FaultyServer(directory) as running:
        yield running
    until_no_thread()


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("e2eio")]


def until_no_thread() -> None:
    end = time.monotonic() + 120
    while threads():
        gc.collect()  # errors that a test has caught hold its frame
        assert time.monotonic() < end, threads()
        time.sleep(0.01)


def batches(dataset: Any, **options: Any) -> list[dict[str, Any]]:
    with e2eio.Loader(
        dataset, batch_size=16, framework="numpy", seed=4, rank=0, world_size=1, **options
    ) as loader:
        return [{name: np.array(value) for name, value in batch.items()} for batch in loader]


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def run(text: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *arguments],
        check=False,
        timeout=120,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr + done.stdout
    return done.stdout
