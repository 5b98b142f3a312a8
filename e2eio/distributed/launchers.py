"""What launchers tell a process about its place, in environment variables."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from e2eio.errors import ConfigError

__all__ = [
    "LAUNCHERS",
    "Launcher",
    "Local",
    "Place",
    "checked_pair",
    "from_launcher",
    "local_place",
    "slurm_first_host",
]


class Local(NamedTuple):
    """A rank among those of its node; None: nobody says."""

    rank: int | None = None
    world_size: int | None = None

    def __bool__(self) -> bool:
        return self.rank is not None or self.world_size is not None


class Place(NamedTuple):
    """A rank of a job, and who said so."""

    rank: int
    world_size: int
    local: Local
    source: str


class Launcher(NamedTuple):
    """Names of the variables that a launcher sets; the first of each list that is set counts."""

    name: str
    rank: str
    world_size: tuple[str, ...]
    local_rank: tuple[str, ...]
    local_world_size: tuple[str, ...]


#: In the order in which they count: what starts its ranks last comes first (torchrun is started by srun or
#: mpirun, and Open MPI starts its daemons by srun, whose variables its ranks inherit).
LAUNCHERS = (
    # https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
    Launcher("torchrun", "RANK", ("WORLD_SIZE",), ("LOCAL_RANK",), ("LOCAL_WORLD_SIZE",)),
    # horovod/runner/gloo_run.py
    Launcher(
        "Horovod",
        "HOROVOD_RANK",
        ("HOROVOD_SIZE",),
        ("HOROVOD_LOCAL_RANK",),
        ("HOROVOD_LOCAL_SIZE",),
    ),
    # https://docs.open-mpi.org/en/main/tuning-apps/environment-var.html (4 and 5)
    Launcher(
        "Open MPI",
        "OMPI_COMM_WORLD_RANK",
        ("OMPI_COMM_WORLD_SIZE",),
        ("OMPI_COMM_WORLD_LOCAL_RANK",),
        ("OMPI_COMM_WORLD_LOCAL_SIZE",),
    ),
    Launcher(
        "MVAPICH",
        "MV2_COMM_WORLD_RANK",
        ("MV2_COMM_WORLD_SIZE",),
        ("MV2_COMM_WORLD_LOCAL_RANK",),
        ("MV2_COMM_WORLD_LOCAL_SIZE",),
    ),
    # Hydra, which starts MPICH and Intel MPI, sets MPI_LOCAL*; Cray's PALS sets PMI_LOCAL_*.
    Launcher(
        "MPICH or Intel MPI",
        "PMI_RANK",
        ("PMI_SIZE",),
        ("MPI_LOCALRANKID", "PMI_LOCAL_RANK"),
        ("MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"),
    ),
    # https://slurm.schedmd.com/srun.html#SECTION_OUTPUT-ENVIRONMENT-VARIABLES; see _in_slurm_step
    Launcher(
        "Slurm", "SLURM_PROCID", ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), ("SLURM_LOCALID",), ()
    ),
)

# The shell of a batch script, of an interactive allocation and the like are steps with numbers from here on
# (SLURM_MAX_NORMAL_STEP_ID of slurm/slurm.h); srun counts its steps from 0.
_FIRST_SPECIAL_STEP = 0xFFFFFFF0


def from_launcher() -> Place | None:
    """Return the place that the first launcher which names one gives to this process.

    A launcher counts if it has set both rank and world size. Half of a pair is passed over: some programs
    (Lightning's own launcher) set WORLD_SIZE for torch alone.

    Raises
    ------
    ConfigError
        Both are set, but are no rank and world size.
    """
    for launcher in LAUNCHERS:
        if launcher.name == "Slurm" and not _in_slurm_step():
            continue
        size_name = next((name for name in launcher.world_size if name in os.environ), None)
        if size_name is None or launcher.rank not in os.environ:
            continue
        rank, size = checked_pair(launcher.rank, size_name)
        return Place(rank, size, local_place(launcher), launcher.name)
    return None


def checked_pair(rank_name: str, size_name: str) -> tuple[int, int]:
    """Return the two variables' values: a rank from 0 to world size - 1."""
    rank, size = os.environ[rank_name], os.environ[size_name]
    if not (_is_number(rank) and _is_number(size) and int(rank) < int(size)):
        raise ConfigError(
            f"the environment has {rank_name}={rank!r} and {size_name}={size!r}; expected a rank from 0 to "
            f"{size_name} - 1; unset both, or set E2EIO_RANK and E2EIO_WORLD_SIZE, which count before them"
        )
    return int(rank), int(size)


def local_place(launcher: Launcher | None = None) -> Local:
    """Return the place on this node, from one launcher or from the first of all that says.

    What is no number, or does not fit, is passed over: these only share out cores and GPUs.
    """
    if launcher is None:
        return next((local for local in map(local_place, LAUNCHERS) if local), Local())
    if launcher.name == "Slurm" and not _in_slurm_step():
        return Local()
    rank = _number(_first_of(launcher.local_rank))
    is_slurm = launcher.name == "Slurm"
    size = _number(_slurm_local_size() if is_slurm else _first_of(launcher.local_world_size))
    if size == 0 or (rank is not None and size is not None and rank >= size):
        return Local()
    return Local(rank, size)


def slurm_first_host() -> str | None:
    """Return the first host of the step's (or the job's) node list: srun puts rank 0 there."""
    nodes = _first_of(("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"))
    # "gpu[003-006,9]-ib,login1" -> "gpu003-ib": up to the first comma outside of brackets, and of each pair
    # of brackets the first number, whose zeros count.
    found = re.match(r"(?:[^,\[\]]|\[[^\]]*\])+", nodes)
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", found.group()) if found else None


def _in_slurm_step() -> bool:
    # The shells of sbatch and salloc have SLURM_NTASKS=8 and SLURM_PROCID=0 too, but are one process.
    step = _first_of(("SLURM_STEP_ID", "SLURM_STEPID"))
    return _is_number(step) and int(step) < _FIRST_SPECIAL_STEP


def _slurm_local_size() -> str:
    # Tasks per node in the order of the nodes: "4(x2),1" is 4, 4 and 1.
    counts: list[str] = []
    for part in os.environ.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        count, _, times = part.partition("(x")
        times = times.removesuffix(")") or "1"
        if not (_is_number(count) and _is_number(times)):
            return os.environ.get("SLURM_NTASKS_PER_NODE", "")
        counts += [count] * min(int(times), 1 << 20)
    node = os.environ.get("SLURM_NODEID", "0")
    return counts[int(node)] if _is_number(node) and int(node) < len(counts) else counts[0]


def _first_of(names: tuple[str, ...]) -> str:
    return next((os.environ[name] for name in names if name in os.environ), "")


def _number(text: str) -> int | None:
    return int(text) if _is_number(text) else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
