"""Deflated bytes, inflated by ISA-L where it is installed and by zlib where it is not."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from e2eio.importers import inflation
from importer_toys import sparse_images, write_hdf5

WITHOUT_ISAL = """
import sys
sys.modules["isal"] = None
import e2eio
from e2eio.importers import inflation
assert inflation.name == "zlib", inflation.name
made = e2eio.convert(sys.argv[1], sys.argv[2], channels=("a", "b"), isolate=False, progress=False)
print(made.content)
"""


def test_isal_inflates_where_it_is_installed() -> None:
    pytest.importorskip("isal", reason="no isal")
    assert inflation.name == "isal_zlib"


def test_both_give_the_same_dataset(tmp_path: Path) -> None:
    options = {"compression": "gzip", "shuffle": True, "chunks": (4, 2, 15, 16)}
    path = write_hdf5(tmp_path / "jets.h5", {"X_jets": sparse_images(9)}, **options)
    with_isal = subprocess.run(
        [sys.executable, "-c", WITHOUT_ISAL.replace('sys.modules["isal"] = None', "")
         .replace('"zlib"', repr(inflation.name)), str(path), str(tmp_path / "one")],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    without = subprocess.run(
        [sys.executable, "-c", WITHOUT_ISAL, str(path), str(tmp_path / "other")],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert with_isal.stdout == without.stdout != ""


@pytest.mark.parametrize("window_bits", [15, 31])
def test_what_zlib_promises(window_bits: int) -> None:
    data = bytes(range(256)) * 1000
    packed = zlib.compress(data) if window_bits == 15 else gzip.compress(data)
    stream = inflation.inflater(window_bits)
    first = stream.decompress(packed + b"rest", 1000)
    ended = [stream.eof]
    assert first == data[:1000]
    assert first + stream.decompress(stream.unconsumed_tail) == data
    assert [*ended, stream.eof] == [False, True]
    assert stream.unused_data == b"rest"


@pytest.mark.parametrize("window_bits", [15, 31])
def test_a_wrong_checksum_is_told(window_bits: int) -> None:
    data = bytes(1000)
    packed = bytearray(zlib.compress(data) if window_bits == 15 else gzip.compress(data))
    packed[-5 if window_bits == 31 else -1] ^= 1  # the last byte of the checksum
    with pytest.raises(inflation.InflationError):
        inflation.inflater(window_bits).decompress(bytes(packed))
