from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import e2eio
from e2eio.sim import ToyJets, toy_jets

torch = pytest.importorskip("torch")

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "train.py"
N_JETS, EPOCHS, BATCH = 40, 2, 4
TIMEOUT_S = 200

PYTHON = [sys.executable]
BINARIES = Path(sys.executable).parent
MPIRUN = [str(BINARIES / "mpirun"), "-n", "2", "--oversubscribe", sys.executable]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def jets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("jets") / "toy"
    with e2eio.write(out, ToyJets().schema) as writer:
        for images, scalars in toy_jets(N_JETS):
            writer.append(images, scalars)
    return out


def start(launcher: Sequence[str], data: Path, checkpoint: Path) -> subprocess.Popen[str]:
    options = ["--epochs", str(EPOCHS), "--batch-size", str(BATCH), "--every", "2"]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return subprocess.Popen(
        [*launcher, str(SCRIPT), str(data), "--checkpoint", str(checkpoint), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As many threads whoever starts it: sums of floats depend on it.
        env={**os.environ, **root, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )


def finish(launcher: Sequence[str], data: Path, checkpoint: Path) -> list[str]:
    with start(launcher, data, checkpoint) as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, out + err
    return out.splitlines()


def kill_a_rank(launcher: Sequence[str], data: Path, checkpoint: Path, when: str) -> None:
    """Send SIGKILL to the rank that was started last, once progress is printed that begins like that."""
    with start(launcher, data, checkpoint) as process:
        watchdog = threading.Timer(TIMEOUT_S, process.kill)
        watchdog.start()
        assert process.stdout is not None
        reached = any(line.startswith(when) for line in process.stdout)
        ranks = psutil.Process(process.pid).children(recursive=True)
        scripts = [rank for rank in ranks if str(SCRIPT) in rank.cmdline()]
        scripts = scripts or [psutil.Process(process.pid)]
        scripts[-1].send_signal(signal.SIGKILL)
        process.communicate(timeout=TIMEOUT_S)
        watchdog.cancel()
    assert reached, "it ended by itself"
    assert process.returncode != 0


def same(a: Any, b: Any) -> bool:
    """Whether two checkpoints are equal, bit for bit."""
    if isinstance(a, torch.Tensor):
        return bool(torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def test_a_killed_run_goes_on_to_the_same_weights(jets: Path, tmp_path: Path) -> None:
    lines = finish(PYTHON, jets, tmp_path / "whole.pt")
    n_steps = EPOCHS * (N_JETS * 4 // 5 // BATCH)
    assert sum(" step " in line for line in lines) == n_steps // 2

    kill_a_rank(PYTHON, jets, tmp_path / "killed.pt", "epoch 0 step")
    first = torch.load(tmp_path / "killed.pt")
    kill_a_rank(PYTHON, jets, tmp_path / "killed.pt", "epoch 1 step")
    second = torch.load(tmp_path / "killed.pt")
    assert [first["epoch"], second["epoch"]] == [0, 1]
    assert 0 < first["step"] < second["step"] < n_steps

    rest = finish(PYTHON, jets, tmp_path / "killed.pt")
    whole, killed = torch.load(tmp_path / "whole.pt"), torch.load(tmp_path / "killed.pt")
    assert whole["step"] == n_steps
    assert same(whole, killed)
    assert rest == lines[-len(rest) :]


def test_mpirun_and_torchrun_train_alike_and_survive_a_kill(jets: Path, tmp_path: Path) -> None:
    lines = finish(TORCHRUN, jets, tmp_path / "torchrun.pt")
    kill_a_rank(MPIRUN, jets, tmp_path / "mpirun.pt", "epoch 0 step")
    assert torch.load(tmp_path / "mpirun.pt")["step"] < EPOCHS * (N_JETS * 4 // 5 // (2 * BATCH))
    rest = finish(MPIRUN, jets, tmp_path / "mpirun.pt")
    assert same(torch.load(tmp_path / "torchrun.pt"), torch.load(tmp_path / "mpirun.pt"))
    assert rest == lines[-len(rest) :]


def test_it_trains_on_a_published_file_in_bfloat16(published: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    e2eio.convert(published / "BoostedTop_x1_fixed_0.snappy.parquet", tmp_path / "top")
    lines = finish([*PYTHON], tmp_path / "top", tmp_path / "top.pt")
    found = re.fullmatch(r"epoch 1 validation: loss (\S+), area under ROC (\S+)", lines[-1])
    assert found is not None
    assert 0 < float(found.group(1)) < 1
    assert 0 < float(found.group(2)) <= 1


def test_area_under_roc_counts_pairs() -> None:
    spec = importlib.util.spec_from_file_location("train", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 20, 200).astype(np.float64)
    labels = rng.integers(0, 2, 200).astype(np.float64)
    pairs = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    expected = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    area = example.area_under_roc(torch.tensor(scores), torch.tensor(labels))
    assert area == pytest.approx(expected, abs=1e-12)
