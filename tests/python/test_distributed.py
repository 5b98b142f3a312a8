"""Two ranks under the real launchers. What each of them does and sees is in programs/two_ranks.py."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import e2eio
from e2eio.errors import (
    ConfigError,
    E2eioError,
    MissingDependencyError,
    PlanMismatchError,
    RankMissingError,
)
from e2eio.schema import Channel, ImageField, ScalarField, Schema

N = 61
PROGRAM = Path(__file__).parent / "programs" / "two_ranks.py"
SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("distributed") / "ds"
    channels = (Channel("a", "GeV"), Channel("b", "GeV"))
    schema = Schema(ImageField("X", channels, 8, 8), (ScalarField("y", "float32", ""),))
    images = np.random.default_rng(1).random((N, 2, 8, 8), np.float32)
    with e2eio.write(out, schema) as writer:
        writer.append(images, {"y": np.arange(N, dtype=np.float32)})
    return out


def launcher(name: str) -> str:
    found = shutil.which(name, path=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"no {name}; 'pip install e2eio[test]' brings it")
    return found


def mpirun() -> list[str]:
    command = launcher("mpirun")
    pytest.importorskip("mpi4py", reason="no mpi4py; 'pip install e2eio[test]' brings it")
    told = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    flags = ["--allow-run-as-root", "--oversubscribe"] if "Open MPI" in told.stdout else []
    return [command, *flags, "-n", "2", sys.executable]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    # Warnings are errors in the ranks as well; frameworks' own are theirs.
    return {**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", **more}


def run(command: list[str], environments: list[dict[str, str]]) -> str:
    """Run a command once per environment, all at the same time; return what they say."""
    started = [
        subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for env in environments
    ]
    try:
        said = "".join(process.communicate(timeout=120)[0] for process in started)
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * len(started), said
    return said


def slurm(rank: int) -> dict[str, str]:
    return environment(
        SLURM_JOB_ID=str(free_port()),
        SLURM_STEP_ID="0",
        SLURM_STEP_NODELIST="localhost",
        SLURM_STEP_NUM_TASKS="2",
        SLURM_STEP_TASKS_PER_NODE="2",
        SLURM_PROCID=str(rank),
        SLURM_LOCALID=str(rank),
    )


def job(kind: str, dataset: Path, out: Path) -> list[dict[str, Any]]:
    """Start two ranks, and return what each has seen."""
    how, _, mode = kind.partition("-")
    program = [str(PROGRAM), mode, str(dataset), str(out)]
    if how == "mpirun":
        run([*mpirun(), *program], [environment()])
    elif how == "torchrun":
        command = [launcher("torchrun"), "--nproc-per-node", "2", "--master-port"]
        run([*command, str(free_port()), *program], [environment()])
    elif how == "srun":
        number = str(os.getpid())
        ranks = [{**slurm(rank), "SLURM_JOB_ID": number} for rank in range(2)]
        run([sys.executable, *program], ranks)
    else:
        port = f"127.0.0.1:{free_port()}"
        ranks = [environment(COORDINATOR=port, NUMBER=str(rank)) for rank in range(2)]
        run([sys.executable, *program], ranks)
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(
    "kind", ["mpirun-torch", "torchrun-torch", "srun-torch", "mpirun-mpi", "python-jax"]
)
def test_two_ranks(kind: str, path: Path, tmp_path: Path) -> None:
    mode = kind.partition("-")[2]
    pytest.importorskip({"mpi": "mpi4py"}.get(mode, mode))
    reports = job(kind, path, tmp_path)
    sources = {"torch": "torch.distributed", "mpi": "MPI", "jax": "JAX"}
    for rank, report in enumerate(reports):
        assert report["source"] == sources[mode]
        assert report["torch"] == (mode == "torch")  # ranks are compared without it, too
        assert report["loader"] == [rank, 2, 4]  # though the loader is older than the group
        assert report["compared"]
        check_errors(report)
        check_what_else_differs(report["differ"], rank, sources[mode])
        check_resumption(report["resume"], rank)
        if mode == "torch":
            assert report["place"] == [rank, 2, rank, 2]
            assert f"World(rank={rank}, world_size=2, local_rank={rank}" in report["world"]
    assert reports[0]["lengths"] == reports[1]["lengths"]
    assert len(reports[0]["lengths"]) == 200
    check_epochs(reports)


def check_epochs(reports: list[dict[str, Any]]) -> None:
    """Equal numbers of equal batches; disjoint but for the one repeat of 61 samples on 2 ranks."""
    first, second = ([report["epochs"][epoch] for report in reports] for epoch in range(2))
    for ranks in (first, second):
        assert [[len(ids) for ids in batches] for batches in ranks] == [[8, 8, 8, 7]] * 2
        everything = sorted(number for batches in ranks for ids in batches for number in ids)
        assert len(everything) == N + 1
        assert sorted(set(everything)) == list(range(N))
    assert first != second


def check_errors(report: dict[str, Any]) -> None:
    message, differences = report["disagree"]
    assert "  batch_size: 8 on rank 0; 9 on rank 1\n" in message
    assert "  seed: 0 on rank 0; 1 on rank 1\n" in message
    assert "rank=0, world_size=1" in message
    assert differences["seed"] == {"0": [0], "1": [1]}
    assert "dataset" not in differences
    message, missing = report["alone"]
    assert message.startswith("rank 1 did not come within 0.3 s")
    assert "rank=0, world_size=1" in message
    assert missing == [1]


def check_what_else_differs(found: dict[str, str], rank: int, source: str) -> None:
    assert '  dtype: "float32" on rank 0; "float16" on rank 1\n' in found["images"]
    assert '  channels: "a, b" on rank 0; "b" on rank 1\n' in found["images"]
    assert re.search(
        r'  transforms: "none" on rank 0; "Log1p \(\w{8}\)" on rank 1\n', found["images"]
    )
    for name in {"by hand", "processes", "xla"} & set(found):
        assert "  seed: 0 on rank 0; 1 on rank 1\n" in found[name], name
    expected = f"E2EIO_RANK says {1 - rank} of 2, {source} says {rank} of 2; unset"
    assert found["variables"].startswith(expected)


def check_resumption(found: dict[str, Any], rank: int) -> None:
    """Four batches per epoch; the state is that after the first."""
    assert (found["same"], found["again"]) == (3, 3)
    assert "  position: 16 on rank 0; 32 on rank 1\n" in found["other"]
    if rank == 1:
        assert found["alone"] == 4
        return
    assert found["alone"].startswith("rank 1 did not come within 0.5 s")
    assert (
        "before the first batch after load_state_dict; load_state_dict was called on this rank"
        in found["alone"]
    )


def test_a_single_process_needs_no_launcher(path: Path) -> None:
    pytest.importorskip("torch")
    program = (
        "import sys, e2eio, torch\n"
        "with e2eio.distributed.init() as world:\n"
        "    total = torch.ones(1)\n"
        "    torch.distributed.all_reduce(total)\n"
        "    loader = e2eio.Loader(sys.argv[1], batch_size=8)\n"
        "    print(world, total.item(), len(list(loader)), loader.check_ranks())\n"
        "    try:\n"
        "        e2eio.distributed.init('nccl')\n"
        "    except e2eio.errors.ConfigError as error:\n"
        "        print(error)\n"
        "assert not torch.distributed.is_initialized()\n"
    )
    said = run([sys.executable, "-W", "error", "-c", program, str(path)], [environment()])
    assert "World(rank=0, world_size=1, local_rank=0, local_world_size=1" in said
    if "backend='gloo'" in said:
        assert "is initialised with backend 'gloo'; expected 'nccl'" in said
    assert " 1.0 8 False" in said


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        (
            {"HOROVOD_RANK": "1", "HOROVOD_SIZE": "2"},
            ConfigError,
            r"rank 1 of 2 \(from Horovod\) has no way to find the others; set MASTER_ADDR",
        ),
        (
            {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
            MissingDependencyError,
            "mpi4py is missing: .* or set MASTER_ADDR",
        ),
        (
            {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"},
            ConfigError,
            "no node list: expected SLURM_STEP_NODELIST",
        ),
    ],
)
def test_ranks_that_cannot_meet_are_told_what_to_do(
    more: dict[str, str],
    error: type[E2eioError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    for name in ("mpi4py", "mpi4py.MPI"):
        monkeypatch.setitem(sys.modules, name, None)
    for name, value in more.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=message):
        e2eio.distributed.init(timeout=5)


def test_mpi4py_of_another_mpi_is_noticed() -> None:
    pytest.importorskip("torch")
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("no mpi4py; 'pip install e2eio[test]' brings it")
    program = (
        "import e2eio\n"
        "try:\n"
        "    e2eio.distributed.init(timeout=5)\n"
        "except e2eio.errors.ConfigError as error:\n"
        "    print(error)\n"
    )
    alone = environment(PMI_RANK="1", PMI_SIZE="3")  # as a launcher of MPICH says it, without MPICH
    said = run([sys.executable, "-c", program], [alone])
    assert re.match("the launcher started 3 ranks, but mpi4py sees 1|mpi4py finds no MPI", said)


def test_nothing_is_compared_where_nothing_connects_the_ranks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with e2eio.Loader(path, batch_size=8, framework="numpy") as loader:
        assert loader.check_ranks() is False
        assert sum(1 for _ in loader) == len(loader) == 4


def test_the_time_to_wait_is_a_number(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2EIO_CHECK_TIMEOUT", "soon")
    with (
        e2eio.Loader(path, batch_size=8, framework="numpy") as loader,
        pytest.raises(ConfigError, match="E2EIO_CHECK_TIMEOUT is 'soon'; expected seconds"),
    ):
        loader.check_ranks()


@pytest.mark.parametrize(
    "error",
    [
        PlanMismatchError("seed differs", {"seed": {"0": [0], "1": [1, 2]}}),
        RankMissingError("rank 3 did not come", [3]),
    ],
)
def test_errors_survive_pickling(error: E2eioError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
