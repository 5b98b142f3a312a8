from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import training as program  # noqa: E402 - torch may be missing
from e2eio.errors import ConfigError  # noqa: E402 - torch may be missing
from harness.environment import find_commit  # noqa: E402
from learning.datasets import find_jets  # noqa: E402
from learning.launch import LaunchError, perform  # noqa: E402
from learning.parts import PARTS, Options  # noqa: E402
from learning.runs import LAYERS, Timing, Training, read_run  # noqa: E402
from learning.store import Results  # noqa: E402

BENCHMARKS = Path(program.__file__).parent
TOY = Training("toy", LAYERS["all"], 64, 32, 64, epochs=3, batch_size=16, halve_every=2)
OPTIONS = Options("toy", 64, 16, 32, 64, 1, 10, 1, "float32", "cpu", ("cpu",), 1, 0.1)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def untimed(found: dict[str, Any]) -> dict[str, Any]:
    """What a run found, without times and dates."""
    history = [
        {name: value for name, value in epoch.items() if name not in ("seconds", "stall_s")}
        for epoch in found["history"]
    ]
    rest = {name: found[name] for name in ("auc", "replicas", "best_epoch", "n_signal")}
    return {**rest, "history": history}


def kill_after_an_epoch(run: Training, work: Path) -> int:
    """Do a run in another process, which is killed behind its first checkpoint; return how many epochs that has."""
    script = (
        "import json, sys; from pathlib import Path; from learning import launch, runs\n"
        "run = runs.read_run(json.loads(sys.argv[1]))\n"
        "launch.perform(run, Path(sys.argv[2]), 1, progress=False)\n"
    )
    checkpoint = work / "runs" / run.key / "checkpoint.pt"
    command = [sys.executable, "-c", script, json.dumps(run.to_json()), str(work)]
    with subprocess.Popen(command, cwd=BENCHMARKS) as process:
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it ended by itself"
    return len(torch.load(checkpoint)["history"])


def test_a_killed_training_goes_on_to_the_same_result_bit_for_bit(
    work: Path, tmp_path: Path
) -> None:
    whole = perform(TOY, work, 1, progress=False)
    assert whole["commit"] == find_commit()
    assert [epoch["epoch"] for epoch in whole["history"]] == [0, 1, 2]
    assert [epoch["jets"] for epoch in whole["history"]] == [64] * 3
    assert [epoch["learning_rate"] * 2000 for epoch in whole["history"]] == [0.5, 0.5, 0.25]
    assert whole["n_signal"] + whole["n_background"] == 64

    (tmp_path / "toy-x1").symlink_to(work / "toy-x1")  # the same jets, another checkpoint
    assert kill_after_an_epoch(TOY, tmp_path) < TOY.epochs
    rest = perform(TOY, tmp_path, 1, progress=False)
    assert untimed(rest) == untimed(whole)
    ends = [torch.load(folder / "runs" / TOY.key / "checkpoint.pt") for folder in (work, tmp_path)]
    first, second = (end["network"] for end in ends)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert ends[0]["loader"] == ends[1]["loader"]

    other = perform(replace(TOY, seed=1, epochs=1), work, 1, progress=False)
    assert other["history"][0]["loss"] != whole["history"][0]["loss"]


def test_two_ranks_train_together_and_score_each_jet_once(work: Path) -> None:
    run = replace(TOY, ranks=2, batch_size=8, epochs=1, test=63)
    found = perform(run, work, 2, progress=False)
    assert found["n_signal"] + found["n_background"] == 63
    assert found["history"][0]["jets"] == 64
    # The learning rate begins as one rank's, for a batch of 8, and rises to that of two.
    assert found["history"][0]["learning_rate"] == pytest.approx(5e-4 * (8 / 64) ** 0.5 * 2)


