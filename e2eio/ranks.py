"""Which of how many processes this is."""

from __future__ import annotations

import os
import sys
from typing import Any

from e2eio.errors import ConfigError

__all__ = ["local_world_size", "rank_and_world_size", "share_of_cores"]

# (rank, world size, ranks on this node), as launchers set them: torchrun, Open MPI, MPICH and Intel MPI,
# Slurm. In this order; the first pair that is set counts.
_LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"),
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_TASKS_PER_NODE"),
)


def rank_and_world_size(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return the rank and world size asked for, else those of torch.distributed, else the launcher's.

    Without any of these, ``(0, 1)``.

    Raises
    ------
    ConfigError
        Only one of the two is given, or they do not fit each other.
    """
    if (rank is None) != (world_size is None):
        raise ConfigError(f"rank is {rank} and world_size is {world_size}; give both or neither")
    if rank is None or world_size is None:
        rank, world_size = _process_group() or _launcher() or (0, 1)
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank is {rank}; expected 0 to {world_size - 1} (world_size - 1)")
    return rank, world_size


def local_world_size() -> int:
    """Return how many ranks share this node, as far as the launcher says; at least 1."""
    for _, _, local in _LAUNCHERS:
        value = os.environ.get(local, "").partition("(")[0]
        if value.isdigit():
            return max(1, int(value))
    return 1


def share_of_cores(usable: int) -> int:
    """Return how many of the cores that this process may use it should: at least 1.

    An equal share for each rank of the node, or what the launcher has set aside for a rank
    (``SLURM_CPUS_PER_TASK``) if that is more: a rank that is bound to its cores shares them with nobody.
    """
    own = os.environ.get("SLURM_CPUS_PER_TASK", "")
    share = max(usable // local_world_size(), int(own) if own.isdigit() else 0)
    return max(1, min(usable, share))


def _process_group() -> tuple[int, int] | None:
    # Looked up, not imported: where nobody has imported torch.distributed, no group can be set up.
    group: Any = sys.modules.get("torch.distributed")
    if group is None or not group.is_available() or not group.is_initialized():
        return None
    return int(group.get_rank()), int(group.get_world_size())


def _launcher() -> tuple[int, int] | None:
    for rank, world_size, _ in _LAUNCHERS:
        values = (os.environ.get(rank, ""), os.environ.get(world_size, ""))
        if all(value.isdigit() for value in values):
            return int(values[0]), int(values[1])
    return None
