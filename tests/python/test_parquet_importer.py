from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from conversion_toys import BOOSTED_X1, BOOSTED_X3, QUARK_GLUON, TOP_GUN
from e2eio.errors import ConfigError
from e2eio.importers import ImportOptions, open_source
from importer_toys import (
    READ_ALL,
    SMALL,
    Truth,
    flat_column,
    read_all,
    run_measured,
    small_images,
    write_parquet,
)


def same_bits(found: NDArray[Any], truth: NDArray[np.float32]) -> bool:
    as_float = np.ascontiguousarray(found.astype(np.float32))
    assert np.array_equal(as_float.astype(found.dtype), found)  # doubles that are floats
    return np.array_equal(as_float.view(np.uint32), np.ascontiguousarray(truth).view(np.uint32))


def test_boosted_top_x1(published: Path, truth_x1: Truth) -> None:
    source = open_source(published / BOOSTED_X1)
    images, scalars = read_all(source)
    assert images.dtype == np.float32
    assert same_bits(images, truth_x1["X"])
    for name in ("y", "m0", "pt"):
        assert same_bits(scalars[name], truth_x1[name])
    assert source.schema.channels[:5] == ("track_pt", "d0", "dz", "ecal", "hcal")
    assert source.schema.image.name == "X_jets"
    assert (source.geometry.layout, source.n_samples) == ("HWC", 128)


def test_boosted_top_x3(published: Path, truth_x3: Truth) -> None:
    source = open_source(published / BOOSTED_X3)
    images, _ = read_all(source)
    assert same_bits(images, truth_x3["X"])
    assert source.schema.image.shape == (8, 375, 375)


def test_quark_gluon(published: Path, truth_x1: Truth) -> None:
    source = open_source(published / QUARK_GLUON)
    images, scalars = read_all(source)
    assert images.dtype == np.float64
    assert same_bits(images, truth_x1["X"][:64, [0, 3, 4]])
    assert scalars["pt"].dtype == np.float64
    assert same_bits(scalars["pt"], truth_x1["pt"][:64])
    assert source.schema.channels == ("track_pt", "ecal", "hcal")
    assert source.geometry.layout == "CHW"


def test_top_gun(published: Path, truth_x1: Truth) -> None:
    source = open_source(published / TOP_GUN)
    images, scalars = read_all(source)
    assert same_bits(images, truth_x1["X"][:16])
    assert scalars["ieta"].dtype == np.int32
    assert same_bits(scalars["m"], truth_x1["m0"][:16])
    assert [(s.name, s.dtype, s.unit) for s in source.schema.scalars] == [
        ("m", "float64", "GeV"),
        ("pt", "float64", "GeV"),
        ("ieta", "int32", ""),
        ("iphi", "int32", ""),
    ]


@pytest.mark.parametrize(("begin", "end"), [(0, 1), (17, 18), (31, 33), (5, 128), (128, 128)])
def test_ranges(published: Path, truth_x1: Truth, begin: int, end: int) -> None:
    source = open_source(published / BOOSTED_X1)
    chunks = list(source.chunks(begin, end))
    assert sum(len(images) for images, _ in chunks) == end - begin
    if chunks:
        assert same_bits(np.concatenate([c[0] for c in chunks]), truth_x1["X"][begin:end])


def test_wrong_range(published: Path) -> None:
    source = open_source(published / BOOSTED_X1)
    with pytest.raises(ConfigError, match="range"):
        next(source.chunks(0, 129))


def test_images_are_views_of_arrow_memory(published: Path) -> None:
    for name in (BOOSTED_X1, QUARK_GLUON):
        images, _ = next(open_source(published / name).chunks(0, 16))
        assert not images.flags.owndata
        assert not images.flags.writeable


@pytest.mark.parametrize("rows_per_group", [1, 3, 7, 100])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_row_groups_of_any_size(tmp_path: Path, rows_per_group: int, dtype: str) -> None:
    truth = small_images(20)
    columns = {"X": flat_column(truth.astype(dtype)), "y": np.arange(20)}
    path = write_parquet(tmp_path / "a", columns, row_group_size=rows_per_group)
    source = open_source(path, SMALL)
    assert source.cuts.tolist() == [*range(0, 20, rows_per_group), 20]
    for begin, end in ((0, 20), (4, 13), (19, 20)):
        images, scalars = read_all(source, begin, end)
        assert same_bits(images, truth[begin:end])
        assert scalars["y"].tolist() == list(range(begin, end))


