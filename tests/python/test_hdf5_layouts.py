from __future__ import annotations

import itertools
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from e2eio.importers import ImportOptions, open_source
from e2eio.importers.arrays import blocks, hdf5
from importer_toys import TWO, read_all, read_file, same_bits, sparse_images, write_hdf5

CHUNKS: list[tuple[int, ...] | None] = [
    None,
    (1, 2, 15, 16),
    (4, 2, 15, 16),
    (3, 1, 8, 7),
    (23, 2, 15, 16),
]
CODINGS: list[dict[str, Any]] = [
    {},
    {"compression": "gzip"},
    {"compression": "gzip", "shuffle": True},
    {"compression": "lzf"},
    {"compression": "lzf", "shuffle": True},
    {"compression": "gzip", "fletcher32": True},
    {"shuffle": True},
]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", ">f2"])
def test_every_layout_and_compression(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "_INFLATED_BYTES", 0)  # small chunks too go the way of large ones
    monkeypatch.setattr(blocks, "_CHUNK_BYTES", 4 * 2 * 15 * 16 * 8)  # several blocks
    monkeypatch.setattr(blocks, "_PLAIN_BYTES", 4 * 2 * 15 * 16 * 8)
    monkeypatch.setattr(blocks, "_COLUMN_ROWS", 6)
    truth = sparse_images(23, dtype)
    wanted = truth.astype("f8" if truth.itemsize == 8 else "f4")
    labels = np.arange(23)
    for number, (chunks, coding) in enumerate(itertools.product(CHUNKS, CODINGS)):
        if coding and chunks is None:
            continue
        path = write_hdf5(
            tmp_path / f"{number}", {"X": truth, "y": labels}, chunks=chunks, **coding
        )
        source = open_source(path, TWO)
        for begin, end in ((0, 23), (5, 18), (22, 23)):
            images, scalars = read_all(source, begin, end)
            assert same_bits(images, wanted[begin:end]), (chunks, coding, begin)
            assert scalars["y"].tolist() == labels[begin:end].tolist()
        source.close()


@pytest.mark.parametrize("n_threads", [1, 3])
def test_threads_do_not_change_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_threads: int
) -> None:
    for module in (blocks, hdf5):
        monkeypatch.setattr(module, "reading_threads", lambda: n_threads)
    monkeypatch.setattr(hdf5, "_INFLATED_BYTES", 0)
    monkeypatch.setattr(blocks, "_CHUNK_BYTES", 40 * 2 * 15 * 16 * 4)
    truth = sparse_images(200)
    path = write_hdf5(tmp_path / "a", {"X": truth}, chunks=(5, 1, 8, 16), compression="gzip")
    for _ in range(5):
        assert same_bits(read_file(path), truth)


def test_bits_survive_inflation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "_INFLATED_BYTES", 0)
    truth = np.random.default_rng(0).integers(0, 2**32, (9, 2, 15, 16), np.uint32).view(np.float32)
    for coding in CODINGS[1:]:
        path = write_hdf5(tmp_path / "a", {"X": truth}, chunks=(4, 2, 15, 16), **coding)
        assert same_bits(read_file(path), truth)


def test_a_filter_that_was_left_out_of_a_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "_INFLATED_BYTES", 0)
    truth = sparse_images(6)
    path = tmp_path / "a"
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "X", truth.shape, "f4", chunks=(2, 2, 15, 16), compression="gzip", shuffle=True
        )
        data[:] = truth
        data.id.write_direct_chunk((2, 0, 0, 0), truth[2:4].tobytes(), filter_mask=3)
        data.id.write_direct_chunk((4, 0, 0, 0), zlib.compress(truth[4:].tobytes()), filter_mask=1)
    assert same_bits(read_file(path), truth)


def test_layouts(tmp_path: Path) -> None:
    truth = sparse_images(3)
    last = write_hdf5(tmp_path / "a", {"X": truth.transpose(0, 2, 3, 1)})
    flat = write_hdf5(tmp_path / "b", {"X_jets": truth.transpose(0, 2, 3, 1).reshape(3, -1)})
    single = write_hdf5(tmp_path / "c", {"image": truth[:, 0]})
    assert same_bits(read_file(last), truth)
    shape = ImportOptions(shape=(2, 15, 16), channels=("a", "b"))
    assert same_bits(read_file(flat, shape), truth)
    assert same_bits(read_file(single, ImportOptions(channels=("a",))), truth[:, :1])


def test_user_block(tmp_path: Path) -> None:
    truth = sparse_images(3)
    for size in (512, 1024, 4096):
        path = tmp_path / f"{size}"
        with h5py.File(path, "w", userblock_size=size) as file:
            file["X"] = truth
            file.create_dataset("other_jet", data=truth, chunks=(1, 2, 15, 16), compression="gzip")
        for name in ("X", "other_jet"):
            assert same_bits(read_file(path, ImportOptions(image=name, channels=("a", "b"))), truth)
