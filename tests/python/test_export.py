"""Exports, read by the libraries whose formats they are."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import polars
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.cli import main
from e2eio.errors import ConfigError, CorruptShardError, ShardExistsError
from e2eio.schema import Channel, ImageField, ScalarField, Schema

N = 300  # more than a batch
SHAPE = (3, 6, 5)
CHANNELS = ("track_pt", "ecal", "hcal")

Images = NDArray[np.float32]


@pytest.fixture(scope="module")
def images() -> Images:
    rng = np.random.default_rng(5)
    pixels = rng.normal(size=(N, *SHAPE)).astype(np.float32)
    pixels[rng.random(pixels.shape) < 0.9] = 0
    pixels[7] = 0  # a sample without pixels
    pixels[3, 0, 2, 2:5] = [-0.0, np.inf, 1e-42]
    pixels[4].view(np.uint32)[1, 1, 1] = 0x7FA00001  # a signalling NaN
    return pixels


@pytest.fixture(scope="module")
def scalars() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(6)
    return {
        "y": (np.arange(N) % 2).astype(np.int64),
        "pt": rng.uniform(400, 600, N).astype(np.float32),
        "seen": (np.arange(N) % 3 == 0),
    }


@pytest.fixture(scope="module")
def path(
    tmp_path_factory: pytest.TempPathFactory, images: Images, scalars: dict[str, NDArray[Any]]
) -> Path:
    folder = tmp_path_factory.mktemp("export") / "data"
    schema = Schema(
        ImageField("X_jets", tuple(Channel(name, "GeV") for name in CHANNELS), *SHAPE[1:]),
        (
            ScalarField("y", "int64"),
            ScalarField("pt", "float32", "GeV"),
            ScalarField("seen", "bool"),
        ),
    )
    with e2eio.write(folder, schema, shard_samples=128) as writer:
        writer.append(images, scalars)
    return folder


def bits(array: Any) -> NDArray[np.uint32]:
    return np.ascontiguousarray(array, np.float32).view(np.uint32)


def filled(lists: list[tuple[Any, Any]]) -> Images:
    """Images [n, H, W] of lists of positions and values."""
    dense = np.zeros((len(lists), SHAPE[1] * SHAPE[2]), np.uint32)
    for row, (positions, values) in zip(dense, lists, strict=True):
        row[np.asarray(positions, np.int64)] = np.asarray(values, np.float32).view(np.uint32)
    return dense.view(np.float32).reshape(-1, *SHAPE[1:])


def export(path: Path, out: Path, **options: Any) -> Any:
    return e2eio.export(path, out, progress=False, **options)


def test_sparse_parquet_is_read_by_three_libraries(
    path: Path, tmp_path: Path, images: Images, scalars: dict[str, NDArray[Any]]
) -> None:
    out = tmp_path / "jets.parquet"
    report = export(path, out)
    assert (report.n_samples, report.n_bytes) == (N, out.stat().st_size)
    table = pq.read_table(out)
    frame = polars.read_parquet(out)
    array = ak.from_parquet(out)
    for name, expected in scalars.items():
        assert table[name].to_numpy().dtype == expected.dtype
        np.testing.assert_array_equal(table[name].to_numpy(), expected)
        np.testing.assert_array_equal(frame[name].to_numpy(), expected)
        np.testing.assert_array_equal(ak.to_numpy(array[name]), expected)
    for c, name in enumerate(CHANNELS):
        keys = (f"{name}_index", f"{name}_value")
        rows = [table[key].chunks for key in keys]
        # pyarrow's own arrays: lists of Python floats would quiet the signalling NaN
        pairs = [
            (index.values.to_numpy(), value.values.to_numpy())
            for parts in zip(*rows, strict=True)
            for index, value in zip(*(list(part) for part in parts), strict=True)
        ]
        np.testing.assert_array_equal(bits(filled(pairs)), bits(images[:, c]))
        lists = list(zip(*(frame[key].to_list() for key in keys), strict=True))
        np.testing.assert_array_equal(filled(lists), images[:, c])
        lists = list(zip(*(ak.to_list(array[key]) for key in keys), strict=True))
        np.testing.assert_array_equal(filled(lists), images[:, c])
    described = json.loads(pq.read_schema(out).metadata[b"e2eio"])
    assert described["shape"] == list(SHAPE)
    assert described["channels"] == list(CHANNELS)
    assert described["units"] == ["GeV"] * 3


@pytest.mark.parametrize("compression", ["auto", "lzf", None])
def test_sparse_hdf5(path: Path, tmp_path: Path, images: Images, compression: str | None) -> None:
    export(path, tmp_path / "jets.h5", compression=compression)
    with h5py.File(tmp_path / "jets.h5") as file:
        for c, name in enumerate(CHANNELS):
            group = file[name]
            offsets, positions, values = (group[k][:] for k in ("offsets", "positions", "values"))
            pairs = [(positions[a:b], values[a:b]) for a, b in pairwise(offsets)]
            np.testing.assert_array_equal(bits(filled(pairs)), bits(images[:, c]))
        assert file["y"].dtype == np.int64
        assert json.loads(file.attrs["e2eio"])["form"] == "sparse"


@pytest.mark.parametrize("compression", ["auto", None])
def test_sparse_npz(path: Path, tmp_path: Path, images: Images, compression: str | None) -> None:
    export(path, tmp_path / "jets.npz", compression=compression)
    with np.load(tmp_path / "jets.npz", allow_pickle=False) as file:
        for c, name in enumerate(CHANNELS):
            offsets = file[f"{name}_offsets"]
            positions, values = file[f"{name}_positions"], file[f"{name}_values"]
            pairs = [(positions[a:b], values[a:b]) for a, b in pairwise(offsets)]
            np.testing.assert_array_equal(bits(filled(pairs)), bits(images[:, c]))
        assert json.loads(str(file["e2eio"]))["channels"] == list(CHANNELS)


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_dense_hdf5_and_npz(path: Path, tmp_path: Path, images: Images, layout: Any) -> None:
    expected = images if layout == "CHW" else images.transpose(0, 2, 3, 1)
    export(path, tmp_path / "jets.h5", form="dense", layout=layout)
    export(path, tmp_path / "jets.npz", form="dense", layout=layout)
    with h5py.File(tmp_path / "jets.h5") as file:
        np.testing.assert_array_equal(bits(file["X_jets"][:]), bits(expected))
    with np.load(tmp_path / "jets.npz") as file:
        np.testing.assert_array_equal(bits(file["X_jets"]), bits(expected))


@pytest.mark.parametrize("group_samples", [1, 64])
def test_dense_parquet_is_what_the_fields_code_reads(
    path: Path, tmp_path: Path, images: Images, group_samples: int
) -> None:
    out = tmp_path / "jets.parquet"
    export(path, out, form="dense", group_samples=group_samples, compression="snappy")
    file = pq.ParquetFile(out)
    assert file.num_row_groups >= N // group_samples
    if group_samples == 1:
        row = file.read_row_group(3).to_pydict()
        height, width = SHAPE[1:]
        np.testing.assert_array_equal(
            np.float32(row["X_jets"]).reshape(height, width, 3), images[3].transpose(1, 2, 0)
        )


@pytest.mark.parametrize("name", ["jets.parquet", "jets.h5", "jets.tfrecord", "jets.npz"])
def test_what_was_exported_is_converted_back_bit_for_bit(
    path: Path, tmp_path: Path, images: Images, scalars: dict[str, NDArray[Any]], name: str
) -> None:
    export(path, tmp_path / name, form="dense")
    e2eio.convert(
        tmp_path / name,
        tmp_path / "back",
        shape=SHAPE,
        layout="HWC",
        channels=CHANNELS,
        image="X_jets",
        progress=False,
        processes=1,
    )
    back = e2eio.Dataset(tmp_path / "back")
    found = np.stack([sample["X_jets"] for sample in back.__getitems__(range(N))])
    np.testing.assert_array_equal(bits(found), bits(images))
    found_names = {field.name for field in back.schema.scalars}
    assert found_names >= {"y", "pt"}
    for key in found_names:
        np.testing.assert_array_equal(back.scalars(key), scalars[key])


@pytest.mark.parametrize("per_file", [1000, 300, 128, 100, 7])
def test_files_hold_as_many_samples_as_asked_for(
    path: Path, tmp_path: Path, images: Images, per_file: int
) -> None:
    report = export(
        path, tmp_path / "jets.h5", form="dense", layout="CHW", samples_per_file=per_file
    )
    parts = []
    for k, name in enumerate(report.files):
        assert name == str(tmp_path / f"jets-{k:05d}.h5")
        with h5py.File(name) as file:
            parts.append(file["X_jets"][:])
    assert [len(part) for part in parts[:-1]] == [per_file] * (len(parts) - 1)
    np.testing.assert_array_equal(bits(np.concatenate(parts)), bits(images))


def test_channels_and_samples_are_chosen(path: Path, tmp_path: Path, images: Images) -> None:
    report = export(
        path,
        tmp_path / "jets.npz",
        form="dense",
        layout="CHW",
        channels=("hcal", 0),
        select="y == 1",
    )
    with np.load(tmp_path / "jets.npz") as file:
        np.testing.assert_array_equal(bits(file["X_jets"]), bits(images[1::2][:, [2, 0]]))
        assert set(file["y"]) == {1}
        assert json.loads(str(file["e2eio"]))["channels"] == ["hcal", "track_pt"]
    assert report.n_samples == N // 2


def test_files_that_are_there_stay(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "jets.h5"
    out.write_text("mine")
    with pytest.raises(ShardExistsError, match="overwrite"):
        export(path, out)
    assert out.read_text() == "mine"
    export(path, out, overwrite=True)
    assert h5py.is_hdf5(out)


def test_a_damaged_dataset_leaves_no_file(path: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data"
    broken.mkdir()
    for source in path.iterdir():
        (broken / source.name).write_bytes(source.read_bytes())
    shard = bytearray((broken / "shard-00001.e2e").read_bytes())
    shard[600] ^= 1
    (broken / "shard-00001.e2e").write_bytes(shard)
    for name in ("jets.parquet", "jets.h5", "jets.npz"):
        with pytest.raises(CorruptShardError, match="shard-00001"):
            export(broken, tmp_path / "out" / name)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"out": "jets.csv"}, "ending"),
        ({"format": "csv"}, "csv"),
        ({"form": "thin"}, "thin"),
        ({"layout": "WHC"}, "WHC"),
        ({"compression": "lzma"}, "lzma"),
        ({"samples_per_file": 0}, "at least 1"),
        ({"group_samples": 0}, "at least 1"),
        ({"channels": ("muon",)}, "muon"),
        ({"select": "eta > 1"}, "eta"),
    ],
)
def test_bad_arguments(path: Path, tmp_path: Path, options: dict[str, Any], text: str) -> None:
    out = tmp_path / options.pop("out", "jets.h5")
    with pytest.raises(ConfigError, match=text):
        export(path, out, **options)
    assert not out.exists()


def test_command_line(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "jets.npz"
    assert main(["export", str(path), str(out), "--json", "--quiet", "--channels", "ecal"]) == 0
    assert json.loads(capsys.readouterr().out)["n_samples"] == N
    assert main(["export", str(path), str(out), "--quiet"]) == 1
    assert "target exists" in capsys.readouterr().err
    assert main(["export", str(path), str(out), "--overwrite", "--compression", "none"]) == 0
    printed = capsys.readouterr()
    assert f"{N} samples in 1 file(s)" in printed.out


def test_without_its_package_a_format_says_what_to_install(path: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['h5py'] = None\n"
        "import e2eio\n"
        "try:\n"
        f"    e2eio.export({str(path)!r}, {str(tmp_path / 'jets.h5')!r}, progress=False)\n"
        "except e2eio.errors.MissingDependencyError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "e2eio[hdf5]" in done.stdout


def small(out: Path, channel: str, scalar: str, n: int = 3) -> Path:
    schema = Schema(
        ImageField("X", (Channel(channel, "GeV"),), 4, 4), (ScalarField(scalar, "int64"),)
    )
    with e2eio.write(out, schema) as writer:
        if n:
            writer.append(np.ones((n, 1, 4, 4), np.float32), {scalar: np.arange(n)})
    return out


@pytest.mark.parametrize(
    ("ending", "form", "channel", "scalar", "text"),
    [
        ("h5", "sparse", "pt", "pt", "two of one name: 'pt'"),
        ("parquet", "sparse", "ecal", "ecal_index", "two of one name: 'ecal_index'"),
        ("tfrecord", "sparse", "ecal", "ecal_value", "two of one name: 'ecal_value'"),
        ("npz", "sparse", "ecal", "ecal_values", "two of one name: 'ecal_values'"),
        ("npz", "dense", "ecal", "e2eio", "two of one name: 'e2eio'"),
        ("h5", "dense", "ecal", "jet/pt", "no name in HDF5: 'jet/pt'"),
        ("h5", "sparse", ".", "y", "no name in HDF5: '.'"),
    ],
)
def test_names_that_a_file_cannot_have(
    tmp_path: Path, ending: str, form: Any, channel: str, scalar: str, text: str
) -> None:
    out = tmp_path / f"jets.{ending}"
    with pytest.raises(ConfigError, match=text):
        export(small(tmp_path / "data", channel, scalar), out, form=form)
    assert not out.exists()


@pytest.mark.parametrize("form", ["sparse", "dense"])
def test_no_samples(tmp_path: Path, form: Any) -> None:
    path = small(tmp_path / "data", "ecal", "y", 0)
    for ending in ("parquet", "h5", "tfrecord", "npz"):
        assert export(path, tmp_path / f"jets.{ending}", form=form).n_samples == 0
    shape = (0, 4, 4, 1)
    with np.load(tmp_path / "jets.npz") as arrays, h5py.File(tmp_path / "jets.h5") as file:
        assert arrays["y"].shape == file["y"].shape == (0,)
        if form == "dense":
            assert arrays["X"].shape == file["X"].shape == shape
        else:
            assert arrays["ecal_offsets"].tolist() == file["ecal/offsets"][:].tolist() == [0]


def test_groups_are_whole_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small(tmp_path / "data", "ecal", "y", 100)
    monkeypatch.setattr("e2eio.exporters.run._BATCH_BYTES", 30 * 64)  # a batch of 30 images
    for asked, groups in ((8, [8] * 12 + [4]), (64, [30, 30, 30, 10])):
        options: dict[str, Any] = {"form": "dense", "group_samples": asked, "overwrite": True}
        export(path, tmp_path / "jets.parquet", **options)
        meta = pq.read_metadata(tmp_path / "jets.parquet")
        assert [meta.row_group(k).num_rows for k in range(meta.num_row_groups)] == groups
        export(path, tmp_path / "jets.h5", **options)
        with h5py.File(tmp_path / "jets.h5") as file:
            assert file["X"].chunks == (groups[0], 4, 4, 1)


def test_numbers_that_tfrecord_has_not(tmp_path: Path) -> None:
    schema = Schema(ImageField("X", (Channel("ecal"),), 4, 4), (ScalarField("w", "float64"),))
    with e2eio.write(tmp_path / "data", schema) as writer:
        writer.append(np.ones((1, 1, 4, 4), np.float32), {"w": np.array([1e300])})
    with pytest.raises(ConfigError, match="'w': found float64 values that are no float32"):
        export(tmp_path / "data", tmp_path / "jets.tfrecord")
