from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPT = BENCHMARKS / "scaling.py"


def test_the_page_is_what_the_newest_result_says() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, "run 'python benchmarks/scaling.py --render'"


def test_rates_are_measured_and_worked_out(tmp_path: Path) -> None:
    for package in ("pyarrow", "uproot", "awkward"):
        pytest.importorskip(package)
    words = ["--jets", "64", "--rounds", "1", "--results", str(tmp_path)]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("*-scaling/scaling.json")
    measured = json.loads(result.read_text())["measured"]
    assert all(value > 0 for value in measured.values())
    stored = measured["stored_bytes"] * 1e9
    assert f"| stored | jets x `stored` | {stored / 1e12:.3g} TB |" in done.stdout
    assert f"| shards | stored / 256 MiB | {-(-stored // (256 << 20)):,.0f} files |" in done.stdout
    assert "| an event | 12.83 TB / 9,430,509 | 1.36 MB |" in done.stdout
