from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
import e2eio.loader
from e2eio import _core
from e2eio.options import resolve_prefetch, resolve_threads
from e2eio.schema import Channel, ImageField, Schema

N, EDGE, BATCH = 150, 40, 32
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    rng = np.random.default_rng(5)
    dense = rng.normal(size=(N, 2, EDGE, EDGE))
    return np.where(rng.random(dense.shape) < 0.02, dense, 0.0).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, images: NDArray[np.float32]) -> Path:
    out = tmp_path_factory.mktemp("autotune") / "ds"
    channels = (Channel("a", "GeV"), Channel("b", "GeV"))
    with e2eio.write(out, Schema(ImageField("X", channels, EDGE, EDGE), ())) as writer:
        writer.append(images, {})
    return out


def open_loader(path: Path, **options: Any) -> e2eio.Loader:
    fields = ("X", "sample_id")
    options = {"batch_size": BATCH, "framework": "numpy", "fields": fields, **options}
    return e2eio.Loader(path, shuffle=True, **options)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def threads_now() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize("held", [0, 3, 12], ids=lambda held: f"held{held}")
def test_memory_and_threads_stay_flat_over_a_thousand_epochs(
    path: Path, framework: str, held: int
) -> None:
    pytest.importorskip(framework)
    kept: list[Any] = []
    with open_loader(path, framework=framework, threads=2, prefetch=2) as loader:

        def run(n_epochs: int) -> None:
            for _ in range(n_epochs):
                for batch in loader:
                    kept.append(batch if held else None)
                    if len(kept) > held:
                        kept.clear()

        run(100)
        gc.collect()
        before, threads = resident_bytes(), threads_now()
        run(1000)
        gc.collect()
        assert resident_bytes() - before < 8 * MIB
        assert threads_now() == threads
        # Of 5,500 batches; which slots are in use at once depends on the threads' luck.
        assert loader.stats()["slots_made"] <= 40
        assert loader.stats()["slots"] <= held + 2 + 2 + 1


def test_an_adaptive_loader_stays_flat_too(path: Path) -> None:
    with open_loader(path) as loader:

        def run(n_epochs: int) -> None:
            for _ in range(n_epochs):
                for _ in loader:
                    pass

        run(100)
        gc.collect()
        before, threads = resident_bytes(), threads_now()
        run(1000)
        gc.collect()
        stats = loader.stats()
        ring_bytes = (stats["prefetch_limit"] + 2) * max(stats["slot_bytes"], 2 * MIB)
        assert resident_bytes() - before < ring_bytes + 8 * MIB
        assert threads_now() == threads


def test_order_and_content_do_not_depend_on_what_is_tuned(
    path: Path, images: NDArray[np.float32]
) -> None:
    def order(loader: e2eio.Loader, wait_s: float) -> list[int]:
        ids: list[int] = []
        for x, numbers in loader:
            np.testing.assert_array_equal(x, images[numbers])
            ids += numbers.tolist()
            time.sleep(wait_s)
        return ids

    fixed = {"threads": 1, "prefetch": 1}
    with open_loader(path) as adaptive, open_loader(path, **fixed) as plain:
        for epoch in range(30):
            assert order(adaptive, 0.003 * (epoch % 2)) == order(plain, 0.0)
        assert plain.stats()["setting_changes"] == 0
        assert (plain.stats()["threads"], plain.stats()["prefetch"]) == (1, 1)
        stats = adaptive.stats()
        assert 1 <= stats["threads"] <= stats["threads_limit"]
        assert 2 <= stats["prefetch"] <= stats["prefetch_limit"]


def test_fixed_numbers_stay_fixed(path: Path) -> None:
    with open_loader(path, threads=3, prefetch=5) as loader:
        for _ in range(50):
            for _ in loader:
                pass
        stats = loader.stats()
    assert (stats["threads"], stats["threads_limit"]) == (3, 3)
    assert (stats["prefetch"], stats["prefetch_limit"]) == (5, 5)
    assert stats["setting_changes"] == 0


@pytest.fixture
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "usable_cores", lambda: 16)
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "MPI_", "PMI_", "LOCAL_")):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("sixteen_cores")
@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({}, 16),
        ({"LOCAL_WORLD_SIZE": "4"}, 4),
        ({"LOCAL_WORLD_SIZE": "64"}, 1),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "8"}, 2),
        ({"MPI_LOCALNRANKS": "2"}, 8),
        ({"SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "5"}, 3),
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "4(x2),1"}, 4),
        # The shell of a batch script is one process, whatever it may start.
        ({"SLURM_NTASKS_PER_NODE": "5"}, 16),
        # Bound to its own cores: all that it may use are its own.
        ({"SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "4", "SLURM_CPUS_PER_TASK": "16"}, 16),
        ({"SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "4", "SLURM_CPUS_PER_TASK": "99"}, 16),
        ({"LOCAL_WORLD_SIZE": "many"}, 16),
    ],
)
def test_auto_threads_are_shared_among_the_ranks_of_the_node(
    environment: dict[str, str], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resolve_threads("auto") == threads
    assert resolve_threads(7) == 7


def test_small_batches_get_a_deeper_ring(path: Path) -> None:
    assert resolve_prefetch("auto", 64, 16) == 8
    assert resolve_prefetch("auto", 1, 16) == 64
    assert resolve_prefetch("auto", 3, 16) == 22
    assert resolve_prefetch(5, 1, 16) == 5
    with open_loader(path, batch_size=1, threads=8, memory_limit=16 * MIB) as loader:
        stats = loader.stats()
        assert stats["prefetch"] == 16
        assert stats["prefetch_limit"] == 32


class Delayed:
    """A pipeline that has no batch at first."""

    def __init__(self, pipeline: Any, n_empty: int) -> None:
        self._pipeline, self._n_empty = pipeline, n_empty

    def next(self, timeout_s: float) -> Any:
        if self._n_empty:
            self._n_empty -= 1
            time.sleep(0.005)
            return None
        return self._pipeline.next(timeout_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)


def test_a_batch_that_takes_very_long_is_warned_about_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("e2eio.batches.delivery.SLOW_BATCH_S", 0.01)
    with open_loader(path) as loader:
        iterator = iter(loader)
        vars(iterator)["_pipeline"] = Delayed(vars(iterator)["_pipeline"], 20)
        with pytest.warns(UserWarning, match=r"no batch for .* s: still reading .*ds") as caught:
            assert sum(1 for _ in iterator) == len(loader)
        assert len(caught) == 1
        assert caught[0].filename == __file__


def test_benchmark_compares_auto_with_a_grid(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "autotune.py"
    small = "--quick --jets 32 --batch-size 16 --rounds 2 --seconds 0.02 --threads 1,2 --prefetch 2"
    done = subprocess.run(
        [sys.executable, script, *small.split(), "--settle", "0.1", "--out", tmp_path / "a.json"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "a.json").read_text())
    assert (report["format"], report["version"]) == ("e2eio-autotune", 1)
    assert [ratio["consumer"] for ratio in report["ratios"]] == ["none", "sleep", "compute"]
    assert len(report["rows"]) == 3 * (2 + 1)
    assert all(len(row["samples_per_s_rounds"]) == 2 for row in report["rows"])
    assert done.stdout.count("auto / best fixed") == 3
