"""Two ranks that share an epoch by a DistributedSampler: e2eio.DataLoader compares what they load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from torch_toys import N, write_toy

PROGRAM = Path(__file__).parent / "programs" / "shared_epoch.py"


def test_ranks_that_load_different_things_hear_of_it(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py", reason="no mpi4py; 'pip install e2eio[test]' brings it")
    scripts = Path(sys.executable).parent
    mpirun = shutil.which("mpirun", path=f"{scripts}{os.pathsep}{os.environ['PATH']}")
    if mpirun is None:
        pytest.skip("no mpirun; 'pip install e2eio[test]' brings it")
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=True)
    flags = ["--allow-run-as-root", "--oversubscribe"] if "Open MPI" in version.stdout else []
    write_toy(tmp_path / "ds")
    write_toy(tmp_path / "other", n=31, begin=100)
    done = subprocess.run(
        [
            mpirun,
            *flags,
            "-n",
            "2",
            sys.executable,
            PROGRAM,
            tmp_path / "ds",
            tmp_path / "other",
            tmp_path,
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "E2EIO_CHECK_TIMEOUT": "60"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reports = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for report in reports:
        assert report["datasets"] == ["dataset", "n_batches", "n_samples", "samples"]
        assert report["seeds"] == ["sampler.seed"]
        assert report["batches"] == ["sampler.shuffle"]
        assert report["subsets"] == ["samples"]
        assert report["epochs"] == ["epoch"]
        assert report["positions"] == ["position"]
    for first, second in zip(reports[0]["equal"], reports[1]["equal"], strict=True):
        assert len(first) == len(second) == -(-N // 2)
        assert {*first, *second} == set(range(N))
    assert [len(report["a part"][0]) for report in reports] == [21, 11]
