"""Files of other formats that are damaged, go away or take too much, as datasets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from direct_toys import N, direct, images, load, write_sources
from e2eio.errors import ConfigError, ImporterError, ShardNotFoundError


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    return write_sources(tmp_path)


def test_a_bad_row_comes_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    rows = list(images(N, 0).reshape(N, -1))
    rows[1350] = rows[1350][:100]
    pq.write_table(pa.table({"X": pa.array(rows)}), path, row_group_size=50)
    loader = load(direct([path]), batch_size=10)
    n = 0
    with pytest.raises(
        ImporterError, match=r"ragged image: .*bad\.parquet, row group 27, row 1350"
    ) as found:
        for _ in loader:
            n += 1
    assert found.value.sample == 1350
    assert n == 70  # the first of two shards
    dataset = direct([path])
    assert dataset[699]["X"].shape == (2, 16, 16)
    with pytest.raises(ImporterError):
        dataset[700]
    assert dataset[0]["X"].shape == (2, 16, 16)


def test_a_source_that_goes_away_may_come_back(sources: list[Path], tmp_path: Path) -> None:
    dataset = direct(sources)
    sources[1].rename(tmp_path / "away")
    assert dataset[0]["pt"] == 0
    with pytest.raises(ShardNotFoundError, match=r"jets1\.parquet"):
        dataset[1400]
    (tmp_path / "away").rename(sources[1])
    assert dataset[1400]["pt"] == 1000


def test_a_child_that_dies_names_the_file(
    sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from e2eio.direct import processes

    crash = (
        "import os, e2eio.direct.child as c; real = c.encode_shard; "
        "c.encode_shard = lambda task, *rest: os.abort() if task.index == 0 else real(task, *rest); "
    )
    program = processes._PROGRAM.replace("from e2eio", crash + "from e2eio")
    monkeypatch.setattr(processes, "_PROGRAM", program)
    dataset = direct(sources)
    with pytest.raises(
        ImporterError, match=r"process died: .*jets0\.parquet, rows 0 to 699: found Aborted"
    ):
        dataset[0]
    assert dataset[1500]["pt"] == 1100


def test_memory_is_bounded(sources: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2EIO_DIRECT_MEMORY", "100")
    with pytest.warns(
        UserWarning, match=r"about 9800000 bytes, and at most 100 .*cache='directory'"
    ):
        dataset = direct(sources)
    with pytest.raises(ConfigError, match=r"out of memory for samples: .*cache='directory'"):
        dataset[0]
    assert dataset.held_bytes == 0
    monkeypatch.setenv("E2EIO_DIRECT_MEMORY", "some")
    with pytest.raises(
        ConfigError, match="E2EIO_DIRECT_MEMORY is 'some'; expected a number of bytes"
    ):
        direct(sources)


def test_what_is_held_in_memory_is_told(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2EIO_DIRECT_MEMORY", "2e7")  # of the 3.5 kB a jet that are reckoned with
    dataset = direct(sources)
    assert dataset.held_bytes == 0
    with load(dataset) as loader:
        for _ in loader:
            pass
        assert loader.stats()["made_bytes"] == dataset.held_bytes > 4 * 1000
    kept = direct(sources, tmp_path / "cache")
    kept[0]
    assert kept.held_bytes == 0


def test_verbs_on_datasets_want_shards(sources: list[Path], tmp_path: Path) -> None:
    from e2eio.reshard import merge

    path = shutil.copy(sources[0], tmp_path / "BoostedTop.parquet")
    rows = np.zeros((3, 8, 125, 125), np.float32)
    pq.write_table(pa.table({"X_jets": list(rows.reshape(3, -1)), "m0": [1.0] * 3}), path)
    with pytest.raises(ConfigError, match="convert it first"):
        merge([path], tmp_path / "out")
