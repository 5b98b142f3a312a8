from __future__ import annotations

import lzma
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from e2eio.errors import ConfigError, E2eioError, ImporterError, ShardNotFoundError
from e2eio.importers import ImportOptions, open_source
from importer_toys import SMALL, read_all, run_measured, small_images
from root_toys import COMPRESSIONS, ak, as_column, uproot, write


def empty_file(path: Path) -> None:
    with uproot.recreate(path):
        pass


def ragged(path: Path) -> None:
    rows = [row.ravel().tolist() for row in small_images(6)]
    rows[4] = rows[4][:-1]
    write(path, {"X": ak.Array(rows)}, step=2)


def ragged_nested(path: Path) -> None:
    rows = small_images(6).tolist()
    rows[4][1][2] = rows[4][1][2][:3]
    write(path, {"X": ak.Array(rows)}, "ntuple", step=2)


MALFORMED: dict[str, tuple[Any, type[E2eioError], str]] = {
    "no tree": (empty_file, ImporterError, "no tree"),
    "no image column": (
        lambda p: write(p, {"y": np.arange(3)}),
        ImporterError,
        r"no image column.*columns y.*PFCands_pt",
    ),
    "images of integers": (
        lambda p: write(p, {"X": np.zeros((2, 24), "i4")}),
        ImporterError,
        r"wrong type of image column 'X'.*found int32_t\[24\]",
    ),
    "two levels": (
        lambda p: write(p, {"X": np.zeros((2, 4, 6), "f4")}),
        ImporterError,
        "wrong type of image column",
    ),
    "image of one number": (
        lambda p: write(p, {"X": np.zeros(2)}),
        ImporterError,
        "wrong type of image column",
    ),
    "empty tree": (
        lambda p: write(p, {"X": small_images(0)}),
        ImporterError,
        "no samples.*empty tree",
    ),
    "empty lists": (
        lambda p: write(p, {"X": ak.values_astype(ak.Array([[], []]), "float32")}),
        ImporterError,
        "no image",
    ),
    "lists of different lengths": (ragged, ImporterError, "ragged.*entry 4.*23, expected 24"),
    "nested lists of different lengths": (ragged_nested, ImporterError, "ragged.*entry 4"),
    "text": (lambda p: p.write_bytes(b"root" + b"\n" * 99), ImporterError, "root|ROOT"),
    "header alone": (lambda p: p.write_bytes(b"root"), ImporterError, "truncated ROOT file"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(tmp_path: Path, case: str) -> None:
    make, error, message = MALFORMED[case]
    path = tmp_path / "a.root"
    make(path)
    with pytest.raises(error, match=message) as caught:
        read_all(open_source(path, SMALL))
    assert str(path) in str(caught.value)


def test_an_image_column_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a", {"X": small_images(1), "y": np.arange(1)})
    with pytest.raises(ConfigError, match="columns X, y, expected 'Z'"):
        open_source(path, ImportOptions(image="Z"))
    with pytest.raises(ShardNotFoundError):
        open_source(tmp_path / "b")


def test_a_range_that_is_not_there(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "a", {"X": small_images(2)}), SMALL)
    with pytest.raises(ConfigError, match="range"):
        next(source.chunks(0, 3))


def outcome(path: Path, options: ImportOptions) -> str:
    """Return the error's name, or "data"; anything but this package's errors is raised."""
    try:
        source = open_source(path, options)
        try:
            for begin in range(0, source.n_samples, 1 << 16):
                list(source.chunks(begin, min(source.n_samples, begin + (1 << 16))))
                if begin:
                    break
        finally:
            source.close()
    except E2eioError as error:
        assert str(path) in str(error)  # noqa: PT017 - data is fine too
        return type(error).__name__
    return "data"


@pytest.mark.parametrize("kind", ["tree", "ntuple"])
def test_truncated_anywhere(tmp_path: Path, kind: str) -> None:
    data = write(tmp_path / "a", {"X": small_images(20)}, kind, step=7).read_bytes()
    path = tmp_path / "b"
    for size in {*range(5, len(data), len(data) // 40), len(data) - 1}:
        path.write_bytes(data[:size])
        with pytest.raises(ImporterError, match="truncated"):
            open_source(path, SMALL)


@pytest.mark.parametrize("compression", ["none", "ZSTD", "ZLIB"])
@pytest.mark.parametrize("kind", ["tree", "ntuple"])
def test_flipped_bytes_give_data_or_an_error(tmp_path: Path, kind: str, compression: str) -> None:
    columns = {"X": as_column(small_images(20), "flat lists"), "y": np.arange(20)}
    data = write(
        tmp_path / "a", columns, kind, step=7, compression=COMPRESSIONS[compression]
    ).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "b"
    seen = set()
    for _ in range(80):
        damaged = bytearray(data)
        for at in rng.integers(4, len(data), rng.integers(1, 4)):
            damaged[at] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        seen.add(outcome(path, SMALL))
    assert len(seen) > 1


# --- hostile sizes ---


READING = """
from e2eio.errors import ImporterError
from e2eio.importers import ImportOptions, open_source
source = open_source(sys.argv[1], ImportOptions(shape=(1, 1000, 1000), channels=("a",)))
before = peak()
try:
    list(source.chunks(0, 1))
except ImporterError as error:
    print(peak() - before, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["ZLIB", "ZSTD", "LZMA"])
def test_a_block_that_inflates_to_more_than_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    honest = COMPRESSIONS[name]
    zeros = bytes(200 << 20)
    squeezed = {
        "ZLIB": lambda: zlib.compress(zeros, 1),
        "ZSTD": lambda: zstandard.ZstdCompressor().compress(zeros),
        "LZMA": lambda: lzma.compress(zeros[: 100 << 20], preset=0),
    }[name]()
    path = tmp_path / "a"
    with uproot.recreate(path, compression=None) as file:
        tree = file.mktree("Events", {"X": np.dtype(("f4", (1_000_000,)))})
        tree.extend({"X": np.zeros((1, 1_000_000), "f4")})  # the first image tells the shape
        monkeypatch.setattr(type(honest), "compress", lambda self, data: squeezed)
        tree.compression = honest
        tree.extend({"X": np.zeros((1, 1_000_000), "f4")})
    program = READING.replace("chunks(0, 1)", "chunks(1, 2)")
    grown, _, message = run_measured(program, path).partition(" ")
    assert "damaged ROOT file" in message
    assert int(grown) < 60


def test_a_file_that_states_more_entries_than_it_can_hold(tmp_path: Path) -> None:
    path = write(tmp_path / "a", {"X": small_images(3)}, step=3)
    data = bytearray(path.read_bytes())
    n_entries = struct.pack(">q", 3)
    at = data.find(n_entries, data.find(b"TTree"))
    found = 0
    while at >= 0:
        damaged = data.copy()
        damaged[at : at + 8] = struct.pack(">q", 1 << 55)
        path.write_bytes(damaged)
        found += outcome(path, SMALL) != "data"
        at = data.find(n_entries, at + 1)
    assert found
