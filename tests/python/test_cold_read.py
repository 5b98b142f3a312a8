from __future__ import annotations

import json
from pathlib import Path

import pytest

import cold_read


def test_it_measures_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cold.json"
    arguments = ["--jets", "300", "--rounds", "1", "--mb-per-s", "50", "--work", str(tmp_path)]
    assert cold_read.main([*arguments, "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert 0 < report["storage_bytes_per_s"] <= 50e6
    assert [row["order"] for row in report["rows"]] == ["file", "shuffled"]
    for row in report["rows"]:
        assert row["io"]["kind"].startswith("throttled")
        assert row["cold"] <= 1.01 * 50e6  # not faster than the storage
        assert row["ratio"] == row["cold"] / row["bound"]
    assert "records per read" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["cold.json"]


def test_it_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cold_read.main(["--data", str(tmp_path / "none.e2e")]) == 1
    assert "cold_read: " in capsys.readouterr().err
    assert cold_read.main(["--data", str(tmp_path / "none.e2e"), "--mb-per-s", "-1"]) == 1


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cold_read.main(["--help"])
    assert "examples:" in capsys.readouterr().out
