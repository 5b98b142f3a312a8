"""Which rank this is: real launchers' variables, as they are on the clusters."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from e2eio.distributed import Ranks, detect_ranks, share_of_cores
from e2eio.distributed.launchers import LAUNCHERS, slurm_first_host
from e2eio.errors import ConfigError

PREFIXES = ("SLURM", "OMPI_", "PMI", "MPI_", "MV2_", "HOROVOD_", "LOCAL_", "E2EIO_", "MASTER_")

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
HOROVOD = {
    "HOROVOD_RANK": "1",
    "HOROVOD_SIZE": "2",
    "HOROVOD_LOCAL_RANK": "1",
    "HOROVOD_LOCAL_SIZE": "2",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "6",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "3",
    "PMIX_RANK": "3",
}
HYDRA = {"PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"}
PALS = {"PMI_RANK": "2", "PMI_SIZE": "4", "PMI_LOCAL_RANK": "2", "PMI_LOCAL_SIZE": "4"}
# srun -N 3 -n 9 within a job of 12 tasks
SRUN = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NODELIST": "gpu[003-005]",
    "SLURM_NODEID": "2",
    "SLURM_NTASKS": "12",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "9",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2),1",
    "SLURM_PROCID": "8",
    "SLURM_LOCALID": "0",
}
# What python sees in the shell of sbatch -n 8, and of salloc -n 8 with a step for the shell: one process.
SBATCH = {
    "SLURM_JOB_ID": "4711",
    "SLURM_NTASKS": "8",
    "SLURM_NPROCS": "8",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS_PER_NODE": "4",
}
SALLOC = {**SBATCH, "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}
NEW_SBATCH = {**SBATCH, "SLURM_STEP_ID": "4294967291"}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIXES) or name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name)


def in_environment(monkeypatch: pytest.MonkeyPatch, *parts: dict[str, str]) -> Ranks:
    for part in parts:
        for name, value in part.items():
            monkeypatch.setenv(name, value)
    return detect_ranks()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1, None, None, "single process")),
        (TORCHRUN, (5, 8, 1, 4, "torchrun")),
        (HOROVOD, (1, 2, 1, 2, "Horovod")),
        (OPEN_MPI, (3, 6, 0, 3, "Open MPI")),
        (HYDRA, (2, 4, 0, 2, "MPICH or Intel MPI")),
        (PALS, (2, 4, 2, 4, "MPICH or Intel MPI")),
        (SRUN, (8, 9, 0, 1, "Slurm")),
        ({**SRUN, "SLURM_NODEID": "1", "SLURM_PROCID": "7"}, (7, 9, 0, 4, "Slurm")),
        (SBATCH, (0, 1, None, None, "single process")),
        (SALLOC, (0, 1, None, None, "single process")),
        (NEW_SBATCH, (0, 1, None, None, "single process")),
        # Lightning's launcher, before its group is there; a rank alone; a shell variable.
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, (0, 1, 1, None, "single process")),
        ({"RANK": "1"}, (0, 1, None, None, "single process")),
        ({"OMPI_COMM_WORLD_RANK": "1", **HYDRA}, (2, 4, 0, 2, "MPICH or Intel MPI")),
        # What does not fit on the node only costs its use.
        ({**TORCHRUN, "LOCAL_RANK": "4"}, (5, 8, None, None, "torchrun")),
        ({**TORCHRUN, "LOCAL_RANK": "x"}, (5, 8, None, 4, "torchrun")),
    ],
)
def test_launchers_are_understood(
    environment: dict[str, str],
    expected: tuple[int, int, int | None, int | None, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert in_environment(monkeypatch, environment) == expected


def test_what_starts_the_ranks_last_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """mpirun in a Slurm job starts its daemons by srun: one task on each node, with Slurm's variables."""
    daemon = {**SRUN, "SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "2"}
    assert in_environment(monkeypatch, daemon).source == "Slurm"
    assert in_environment(monkeypatch, OPEN_MPI) == (3, 6, 0, 3, "Open MPI")
    assert in_environment(monkeypatch, TORCHRUN) == (5, 8, 1, 4, "torchrun")
    own = in_environment(monkeypatch, {"E2EIO_RANK": "0", "E2EIO_WORLD_SIZE": "1"})
    assert own == (0, 1, 1, 4, "E2EIO_RANK")  # the node's cores are shared all the same
    assert detect_ranks(2, 3)[:2] == (2, 3)
    assert detect_ranks(2, 3).given
    local = {"E2EIO_LOCAL_RANK": "0", "E2EIO_LOCAL_WORLD_SIZE": "2"}
    assert in_environment(monkeypatch, local) == (0, 1, 0, 2, "E2EIO_RANK")


def test_the_order_is_the_documented_one() -> None:
    names = [launcher.name for launcher in LAUNCHERS]
    text = (detect_ranks.__doc__ or "").partition("7. ")[2].partition("(:data:")[0]
    assert [text.index(name.split(" or ")[0]) for name in names] == sorted(
        text.index(name.split(" or ")[0]) for name in names
    )


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, r"RANK='2' and WORLD_SIZE='2'; expected a rank from 0"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK='-1'"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK='one'"),
        ({"PMI_RANK": "0", "PMI_SIZE": "0"}, "PMI_SIZE='0'"),
        ({**SRUN, "SLURM_PROCID": "9"}, "SLURM_PROCID='9' and SLURM_STEP_NUM_TASKS='9'"),
        ({"E2EIO_RANK": "0"}, "one of E2EIO_RANK and E2EIO_WORLD_SIZE is set"),
        ({"E2EIO_RANK": "3", "E2EIO_WORLD_SIZE": "2"}, "E2EIO_RANK='3'"),
    ],
)
def test_ranks_that_cannot_be_are_refused(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=message):
        in_environment(monkeypatch, environment)


