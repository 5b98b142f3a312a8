"""Samples that cannot be read: which are lost, which are not, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversion_toys import (
    SMALL,
    damage,
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
from e2eio.conversion.reading import WantedRows
from e2eio.errors import ImporterError, ShardExistsError
from e2eio.importers import Chunk

IMAGES = make_images(40)


class Source:
    """40 rows in groups of 10; some cannot be read, and the error names them or not."""

    path = "toy"

    def __init__(self, bad: set[int], named: bool, batch: int = 4) -> None:
        self.bad, self.named, self.batch = bad, named, batch
        self.asked: list[tuple[int, int]] = []
        self.cuts = np.arange(0, 41, 10)

    def chunks(self, begin: int, end: int) -> Iterator[Chunk]:
        self.asked.append((begin, end))
        for low in range(begin, end, self.batch):
            high = min(low + self.batch, end)
            bad = sorted(self.bad & set(range(low, high)))
            if bad:
                raise ImporterError(f"bad {bad[0]}", "toy", sample=bad[0] if self.named else None)
            yield IMAGES[low:high], {"y": np.arange(low, high)}


def read(source: Source, exclude: tuple[int, ...], limit: int) -> tuple[list[int], list[Any]]:
    rows = WantedRows(source, exclude, limit)  # type: ignore[arg-type]
    found: list[int] = []
    for piece in rows.read(3, 38):
        numbers = list(range(piece.begin, piece.begin + len(piece.images)))
        assert same_bits(piece.images, IMAGES[numbers])
        assert piece.scalars["y"].tolist() == numbers
        found += numbers
    return found, [(left.begin, left.end) for left in rows.left_out]


@pytest.mark.parametrize("batch", [1, 4, 40])
def test_nothing_but_what_is_bad_is_lost_if_it_is_named(batch: int) -> None:
    bad = {3, 4, 19, 20, 37}
    found, left_out = read(Source(bad, True, batch), (), 5)
    assert found == [row for row in range(3, 38) if row not in bad]
    assert [row for low, high in left_out for row in range(low, high)] == sorted(bad)
    with pytest.raises(ImporterError, match=r"too many bad samples.*at most skip_bad = 4"):
        read(Source(bad, True, batch), (), 4)
    with pytest.raises(ImporterError, match=r"^bad 3$"):
        read(Source(bad, True, batch), (), 0)


@pytest.mark.parametrize("batch", [1, 4, 40])
def test_rows_up_to_the_next_cut_are_lost_if_it_is_not(batch: int) -> None:
    found, left_out = read(Source({25}, False, batch), (), 10)
    assert set(range(3, 20)) | set(range(30, 38)) <= set(found)
    assert sorted([*found, *(row for low, high in left_out for row in range(low, high))]) == list(
        range(3, 38)
    )
    assert all(20 <= low < high <= 30 for low, high in left_out)


@pytest.mark.parametrize("named", [True, False])
def test_excluded_rows_may_be_bad(named: bool) -> None:
    found, left_out = read(Source({12, 13}, named), (12, 13, 30), 0)
    assert found == [row for row in range(3, 38) if row not in (12, 13, 30)]
    assert left_out == []


def test_a_group_that_nobody_wants_is_not_read() -> None:
    source = Source(set(range(10, 20)), True)
    found, _ = read(source, tuple(range(9, 21)), 0)
    assert found == [*range(3, 9), *range(21, 38)]
    assert source.asked == [(3, 10), (20, 38)]


@pytest.mark.parametrize("n", [-1, 1])
def test_a_source_that_gives_another_number_of_rows_is_an_error(n: int) -> None:
    class Wrong(Source):
        def chunks(self, begin: int, end: int) -> Iterator[Chunk]:
            yield from super().chunks(begin, end + n)

    with pytest.raises(ImporterError, match="wrong number of samples"):
        read(Wrong(set(), True), (), 0)


def ragged(path: Path, bad: tuple[int, ...]) -> Path:
    """Write rows of which some have a number too many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [list(row) for row in IMAGES.transpose(0, 2, 3, 1).reshape(40, -1)]
    for row in bad:
        rows[row].append(1.0)
    columns = {"X": pa.array(rows, pa.list_(pa.float32())), "y": pa.array(np.arange(40))}
    pq.write_table(pa.table(columns), path, row_group_size=10)
    return path


@pytest.mark.parametrize("processes", [1, 2])
def test_bad_samples_are_skipped_and_reported(
    tmp_path: Path, processes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = (2, 9, 10, 33)
    path, out = ragged(tmp_path / "a.parquet", bad), tmp_path / "d"
    options: dict[str, Any] = {**SMALL, "shard_samples": 10, "processes": processes}
    with pytest.raises(ImporterError, match="too many bad samples"):
        convert(path, out, skip_bad=3, **options)
    assert not [name for name in names(out) if name.endswith(".e2e")]
    content = convert(path, out, skip_bad=4, **{**options, "progress": True})
    text = capsys.readouterr().err
    assert "skipped sample 33" in text
    assert processes == 2 or "going on from" in text  # what the first call finished was kept
    wanted = np.delete(np.arange(40), bad)
    assert read_column(out, "y").tolist() == wanted.tolist()
    assert same_bits(read_images(out), IMAGES[wanted])
    report = json.loads((out / "dataset.skipped.json").read_text())["skipped"]
    assert [(item["begin"], item["end"]) for item in report] == [(row, row + 1) for row in bad]
    assert "ragged" in report[0]["reason"]
    assert content.provenance.n_skipped == 4
    # The same bytes in one go, and what was lenient is no result for a strict call.
    other = convert(path, tmp_path / "e", skip_bad=9, **options)
    assert (other.shards, other.content) == (content.shards, content.content)
    assert convert(path, out, skip_bad=4, **options) == content
    (out / "dataset.json").unlink()
    with pytest.raises(ImporterError, match="ragged"):
        convert(path, out, **options)


def test_a_damaged_row_group_costs_itself_alone(tmp_path: Path) -> None:
    path = write_small(tmp_path / "a.parquet", IMAGES, row_group_size=4)
    damage(path)
    convert(path, tmp_path / "d", skip_bad=4, **SMALL)
    found = read_column(tmp_path / "d", "y")
    assert 36 <= len(found) < 40
    assert same_bits(read_images(tmp_path / "d"), IMAGES[found])


def test_skipping_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = ragged(tmp_path / "a.parquet", (5,))
    small = ["--shape", "2,6,6", "--channels", "ecal,time", "--quiet", "--no-isolate"]
    assert main(["convert", str(path), str(tmp_path / "d"), *small]) == 1
    assert "ragged" in capsys.readouterr().err
    assert main(["convert", str(path), str(tmp_path / "d"), *small, "--skip-bad", "1"]) == 0
    assert "1 samples skipped" in capsys.readouterr().out
    assert manifest.read(tmp_path / "d").n_samples == 39
    assert main(["convert", str(path), str(tmp_path / "e"), *small, "--skip-bad", "-1"]) == 2


def test_another_dataset_is_still_refused(tmp_path: Path) -> None:
    convert(ragged(tmp_path / "a.parquet", (5,)), tmp_path / "d", skip_bad=1, **SMALL)
    other = write_small(tmp_path / "b.parquet", make_images(39, 4))
    with pytest.raises(ShardExistsError):
        convert(other, tmp_path / "d", skip_bad=1, **SMALL)
