from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e2eio.errors import ConfigError
from e2eio.importers import ImportOptions, open_source
from importer_toys import SMALL, flat_column, small_images, write_parquet


@pytest.mark.parametrize(
    ("n_channels", "edge"), [(3, 125), (8, 125), (13, 125), (3, 375), (8, 375), (13, 375)]
)
def test_published_shapes_of_flat_lists_are_recognised(
    tmp_path: Path, n_channels: int, edge: int
) -> None:
    column = pa.array([np.zeros(n_channels * edge * edge, np.float32)])
    source = open_source(write_parquet(tmp_path / "a.parquet.0", {"all_jet": column}))
    assert source.schema.image.shape == (n_channels, edge, edge)
    names = {3: "hcal", 8: "bpix3", 13: "tob2"}
    assert source.schema.channels[-1] == names[n_channels]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "pass shape as C, H, W"),
        ({"channels": ("a", "b")}, "2 channels of 125 x 125"),
        ({"shape": (2, 3, 5)}, "mend shape"),
        ({"shape": (2, 3, 4)}, "pass channels"),
        ({"preset": "tau"}, "13 channels"),
        ({"image": "Y", "shape": (2, 3, 4)}, "expected 'Y'"),
    ],
)
def test_meaning_that_is_not_clear(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = write_parquet(tmp_path / "a", {"X": flat_column(small_images(1))})
    with pytest.raises(ConfigError, match=message):
        open_source(path, ImportOptions(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (2, 3, 4), "channels": ("a",)},
        {"preset": "tau", "channels": ("a",)},
        {"channels": ("a", "b"), "units": ("GeV",)},
        {"preset": "quark-gluon", "units": ("GeV",)},
        {"layout": "WHC"},
        {"shape": (0, 3, 4)},
        {"preset": "no such"},
    ],
)
def test_options_that_contradict_themselves(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ImportOptions(**options)


def test_nested_shape_that_contradicts_the_options(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a", {"X": pa.array(small_images(1).tolist())})
    for options in (ImportOptions(shape=(4, 3, 2)), ImportOptions(channels=("a", "b", "c"))):
        with pytest.raises(ConfigError, match=r"nested lists of \[2, 3, 4\]"):
            open_source(path, options)


def test_units_and_names_given(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a", {"X": flat_column(small_images(1))})
    given = ImportOptions(shape=(2, 3, 4), channels=("ecal", "time"), units=("MeV", "ns"))
    known = ImportOptions(shape=(2, 3, 4), channels=("ecal", "time"))
    units = [[c.unit for c in open_source(path, o).schema.image.channels] for o in (given, known)]
    assert units == [["MeV", "ns"], ["GeV", ""]]


def test_several_image_columns(tmp_path: Path) -> None:
    column = flat_column(small_images(1))
    path = write_parquet(tmp_path / "a", {"X": column, "X_jet": column})
    with pytest.raises(ConfigError, match="pass image"):
        open_source(path, SMALL)
    options = ImportOptions(image="X_jet", shape=(2, 3, 4), channels=("a", "b"))
    assert open_source(path, options).schema.image.name == "X_jet"


@pytest.mark.parametrize(("name", "found"), [("", "empty"), ("s" * 70_000, "70000 bytes")])
def test_a_column_that_cannot_be_a_field(tmp_path: Path, name: str, found: str) -> None:
    path = tmp_path / "a.parquet"
    columns = {"X": pa.array([[1.0] * 8] * 2, pa.list_(pa.float32())), name: pa.array([1, 2])}
    pq.write_table(pa.table(columns), path)
    options = ImportOptions(shape=(2, 2, 2), channels=("a", "b"))
    with pytest.raises(ConfigError, match=f"scalar name: found .*{found}.*a.parquet; rename"):
        open_source(path, options)