def find_ranks(job: Path) -> list[int]:
    """Return the processes that do a job: the ranks, and mpirun that started them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ends meanwhile
            words = (process / "cmdline").read_bytes().decode().split("\0")
            if str(job) in words and "-n" not in words:
                found.append(int(process.name))
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the ranks by /proc")
def test_when_a_rank_is_killed_the_next_call_goes_on_to_the_same_result(
    work: Path, tmp_path: Path
) -> None:
    run = replace(TOY, ranks=2, batch_size=8)
    whole = perform(run, work, 2, progress=False)
    (tmp_path / "toy-x1").symlink_to(work / "toy-x1")
    folder = tmp_path / "runs" / run.key

    def kill() -> None:
        deadline = time.monotonic() + 120
        while not (folder / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(max(find_ranks(folder / "job.json")), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(LaunchError, match="mpirun ended with code"):
        perform(run, tmp_path, 2, progress=False)
    killer.join()
    done = len(torch.load(folder / "checkpoint.pt")["history"])
    assert 0 < done < run.epochs
    assert untimed(perform(run, tmp_path, 2, progress=False)) == untimed(whole)


@pytest.mark.parametrize("what", ["io", "step", "inference"])
def test_timings_have_a_number_for_each_round(work: Path, what: str) -> None:
    found = perform(Timing(what, "toy", 64, batch_size=4, seconds=0.02), work, 1, progress=False)
    assert found["parameters"] == 94_226
    for name, times in found["seconds_per_step"].items():
        stalls = found["stall_per_step"][name]
        assert len(times) == len(stalls) == 5
        # One rank has nobody to agree with, and a batch that is there is not waited for.
        waits = name not in ("agree", "resident")
        assert all(
            (stall > 0) is waits and stall <= time
            for stall, time in zip(stalls, times, strict=True)
        )


def test_too_few_jets_for_a_step_are_told(work: Path) -> None:
    with pytest.raises(ConfigError, match=r"found 64, expected at least 100 .* raise --jets"):
        perform(replace(TOY, batch_size=100), work, 1, progress=False)


def test_jets_of_parts_are_others_and_more_of_them_begin_with_the_same(work: Path) -> None:
    parts = {split: find_jets(work, "toy", split, 64).dataset[0] for split in ("train", "valid")}
    assert not np.array_equal(parts["train"]["X_jets"], parts["valid"]["X_jets"])
    few = find_jets(work, "toy", "train", 10)
    assert list(few.exclude) == list(range(10, 64))
    assert find_jets(work, "toy", "train", 64).exclude is None


def test_runs_are_kept_one_by_one_and_done_once(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--jets", "64", "--valid", "16", "--test", "32", "--threads", "1"]
    call = ["--quick", "--toy", "--only", "layers", *sizes, "--work", str(work)]
    call += ["--out", str(tmp_path)]
    assert program.main(call) == 0
    content = json.loads((tmp_path / "training.json").read_text())
    assert content["format"] == "e2eio-training"
    assert content["environment"]["cores"] >= 1
    assert set(content["parts"]["layers"]) == set(content["runs"])
    assert [read_run(found["run"]).key for found in content["runs"].values()] == list(
        content["runs"]
    )
    table = capsys.readouterr().out
    assert all(f"| {name} |" in table for name in LAYERS)
    if importlib.util.find_spec("matplotlib"):
        assert {path.name for path in tmp_path.glob("*.png")} == {
            "layers-roc.png",
            "layers-loss.png",
        }

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a run that is done is done again")

    monkeypatch.setattr(program, "perform", refuse)
    assert program.main(call) == 0
    assert program.main([*call, "--list"]) == 0
    assert capsys.readouterr().out.count("  done ") == 4


def test_keys_name_all_that_decides_a_run() -> None:
    runs: dict[str, Any] = {"training": TOY, "timing": Timing("io", "top", 64)}
    for kind, run in runs.items():
        assert read_run(run.to_json()) == run
        assert run.to_json()["kind"] == kind
        for name, value in run.to_json().items():
            if name in ("kind", "channels"):
                continue
            changed: Any = {name: f"{value}2" if isinstance(value, str) else value + 1}
            other = replace(run, **changed)
            assert other.key != run.key, name
    assert replace(TOY, channels=("ecal",)).key != TOY.key


def test_a_file_of_another_kind_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="has format 'other'"):
        Results(tmp_path)


@pytest.mark.parametrize("part", PARTS)
def test_runs_of_a_part_are_different_runs(part: str) -> None:
    keys = [run.key for run in PARTS[part].runs(replace(OPTIONS, jets=5000, seeds=2, threads=2))]
    assert len(set(keys)) == len(keys) > 0


def test_layers_are_the_talks_and_never_the_mass() -> None:
    runs = PARTS["layers"].runs(OPTIONS)
    assert [len(run.channels) for run in runs if isinstance(run, Training)] == [1, 3, 5, 8]
    assert all("m0" not in run.channels for run in runs if isinstance(run, Training))
