from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import convert as benchmark
from harness.data import ToySource


def test_each_conversion_is_compared_with_the_jets_and_timed_beside_its_reader(
    tmp_path: Path,
) -> None:
    sizes = ["--jets", "16", "--rounds", "2", "--processes", "1"]
    code = benchmark.main(["--formats", "parquet,to_pydict", *sizes, "--out", str(tmp_path)])
    report = json.loads((tmp_path / "convert.json").read_text())
    assert code == 0
    assert [row["format"] for row in report["rows"]] == ["parquet", "to_pydict"]
    for row in report["rows"]:
        assert row["n_verified"] == 16
        assert len(row["read"]) == len(row["converted"]) == len(row["start_s"]) == 2
        assert min(row["read"]) > 0
        assert row["file_bytes"] > 16 * 1000


def test_a_conversion_that_changes_a_jet_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ToySource.chunk

    def changed(self: Any, begin: int, end: int) -> Any:
        images, scalars = whole(self, begin, end)
        images[-1, 3, 60, 60] += 1
        return images, scalars

    options = benchmark.Options(("parquet",), jets=4, rounds=1, processes=1)
    files = benchmark._write("parquet", options, tmp_path / "files")
    benchmark._convert_here(files, tmp_path / "out", 1)
    assert benchmark._check(files, tmp_path / "out", options) == 4
    monkeypatch.setattr(ToySource, "chunk", changed)
    with pytest.raises(RuntimeError, match="sample 3 is not the jet"):
        benchmark._check(files, tmp_path / "out", options)


def test_what_is_no_format_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["--formats", "csv"])
    assert "expected some of parquet" in capsys.readouterr().err


def test_rates_stay_rates_when_the_start_takes_longest() -> None:
    assert benchmark._rate(100, taken_s=5.0, start_s=1.0) == 25
    assert benchmark._rate(100, taken_s=1.0, start_s=1.5) == 100