@pytest.mark.parametrize("order", ["CHW", "HWC"])
@pytest.mark.parametrize("element", [pa.float32(), pa.float64()])
@pytest.mark.parametrize("kind", ["list", "large_list", "fixed_size_list"])
def test_nested_lists_of_every_kind(
    tmp_path: Path, order: str, element: pa.DataType, kind: str
) -> None:
    truth = small_images(5)
    rows = truth if order == "CHW" else truth.transpose(0, 2, 3, 1)
    type_ = element
    for size in reversed(rows.shape[1:]):
        type_ = {
            "list": lambda t, _: pa.list_(t),
            "large_list": lambda t, _: pa.large_list(t),
            "fixed_size_list": pa.list_,
        }[kind](type_, size)
    path = write_parquet(
        tmp_path / "a", {"X": pa.array(rows.tolist(), type=type_)}, row_group_size=2
    )
    options = ImportOptions(channels=("a", "b"))
    source = open_source(path, options)
    assert source.geometry.layout == order
    assert same_bits(read_all(source)[0], truth)


def test_layout_option_beats_the_guess(tmp_path: Path) -> None:
    rows = small_images(2).reshape(2, 4, 3, 2)
    path = write_parquet(tmp_path / "a", {"X": pa.array(rows.tolist())})
    options = ImportOptions(layout="CHW", channels=("a", "b", "c", "d"))
    assert same_bits(read_all(open_source(path, options))[0], rows.astype(np.float32))
    flat = write_parquet(tmp_path / "b", {"X": pa.array(list(rows.reshape(2, -1)))})
    chw = ImportOptions(layout="CHW", shape=(4, 3, 2), channels=("a", "b", "c", "d"))
    assert same_bits(read_all(open_source(flat, chw))[0], rows)


def test_scalars_keep_their_dtype_and_others_are_reported(tmp_path: Path) -> None:
    kept = {
        "flag": pa.array([True, False, True]),
        "i8": pa.array([1, 2, 3], pa.int8()),
        "u64": pa.array([1, 2, 2**64 - 1], pa.uint64()),
        "f8": pa.array([0.1, 0.2, np.nan]),
        "half": pa.array(np.array([0.5, 1, 2], np.float16)),
    }
    left = {"name": pa.array(["a", "b", "c"]), "list": pa.array([[1], [2, 3], []])}
    path = write_parquet(tmp_path / "a", {"X": flat_column(small_images(3)), **kept, **left})
    source = open_source(path, SMALL)
    _, scalars = read_all(source)
    dtypes = {name: str(values.dtype) for name, values in scalars.items()}
    assert dtypes == {
        "flag": "bool",
        "i8": "int8",
        "u64": "uint64",
        "f8": "float64",
        "half": "float32",
    }
    assert scalars["flag"].tolist() == [True, False, True]
    assert scalars["u64"][2] == 2**64 - 1
    assert [text.split()[0] for text in source.skipped] == ["name", "list"]


def test_bits_survive(tmp_path: Path) -> None:
    truth = small_images(2)
    truth.view(np.uint32)[1, 1, 2] = (0x80000000, 1, 0x7FC01234, 0xFF800000)
    images, _ = read_all(
        open_source(write_parquet(tmp_path / "a", {"X": flat_column(truth)}), SMALL)
    )
    assert np.array_equal(np.ascontiguousarray(images).view("u4"), truth.view("u4"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_row_group(tmp_path: Path) -> None:
    # 1,000 images of 500 kB in one row group: 500 MB decoded, 0.5 MB on disk.
    values = np.zeros(125_000, np.float32)
    values[::1000] = 3.5
    with pq.ParquetWriter(tmp_path / "a", pa.schema({"X_jets": pa.list_(pa.float32())})) as writer:
        offsets = np.arange(0, 1001 * 125_000, 125_000, dtype=np.int32)
        column = pa.ListArray.from_arrays(offsets, np.tile(values, 1000))
        writer.write_table(pa.table({"X_jets": column}), row_group_size=1000)
    n, grown_mib = map(int, run_measured(READ_ALL, tmp_path / "a").split())
    assert n == 1000
    assert grown_mib < 160, grown_mib
