from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from conversion_toys import TOP_GUN
from e2eio.errors import E2eioError, ImporterError, ShardIOError, ShardNotFoundError
from e2eio.importers import ImportOptions, open_source
from importer_toys import SMALL, flat_column, read_all, small_images, write_parquet


def ragged(row: int) -> pa.Array:
    images = small_images(6).tolist()
    images[row][1][2] = images[row][1][2][:3]
    return pa.array(images)


def with_null(level: int) -> pa.Array:
    images = small_images(6).tolist()
    if level == 0:
        images[4] = None
    elif level == 1:
        images[4][1] = None
    else:
        images[4][1][2][0] = None
    return pa.array(images)


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (ragged(4), "ragged"),
        (with_null(0), "null"),
        (with_null(1), "null"),
        (with_null(3), "null"),
    ],
)
def test_irregular_nested_rows_are_named(tmp_path: Path, column: pa.Array, what: str) -> None:
    path = write_parquet(tmp_path / "a", {"X": column}, row_group_size=2)
    source = open_source(path, ImportOptions(channels=("a", "b")))
    with pytest.raises(ImporterError, match=f"{what}.*row group 2, row 4: ") as caught:
        read_all(source)
    assert (caught.value.path, caught.value.sample) == (str(path), 4)
    assert len(read_all(source, 0, 4)[0]) == 4


def test_irregular_flat_rows_are_named(tmp_path: Path) -> None:
    rows = [row.ravel() for row in small_images(6)]
    rows[3] = rows[3][:-1]
    source = open_source(write_parquet(tmp_path / "a", {"X": pa.array(rows)}), SMALL)
    with pytest.raises(ImporterError, match="list of 23, expected 24"):
        read_all(source)


def test_null_scalar_is_named(tmp_path: Path) -> None:
    columns = {"X": flat_column(small_images(3)), "y": pa.array([1.0, None, 2.0])}
    source = open_source(write_parquet(tmp_path / "a", columns), SMALL)
    with pytest.raises(ImporterError, match=r"null in column 'y': .* row 1"):
        read_all(source)


@pytest.mark.parametrize(
    "columns",
    [
        {"y": [1.0]},
        {"X": pa.array([[1, 2, 3]])},
        {"X": pa.array([[[1.0, 2.0]]])},
        {"X": pa.array([["a"]])},
        {"X": pa.array([[]], pa.list_(pa.float32()))},
        {"X": pa.array([None], pa.list_(pa.float32()))},
        {"X": pa.array([], pa.list_(pa.float32()))},
    ],
)
def test_files_without_images(tmp_path: Path, columns: dict[str, Any]) -> None:
    path = write_parquet(tmp_path / "a", columns)
    with pytest.raises(ImporterError, match="expected"):
        open_source(path, ImportOptions(shape=(1, 1, 3), channels=("a",)))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ShardNotFoundError, match="nowhere") as caught:
        open_source(tmp_path / "nowhere")
    assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(ImporterError, match="directory"):
        open_source(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PA", b"\x89HDF\r\n\x1a\n", b"PARE1234", b"text\n" * 9])
def test_not_a_parquet_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(ImporterError, match=r"a\.parquet"):
        open_source(path)


def test_truncated_anywhere(tmp_path: Path, published: Path) -> None:
    data = (published / TOP_GUN).read_bytes()
    path = tmp_path / "a.parquet"
    for size in (4, 8, 1000, len(data) // 2, len(data) - 9, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(ImporterError, match="truncated"):
            open_source(path)


def test_damaged_footer(tmp_path: Path, published: Path) -> None:
    data = bytearray((published / TOP_GUN).read_bytes())
    path = tmp_path / "a.parquet"
    for at, value in ((-8, 0xFF), (-5, 0x7F), (-40, 0xFF)):
        damaged = data.copy()
        damaged[at] = value
        path.write_bytes(damaged)
        try:
            read_all(open_source(path))
        except E2eioError as error:
            assert "a.parquet" in str(error)  # noqa: PT017 - a harmless change is fine too
        else:
            assert at == -40
    damaged = data[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1"
    path.write_bytes(damaged)
    with pytest.raises(ImporterError, match="damaged"):
        open_source(path)


def test_damaged_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    columns = {"X": flat_column(small_images(50))}
    path = write_parquet(
        tmp_path / "a",
        columns,
        row_group_size=10,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    data = bytearray(path.read_bytes())
    at = data.find(small_images(50)[35].transpose(1, 2, 0).tobytes())
    assert at > 0
    data[at] ^= 1
    path.write_bytes(data)
    source = open_source(path, SMALL)
    assert len(read_all(source, 0, 30)[0]) == 30
    with pytest.raises(ImporterError, match="row group") as caught:
        read_all(source)
    assert "fetch the file again" in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a", {"X": flat_column(small_images(1))})
    path.chmod(0)
    with pytest.raises(ShardIOError, match="permission"):
        open_source(path)


def test_a_path_with_a_nul() -> None:
    with pytest.raises(ImporterError, match="no path"):
        open_source("a\0b")
