from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.errors import ConfigError
from e2eio.importers import ImportOptions, open_source
from importer_toys import (
    READ_ALL,
    TWO,
    Truth,
    read_all,
    read_file,
    run_measured,
    same_bits,
    sparse_images,
    write_hdf5,
)

PUBLISHED: dict[str, tuple[int, Callable[[NDArray[Any]], NDArray[Any]], dict[str, str]]] = {
    "Dataset_Specific_labelled.h5": (8, lambda x: x, {"Y": "y", "m0": "m0", "pt": "pt"}),
    "quark-gluon_data-set_n64.hdf5": (
        64,
        lambda x: x[:, [0, 3, 4]],
        {"y": "y", "m0": "m0", "pt": "pt"},
    ),
    "tau_13ch.h5": (32, lambda x: np.concatenate([x, x[:, :5]], axis=1), {"am": "m0"}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_equal_their_truth(
    published: Path, truth_x1: Truth, tmp_path: Path, name: str
) -> None:
    n, part, scalars = PUBLISHED[name]
    truth = part(truth_x1["X"][:n])
    source = open_source(published / name)
    images, columns = read_all(source)
    assert same_bits(images, truth)
    for column, field in scalars.items():
        assert same_bits(columns[column], truth_x1[field][:n]), column
    source.close()
    e2eio.convert(published / name, tmp_path / "out", processes=1, progress=False)
    dataset = e2eio.Dataset(tmp_path / "out")
    assert len(dataset) == n
    assert all(same_bits(dataset[row][dataset.schema.image.name], truth[row]) for row in range(n))
    for column, field in scalars.items():
        assert same_bits(dataset.scalars(column), truth_x1[field][:n])


@pytest.mark.parametrize("kind", ["Electron", "Photon"])
def test_electron_and_photon(published: Path, tmp_path: Path, kind: str) -> None:
    path = published / f"Single{kind}Pt50_IMGCROPS_n256_RHv1.hdf5"
    with h5py.File(path, locking=False) as file:  # h5py's own reading is the truth here
        truth, labels = file["X"][:].transpose(0, 3, 1, 2), file["y"][:]
    e2eio.convert(path, tmp_path / "out", processes=1, progress=False)
    dataset = e2eio.Dataset(tmp_path / "out")
    assert dataset.channels == ("ecal_energy", "ecal_time")
    assert dataset.schema.image.shape == (2, 32, 32)
    assert all(same_bits(dataset[row]["X"], truth[row]) for row in range(256))
    assert np.array_equal(dataset.scalars("y"), labels)
    assert {*labels} == {float(kind == "Electron")}


def test_groups_and_links(tmp_path: Path) -> None:
    truth = sparse_images(4)
    with h5py.File(tmp_path / "a", "w") as file:
        for part in ("train", "test"):
            file[f"{part}/X"] = truth if part == "train" else -truth
            file[f"{part}/y"] = np.full(4, part == "test", np.int64)
        file["run"] = np.arange(4)
        file["train/loop"] = file["train"]
        file["test/soft"] = h5py.SoftLink("/test/y")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/X")
    with pytest.raises(ConfigError, match=r"several .*train/X .*pass image"):
        open_source(tmp_path / "a", TWO)
    source = open_source(tmp_path / "a", ImportOptions(image="/test/X", channels=("a", "b")))
    images, scalars = read_all(source)
    assert same_bits(images, -truth)
    assert scalars["y"].tolist() == scalars["soft"].tolist() == [1] * 4
    assert scalars["run"].tolist() == [0, 1, 2, 3]
    assert source.schema.image.name == "X"
    skipped = " ".join(source.skipped)
    assert "dangling (a link to nothing)" in skipped
    assert "elsewhere (a link to other.h5)" in skipped
    source.close()


def meta_file(path: Path, n_channels: int, table: NDArray[Any]) -> Path:
    images = np.zeros((len(table), 125, 125, n_channels), np.float32)
    coding = {"chunks": (1, 125, 125, n_channels), "compression": "gzip"}
    return write_hdf5(
        path, {"train_jet": images, "train_meta": table, "test_meta": table + 9}, **coding
    )


def scalars_of(path: Path, **options: Any) -> dict[str, list[float]]:
    source = open_source(path, ImportOptions(image="train_jet", **options))
    scalars = read_all(source)[1]
    source.close()
    return {name: values.tolist() for name, values in scalars.items()}


def test_labels_in_tables(tmp_path: Path) -> None:
    table = np.array([[1.0, 400.0, 0.5], [0.0, 500.0, 0.25]], np.float32)
    top = meta_file(tmp_path / "top", 8, table)
    gluon = meta_file(tmp_path / "gluon", 3, table[:, ::-1])
    assert scalars_of(top) == {"y": [1, 0], "meta_1": [400, 500], "meta_2": [0.5, 0.25]}
    assert scalars_of(gluon) == {"meta_0": [0.5, 0.25], "meta_1": [400, 500], "y": [1, 0]}
    named = scalars_of(top, meta=("y", "pt", "-"))
    assert named == {"y": [1, 0], "pt": [400, 500]}
    with pytest.raises(ConfigError, match="mend meta"):
        scalars_of(top, meta=("y", "pt"))
    channels = tuple(f"c{index}" for index in range(8))
    with pytest.raises(ConfigError, match=r"train_meta .*pass meta"):
        scalars_of(top, channels=channels)
    assert scalars_of(top, channels=channels, meta=("-", "-", "z")) == {"z": [0.5, 0.25]}
    e2eio.convert(
        top, tmp_path / "out", image="train_jet", meta=("a", "-", "b"), processes=1, progress=False
    )
    assert e2eio.Dataset(tmp_path / "out").schema.field_names == ("train_jet", "a", "b")
    one = meta_file(tmp_path / "one", 13, table[:, :1])
    assert scalars_of(one) == {"y": [1, 0]}


def test_arrays_stacked_to_channels(tmp_path: Path) -> None:
    truth = sparse_images(5, "f8")
    arrays = {
        "jetImage": truth.sum(axis=1),
        "jetImageECAL": truth[:, 0],
        "jetImageHCAL": truth[:, 1],
        "jets": np.ones((5, 59)),
    }
    path = write_hdf5(tmp_path / "a", arrays)
    with pytest.raises(ConfigError, match="stacked"):
        open_source(path)
    options = ImportOptions(image="jetImageECAL,jetImageHCAL", channels=("ecal", "hcal"))
    source = open_source(path, options)
    assert same_bits(read_all(source)[0], truth)
    assert source.schema.image.name == "jetImage"
    assert len(source.skipped) == 2
    source.close()


def test_scalars_keep_their_dtype_and_others_are_reported(tmp_path: Path) -> None:
    kept = {
        "flag": np.array([True, False, True]),
        "u64": np.array([1, 2, 2**64 - 1], np.uint64),
        "big": np.array([1, -2, 3], ">i4"),
        "half": np.array([0.5, 1, 2], "f2"),
        "nan": np.array([0x7FF8000000001234, 0, 0], np.uint64).view("f8"),
        "pt": np.array([[1.0], [2.0], [3.0]]),
    }
    left = {
        "names": [b"a", b"b", b"c"],
        "pair": np.ones((3, 2)),
        "edges": np.arange(10.0),
        "number": 3.0,
        "record": np.zeros(3, [("a", "i4"), ("b", "f4")]),
        "nothing": h5py.Empty("f4"),
        "complex": np.ones(3, "c8"),
    }
    source = open_source(write_hdf5(tmp_path / "a", {"X": sparse_images(3), **kept, **left}), TWO)
    scalars = read_all(source)[1]
    assert {name: str(values.dtype) for name, values in scalars.items()} == {
        "flag": "bool",
        "u64": "uint64",
        "big": "int32",
        "half": "float32",
        "nan": "float64",
        "pt": "float64",
    }
    assert scalars["big"].tolist() == [1, -2, 3]
    assert scalars["nan"].view(np.uint64)[0] == 0x7FF8000000001234
    assert {text.split()[0] for text in source.skipped} == {*left}
    source.close()


def test_file_that_the_program_has_open(tmp_path: Path) -> None:
    truth = sparse_images(2)
    path = write_hdf5(tmp_path / "a", {"X": truth})
    with h5py.File(path, "r"):
        assert same_bits(read_file(path), truth)


def test_file_locked_by_another_process(tmp_path: Path) -> None:
    truth = sparse_images(2)
    path = write_hdf5(tmp_path / "a", {"X": truth})
    program = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert same_bits(read_file(path), truth)
        holder.communicate(b"\n")


def test_fingerprint_tells_files_apart(tmp_path: Path) -> None:
    prints: list[bytes] = []
    for number in (1, 1, 2):
        path = write_hdf5(
            tmp_path / f"{len(prints)}", {"X": sparse_images(4) * number}, track_times=False
        )
        source = open_source(path, TWO)
        prints.append(source.fingerprint)
        source.close()
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "X_jets", (640, 125, 125, 8), "f4", chunks=(32, 125, 125, 8), compression="gzip"
        )
        packed = zlib.compress(bytes(32 * 125 * 125 * 8 * 4))
        for row in range(0, 640, 32):  # 320 MB decoded
            data.id.write_direct_chunk((row, 0, 0, 0), packed)
    n, grown_mib = map(int, run_measured(READ_ALL, path).split())
    assert n == 640
    assert grown_mib < 200, grown_mib
