"""Fixtures shared by several test modules."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import made_dataset
import remote_toys
from faulty_server import FaultyServer

ROOT = Path(__file__).resolve().parents[2]


def _data() -> Path:
    return Path(os.environ.get("E2EIO_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def published() -> Path:
    """The directory of files in the layouts in which the field publishes its images."""
    path = _data() / "published"
    if not path.is_dir():
        pytest.skip(f"no data at {path}; set E2EIO_DATA to the directory that holds 'published'")
    return path


def _truth(path: Path) -> dict[str, NDArray[np.float32]]:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="session")
def truth_x1(published: Path) -> dict[str, NDArray[np.float32]]:
    """X [128, 8, 125, 125], m0, pt, y [128]."""
    return _truth(published / "truth_x1.npz")


@pytest.fixture(scope="session")
def truth_x3(published: Path) -> dict[str, NDArray[np.float32]]:
    """X [16, 8, 375, 375], m0, pt, y [16]."""
    return _truth(published / "truth_x3.npz")


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small dataset, `top`."""
    path = tmp_path_factory.mktemp("remote")
    made_dataset.make(path / "top", remote_toys.N)
    return path


@pytest.fixture
def server(top: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """A server of that directory."""
    monkeypatch.setenv("E2EIO_REMOTE_BACKOFF", "0.01")
    with remote_toys.served(top) as running:
        yield running
