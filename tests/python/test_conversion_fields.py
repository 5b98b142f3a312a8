"""Labels, names and choice of scalar fields, and what becomes of NaN, for any format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from conversion_toys import (
    EXTENT,
    SMALL,
    make_images,
    names,
    read_column,
    read_images,
    same_bits,
    write_small,
)
from e2eio import manifest
from e2eio.cli.main import main
from e2eio.conversion import convert
from e2eio.errors import ConfigError, ImporterError


def write_columns(path: Path, images: NDArray[Any], **scalars: NDArray[Any]) -> Path:
    rows = list(images.transpose(0, 2, 3, 1).reshape(len(images), -1))
    columns = {"X": pa.array(rows), **{name: pa.array(values) for name, values in scalars.items()}}
    pq.write_table(pa.table(columns), path, row_group_size=4)
    return path


def test_labels_are_one_per_source(tmp_path: Path) -> None:
    paths = [write_columns(tmp_path / f"{k}.parquet", make_images(6, k)) for k in (0, 1)]
    content = convert(paths, tmp_path / "d", labels=[1, 0], **SMALL)
    assert read_column(tmp_path / "d", "y").tolist() == [1] * 6 + [0] * 6
    assert content.schema.scalars[-1].dtype == "int64"
    convert(paths, tmp_path / "e", labels=[0.5, 2], label_field="mass", **SMALL)
    assert read_column(tmp_path / "e", "mass").tolist() == [0.5] * 6 + [2.0] * 6
    assert content.shards[0].digest != convert(paths, tmp_path / "f", **SMALL).shards[0].digest
    with pytest.raises(ConfigError, match=r"found 1 for 2 sources"):
        convert(paths, tmp_path / "g", labels=[1], **SMALL)


def test_a_label_does_not_replace_a_field(tmp_path: Path) -> None:
    path = write_small(tmp_path / "a.parquet", make_images(5))
    with pytest.raises(ConfigError, match=r"label is there already.*'y'.*label_field.*scalars"):
        convert(path, tmp_path / "d", labels=[1], **SMALL)
    convert(path, tmp_path / "d", labels=[1], scalars=[], **SMALL)
    assert read_column(tmp_path / "d", "y").tolist() == [1] * 5
    convert(path, tmp_path / "e", labels=[1], rename={"y": "row"}, **SMALL)
    assert read_column(tmp_path / "e", "row").tolist() == list(range(5))


def test_rename_and_choice(tmp_path: Path) -> None:
    columns = {"jetpt": np.arange(5.0), "m": np.ones(5), "y": np.zeros(5, int)}
    path = write_columns(tmp_path / "a.parquet", make_images(5), **columns)
    options: dict[str, Any] = {"rename": {"jetpt": "pt", "X": "X_jets"}, "scalars": ["y", "jetpt"]}
    content = convert(path, tmp_path / "d", **options, **SMALL)
    assert [field.name for field in content.schema.scalars] == ["pt", "y"]
    assert content.schema.scalars[0].unit == "GeV"
    assert content.schema.image.name == "X_jets"
    assert read_column(tmp_path / "d", "pt").tolist() == list(range(5))
    assert same_bits(read_images(tmp_path / "d"), make_images(5))
    assert content.provenance.options["rename"] == options["rename"]
    for wrong, found in (
        ({"rename": {"pt": "x"}}, "found .*jetpt.*expected 'pt'"),
        ({"scalars": ["X"]}, "no such scalar field"),
        ({"rename": {"m": "y"}}, "'y' twice"),
        ({"rename": {"m": "X"}}, "'X' twice"),
    ):
        with pytest.raises(ConfigError, match=found):
            convert(path, tmp_path / "e", **wrong, **SMALL)


def with_nan() -> tuple[NDArray[Any], NDArray[Any]]:
    """Images of which 3 and 7 are not finite, and a field of which 5 is not."""
    images, field = make_images(10), np.arange(10.0)
    images[3, 1, 2, 2] = np.nan
    images.view(np.uint32)[3, 0, 0, 0] = 0xFFC12345  # a payload
    images[7, 0, 5, 5] = -np.inf
    field[5] = np.inf
    return images, field


def test_nan_is_kept_bit_for_bit_and_counted(tmp_path: Path) -> None:
    images, field = with_nan()
    path = write_columns(tmp_path / "a.parquet", images, pt=field)
    content = convert(path, tmp_path / "d", **SMALL)
    assert same_bits(read_images(tmp_path / "d"), images)
    assert sum(channel.nonfinite for channel in content.statistics) == 3
    assert np.isinf(read_column(tmp_path / "d", "pt")[5])


@pytest.mark.parametrize(("bad", "found"), [(0, "pixel.*sample 3"), (1, "scalar.*sample 5")])
def test_nan_may_be_an_error(tmp_path: Path, bad: int, found: str) -> None:
    images, field = with_nan()
    if bad == 1:
        images[3] = images[7] = 0
    path = write_columns(tmp_path / "a.parquet", images, pt=field)
    with pytest.raises(ImporterError, match=rf"a\.parquet.*{found}") as caught:
        convert(path, tmp_path / "d", nan="error", **SMALL)
    assert caught.value.sample == (3, 5)[bad]
    convert(path, tmp_path / "d", nan="error", exclude=[3, 5, 7], **SMALL)
    assert manifest.read(tmp_path / "d").n_samples == 7


def test_nan_may_become_zero(tmp_path: Path) -> None:
    images, field = with_nan()
    path = write_columns(tmp_path / "a.parquet", images, pt=field)
    content = convert(path, tmp_path / "d", nan="zero", **SMALL)
    assert same_bits(read_images(tmp_path / "d"), np.where(np.isfinite(images), images, 0))
    assert read_column(tmp_path / "d", "pt")[5] == 0
    assert content.provenance.n_zeroed == 4


def test_samples_with_nan_may_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, field = with_nan()
    path = write_columns(tmp_path / "a.parquet", images, pt=field)
    out = tmp_path / "d"
    options = {**SMALL, "nan": "skip", "shard_samples": 4, "progress": True}
    content = convert(path, out, **options)
    wanted = np.delete(np.arange(10), [3, 5, 7])
    assert read_column(out, "pt").tolist() == wanted.tolist()
    assert same_bits(read_images(out), images[wanted])
    assert content.provenance.n_skipped == 3
    report = json.loads((out / "dataset.skipped.json").read_text())
    assert [item["begin"] for item in report["skipped"]] == [3, 5, 7]
    assert {item["source"] for item in report["skipped"]} == {str(path)}
    assert "skipped sample 5: a scalar field is not finite" in capsys.readouterr().err
    # Done already, and going on: both know what is missing.
    assert convert(path, out, **options) == content
    (out / "dataset.json").unlink()
    (out / content.shards[1].file).unlink()
    assert convert(path, out, **options).shards == content.shards
    assert names(out) == ["dataset.json", "dataset.skipped.json", *(s.file for s in content.shards)]
    convert(path, out, **{**SMALL, "nan": "zero"}, overwrite=True)
    assert "dataset.skipped.json" not in names(out)


def test_a_shard_may_lose_all_its_samples(tmp_path: Path) -> None:
    path = write_columns(tmp_path / "a.parquet", np.full((8, *EXTENT), np.nan, np.float32))
    content = convert(path, tmp_path / "d", nan="skip", shard_samples=4, **SMALL)
    assert [shard.n_samples for shard in content.shards] == [0, 0]


def test_policies_are_part_of_a_shards_identity(tmp_path: Path) -> None:
    path = write_columns(tmp_path / "a.parquet", make_images(5), m=np.arange(5.0))
    kept, zeroed = (
        convert(path, tmp_path / policy, nan=policy, **SMALL) for policy in ("keep", "zero")
    )
    assert kept.content == zeroed.content
    assert kept.shards[0].digest != zeroed.shards[0].digest


def test_all_of_it_on_the_command_line(tmp_path: Path) -> None:
    images, field = with_nan()
    paths = [
        str(write_columns(tmp_path / name, images, jetpt=field, m=field)) for name in ("a", "b")
    ]
    small = ["--shape", "2,6,6", "--channels", "ecal,time", "--quiet", "--no-isolate"]
    chosen = ["--labels", "1,0", "--rename", "jetpt=pt", "--scalars", "jetpt", "--nan", "skip"]
    assert main(["convert", *paths, str(tmp_path / "d"), *small, *chosen]) == 0
    content = manifest.read(tmp_path / "d")
    assert [field.name for field in content.schema.scalars] == ["pt", "y"]
    assert read_column(tmp_path / "d", "y").tolist() == [1] * 7 + [0] * 7
    for wrong in (["--labels", "a"], ["--rename", "a"], ["--rename", "a=b,a=c"], ["--nan", "no"]):
        assert main(["convert", *paths, str(tmp_path / "e"), *small, *wrong]) == 2
