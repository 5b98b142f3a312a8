"""What is made of results: tables, fits, models, pictures and the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="no torch; 'pip install e2eio[test]' brings it")

import training as program
from learning import accuracy, rates, roc
from learning.curve import fit_curve
from learning.page import PAGE, TABLES, render
from learning.parts import PARTS, Options
from learning.runs import LAYERS, Run, Timing, Training
from learning.scaling_model import ScalingModel
from learning.store import Results

OPTIONS = Options("top", 4096, 64, 32, 64, 2, 10, 2, "float32", "cpu", ("cpu",), 2, 0.1)


def found_by(run: Run, n: int) -> dict[str, Any]:
    """What a run could have found; the n-th is a little better than the one before."""
    if isinstance(run, Timing):
        seconds = {"io": 0.001, "train": 0.2, "resident": 0.19, "agree": 0.01, "inference": 0.05}
        times = {name: [value, value * 1.1, value * 1.2] for name, value in seconds.items()}
        stalls = {name: [value / 1000] * 3 for name, value in seconds.items()}
        return {"seconds_per_step": times, "stall_per_step": stalls, "parameters": 94_226}
    rng = np.random.default_rng(n)
    labels = (np.arange(400) % 2).astype(float)
    scores = rng.normal(labels * (1.5 + 0.1 * n), 1.0)
    epoch = {"epoch": 0, "loss": 0.5, "valid_auc": 0.9, "seconds": 10.0, "jets": float(run.jets)}
    return {
        "auc": roc.area(scores, labels),
        "replicas": roc.replicas(scores, labels, 40),
        "true_positive_rates": roc.true_positive_rates(scores, labels),
        "history": [epoch, {**epoch, "epoch": 1}],
    }


@pytest.fixture
def results(tmp_path: Path) -> Results:
    made = Results(tmp_path / "2026-01-01-000000-training")
    machine = {"cpu": "a CPU", "cores": 2, "memory_gb": 1.0, "kernel": "Linux", "commit": "abc"}
    made.begin({**machine, "versions": {"torch": "2"}, "date": "2026-01-01T00:00:00"}, {})
    for name, part in PARTS.items():
        runs = part.runs(OPTIONS)
        made.plan(name, runs)
        for n, run in enumerate(runs):
            made.add(run, found_by(run, n))
    return made


def test_the_page_is_what_the_result_says(results: Results, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text("utf-8"), "utf-8")
    call = ["--out", str(results.path.parent), "--page", str(page)]
    assert program.main([*call, "--check"]) == 1
    assert program.main([*call, "--render"]) == 0
    assert program.main([*call, "--check"]) == 0
    text = page.read_text("utf-8")
    assert "Not run yet" not in text
    assert "runs are done" not in text
    assert text.count("\n## ") == len(PARTS)
    for picture in results.path.parent.glob("*.png"):
        assert f"({picture.relative_to(tmp_path).as_posix()})" in text
    page.write_text(text.replace("0.953", "0.954"), "utf-8")
    assert program.main([*call, "--check"]) == 1


def test_the_page_in_the_repository_is_what_the_newest_result_says() -> None:
    assert program.main(["--check"]) == 0


def test_a_page_without_marks_is_told(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.md").write_text("# Nothing\n")
    call = ["--render", "--out", str(results.path.parent), "--page", str(tmp_path / "page.md")]
    assert program.main(call) == 1
    assert "has no line '<!-- from benchmarks/training.py -->'" in capsys.readouterr().err


def test_a_part_that_is_not_finished_says_so(results: Results) -> None:
    key = results.content["parts"]["layers"][-1]
    del results.content["runs"][key]
    assert "7 of 8 runs are done" in render(results)
    assert set(TABLES) == set(PARTS)


def test_commits_of_older_runs_are_named(results: Results) -> None:
    runs = list(results.content["runs"].values())
    runs[0]["commit"], runs[1]["commit"] = "abc", "def"
    assert "Some of its runs are of commit def.\n" in render(results)


def test_layers_stand_beside_the_talks_with_the_error_of_each_step(results: Results) -> None:
    runs = results.of_part("layers")
    table = accuracy.layers(runs)
    assert [row[0] for row in table.rows] == list(LAYERS)
    assert [row[3] for row in table.rows][:3] == ["0.953", "0.972", "0.981"]
    first, second = ([run for run in runs if len(run["channels"]) == n] for n in (1, 3))
    gains = [b["auc"] - a["auc"] for a, b in zip(first, second, strict=True)]
    resampled = [
        np.subtract(b["replicas"], a["replicas"]) for a, b in zip(first, second, strict=True)
    ]
    error = np.hypot(np.std(np.mean(resampled, 0), ddof=1), np.std(gains, ddof=1) / np.sqrt(2))
    assert table.rows[1][2] == f"{np.mean(gains):+.4f} +- {error:.4f}"


def test_times_of_an_epoch_follow_from_those_of_a_batch(results: Results) -> None:
    row = rates.io(results.of_part("io")).rows[0]
    # Medians of 0.001, 0.0011, 0.0012 and of 0.2, 0.22, 0.24 s for 32 jets.
    assert row[3:5] == ("1.1 ms", "220 ms")
    assert row[6] == "293 min (extrapolated)"
    assert row[7] == "0.09%"
    assert row[8] == f"{0.0011 / (0.0011 + 0.209):.2%}"
    talks = [row for row in rates.io(results.of_part("io")).rows if "V100" in row[0]]
    assert talks[0][5] == "2,246"


def test_modelled_ranks_continue_what_was_measured() -> None:
    model = ScalingModel(batch_size=64, one_s=0.1, two_s=0.13, agree_s=0.01)
    assert model.jets_per_s(1) == pytest.approx(640)
    assert model.jets_per_s(2) == pytest.approx(2 * 64 / 0.13)
    assert model.rest_s == pytest.approx(0.02)
    assert model.step_s(8) == pytest.approx(0.1 + 7 * 0.01 + 0.02)
    assert model.speed_up(8) == pytest.approx(8 * 0.1 / 0.19)
    ideal = ScalingModel(batch_size=64, one_s=0.1, two_s=0.1, agree_s=0.0)
    assert ideal.speed_up(8) == pytest.approx(8)


def test_modelled_ranks_are_marked(results: Results) -> None:
    rows = rates.scaling(results.of_part("scaling")).rows
    assert [row[-1] for row in rows] == ["measured"] * 3 + ["modelled"] * 2
    assert [row[0].split()[0] for row in rows] == ["1", "1", "2", "4", "8"]


def test_a_power_law_is_found_again_and_its_error_holds() -> None:
    n = np.array([1024, 2048, 4096, 8192, 16384, 32768, 65536])
    truth = 1 - (0.01 + 2 * n**-0.5)
    exact = fit_curve(list(n), list(truth), [0.001] * 7)
    assert exact is not None
    assert (exact.floor, exact.exponent) == pytest.approx((0.01, 0.5), abs=1e-6)
    assert exact.chi2 == pytest.approx(0, abs=1e-6)
    within = 0
    for seed in range(20):
        moved = truth + np.random.default_rng(seed).normal(0, 0.001, 7)
        curve = fit_curve(list(n), list(moved), [0.001] * 7)
        assert curve is not None
        assert curve.floor >= 0
        _, low, high = curve.area(2.56e6)
        within += low <= 1 - (0.01 + 2 * 2.56e6**-0.5) <= high
    assert 8 <= within <= 19  # of 20, where 68 % are expected
    assert fit_curve([1, 2, 3], [0.8, 0.9, 0.95], [0.01] * 3) is None


def test_what_is_extrapolated_says_so(results: Results) -> None:
    rows = accuracy.learning(results.of_part("learning")).rows
    assert [row[2] for row in rows] == ["measured"] * 3  # three points fit any power law
    part = PARTS["learning"].runs(replace(OPTIONS, jets=16_384, seeds=1))
    runs = [{**run.to_json(), **found_by(run, n)} for n, run in enumerate(part)]
    rows = accuracy.learning(runs).rows
    assert [row[2] for row in rows] == ["measured"] * 5 + ["extrapolated"] * 3
    assert isinstance(part[0], Training)


def test_a_process_that_cannot_be_simulated_is_told_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = {"io": PARTS["quark-gluon"], "layers": PARTS["electron-photon"]}
    nowhere = {
        name: replace(part, runs=lambda o: [o.training("no-such")])
        for name, part in unknown.items()
    }
    monkeypatch.setattr(program, "PARTS", nowhere)
    call = ["--quick", "--threads", "1", "--work", str(tmp_path / "work"), "--out", str(tmp_path)]
    assert program.main(call) == 1
    told = capsys.readouterr().err
    assert told.count("no-such") == 2
    assert "Electrons against photons" in told