@pytest.mark.parametrize(("rank", "world_size"), [(1, None), (None, 2), (2, 2), (-1, 2), (0, 0)])
def test_wrong_arguments_are_refused(rank: int | None, world_size: int | None) -> None:
    with pytest.raises(ConfigError, match="rank is"):
        detect_ranks(rank, world_size)


@pytest.mark.parametrize(
    ("rank", "world_size", "message"),
    [
        (0.5, 2, "rank is 0.5; expected an integer"),
        ("0", 2, "rank is '0'; expected an integer"),
        (True, 2, "rank is True; expected an integer"),
        (0, 2.0, "world_size is 2.0; expected an integer"),
        (0, 0, "world_size is 0; expected a world_size of at least 1"),
        (-1, 0, "world_size is 0; expected a world_size of at least 1"),
        (-1, 2, "rank is -1; expected 0 to 1"),
    ],
)
def test_arguments_are_integers(rank: Any, world_size: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        detect_ranks(rank, world_size)


def test_integers_of_numpy_are_integers() -> None:
    found = detect_ranks(np.int64(1), np.uint8(3))
    assert found[:2] == (1, 3)
    assert [type(number) for number in found[:2]] == [int, int]


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node7", "node7"),
        ("node7,node8", "node7"),
        ("gpu[003-006,9]-ib,login1", "gpu003-ib"),
        ("gpu[9,11-12]", "gpu9"),
        ("r[1-2]n[04,05],x", "r1n04"),
        ("a.b-c[007]", "a.b-c007"),
        ("", None),
    ],
)
def test_first_host_of_a_node_list(
    nodes: str, host: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_NODELIST", nodes)
    assert slurm_first_host() == host
    monkeypatch.setenv("SLURM_STEP_NODELIST", "other[1-2]")
    assert slurm_first_host() == "other1"


def test_a_group_comes_before_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys, torch.distributed as group\n"
        "from e2eio.distributed import detect_ranks\n"
        "assert detect_ranks().source == 'Open MPI'\n"
        "group.init_process_group('gloo', store=group.HashStore(), rank=0, world_size=1)\n"
        "print(*detect_ranks())\n"
        "group.destroy_process_group()\n"
        "assert detect_ranks().source == 'Open MPI'\n"
    )
    for name, value in OPEN_MPI.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "0 1 0 3 torch.distributed"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
def test_ranks_bound_to_their_cores_use_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core: nothing to share out")
    program = (
        "import os, sys\n"
        "from e2eio import _core\n"
        "from e2eio.distributed import share_of_cores\n"
        "os.sched_setaffinity(0, {int(number) for number in sys.argv[1:]})\n"
        "print(share_of_cores(len(os.sched_getaffinity(0))))\n"
    )
    n = (
        len(cores) // 2
    )  # the launcher, which this process plays, has all cores; each of two ranks half
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for bound, expected in ((cores[:n], n), (cores, n), (cores[:1], 1)):
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, bound)],
            check=True,
            capture_output=True,
            text=True,
        )
        assert int(done.stdout) == expected
    assert share_of_cores(1) == 1


@pytest.mark.parametrize(
    ("usable", "mine", "launcher", "share"),
    [
        (128, 128, 128, 16),  # not bound
        (16, 16, 128, 16),  # bound to its own
        (64, 64, 128, 16),  # four ranks are bound to the same half of the node
        (1, 1, 128, 1),
        (8, 128, 128, 1),  # a CPU quota of 8, for all ranks together
        (8, 64, 128, 1),
    ],
)
def test_eight_ranks_of_a_large_node(
    usable: int, mine: int, launcher: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    cores = {0: set(range(mine)), os.getppid(): set(range(launcher))}
    monkeypatch.setattr(os, "sched_getaffinity", cores.__getitem__, raising=False)
    assert share_of_cores(usable) == share
