"""ROOT files for the tests of importers; without uproot or awkward those who use them are skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ak = pytest.importorskip("awkward", reason="awkward is not installed")
uproot = pytest.importorskip("uproot", reason="uproot is not installed")

__all__ = ["COMPRESSIONS", "add", "ak", "as_column", "uproot", "write"]

COMPRESSIONS = {
    "none": None,
    "ZLIB": uproot.ZLIB(1),
    "LZMA": uproot.LZMA(1),
    "LZ4": uproot.LZ4(1),
    "ZSTD": uproot.ZSTD(1),
}


def write(
    path: Path,
    columns: dict[str, Any],
    kind: str = "tree",
    name: str = "Events",
    step: int = 100,
    compression: Any = None,
) -> Path:
    """Write one tree or ntuple, one basket or cluster per `step` entries."""
    with uproot.recreate(path, compression=compression) as file:
        add(file, columns, kind, name, step)
    return path


def add(file: Any, columns: dict[str, Any], kind: str, name: str, step: int) -> None:
    n = max(map(len, columns.values()))
    make = {"tree": file.mktree, "ntuple": file.mkrntuple}[kind]
    if kind == "tree":
        types = {key: _branch_type(values) for key, values in columns.items()}
        table = make(name, types)
    else:
        columns = {key: ak.Array(values) for key, values in columns.items()}
        table = make(name, ak.Array(columns).layout.form)
    for low in range(0, n, step):
        table.extend({key: values[low : low + step] for key, values in columns.items()})


def _branch_type(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return np.dtype((values.dtype, values.shape[1:]))
    return str(ak.type(values).content)


def as_column(images: NDArray[Any], form: str) -> Any:
    """Return images as fixed arrays, flat or nested, or as lists of any length."""
    rows = images.reshape(len(images), -1) if form.startswith("flat") else images
    if form.endswith("fixed"):
        return np.ascontiguousarray(rows)
    if form == "nested lists":
        return ak.Array(rows.tolist())
    return ak.from_regular(ak.Array(rows), axis=1)
