"""Which of how many processes this is."""

from __future__ import annotations

import operator
import os
import sys
from typing import Any, NamedTuple

from e2eio.distributed import mpi
from e2eio.distributed.launchers import (
    LAUNCHERS,
    Local,
    Place,
    checked_pair,
    from_launcher,
    local_place,
)
from e2eio.errors import ConfigError

__all__ = ["Ranks", "detect_ranks", "running_place", "share_of_cores"]

_OWN = ("E2EIO_RANK", "E2EIO_WORLD_SIZE")


class Ranks(NamedTuple):
    """The place of a process among those of its job.

    Attributes
    ----------
    rank, world_size : int
        This is number `rank`, from 0, of `world_size` processes.
    local_rank, local_world_size : int or None
        The same among the processes of this node; None: nobody says.
    source : str
        Who said so: "arguments", "E2EIO_RANK", "torch.distributed", "Horovod", "MPI", "JAX", "torchrun", "Open MPI",
        "MVAPICH", "MPICH or Intel MPI", "Slurm" or "single process".
    """

    rank: int
    world_size: int
    local_rank: int | None
    local_world_size: int | None
    source: str

    @property
    def given(self) -> bool:
        """Whether the user gave rank and world size, which then are not compared with other ranks'."""
        return self.source == "arguments"

    @property
    def provisional(self) -> bool:
        """Whether a group that is set up later counts before this."""
        return self.source in (*(launcher.name for launcher in LAUNCHERS), "single process")


def detect_ranks(rank: int | None = None, world_size: int | None = None) -> Ranks:
    """Return the place of this process.

    The first of these that names one counts:

    1. The arguments, both or neither.
    2. ``E2EIO_RANK`` and ``E2EIO_WORLD_SIZE``, both or neither: for scripts that cannot be changed.
    3. torch.distributed, if its default group is initialised.
    4. Horovod, if it is initialised and has several ranks.
    5. MPI, if mpi4py has initialised it and its world has several ranks.
    6. JAX, if ``jax.distributed`` is initialised with several processes.
    7. The launcher's variables: torchrun, Horovod, Open MPI, MVAPICH, MPICH and Intel MPI, Slurm
       (:data:`e2eio.distributed.launchers.LAUNCHERS`). One that has set only half of its pair is passed over.
    8. A single process: 0 of 1.

    Nothing is imported for 3 to 6: what nobody has imported cannot be initialised. Slurm counts inside of a
    step that srun has started, not in the shell of sbatch or salloc. The place on the node comes from
    ``E2EIO_LOCAL_RANK`` and ``E2EIO_LOCAL_WORLD_SIZE``, or from the first launcher that says.

    Raises
    ------
    ConfigError
        Only one of a pair is given, they do not fit each other, or ``E2EIO_RANK`` and ``E2EIO_WORLD_SIZE`` are other
        than those of the group of 3 to 6 that runs. (0 of 1 goes with any group: all samples for every rank.)

    Examples
    --------
    >>> detect_ranks(1, 4).rank
    1
    """
    place = _given(rank, world_size) or _own_variables() or running_place() or from_launcher()
    if place is None:
        place = Place(0, 1, Local(), "single process")
    local = _local_override() or place.local or local_place()
    return Ranks(place.rank, place.world_size, local.rank, local.world_size, place.source)


def share_of_cores(usable: int) -> int:
    """Return how many of the cores that this process may use it should: at least 1.

    An equal share of the node's cores for each rank of the node, or what the launcher has set aside for a
    rank (``SLURM_CPUS_PER_TASK``) if that is more; never more than the process may use. A rank that its
    launcher has bound to some cores (``mpirun --bind-to numa``) shares the cores that the launcher has.

    Parameters
    ----------
    usable : int
        Cores by affinity and CPU quota.
    """
    ranks = detect_ranks().local_world_size or 1
    own = os.environ.get("SLURM_CPUS_PER_TASK", "")
    share = max(_cores_of_node(usable) // ranks, int(own) if own.isdigit() else 0)
    return max(1, min(usable, share))


def _cores_of_node(usable: int) -> int:
    try:
        mine, launchers = (len(os.sched_getaffinity(pid)) for pid in (0, os.getppid()))
    except (AttributeError, OSError):  # no such call, or the parent is gone or hidden
        return usable
    # Where a CPU quota is what limits, it is the quota of all ranks.
    return max(usable, launchers) if usable >= mine else usable


def _given(rank: int | None, world_size: int | None) -> Place | None:
    if rank is None and world_size is None:
        return None
    if rank is None or world_size is None:
        raise ConfigError(f"rank is {rank} and world_size is {world_size}; give both or neither")
    number, size = _integer("rank", rank), _integer("world_size", world_size)
    if size < 1:
        raise ConfigError(
            f"rank is {number} and world_size is {size}; expected a world_size of at least 1 and a rank below it"
        )
    if not 0 <= number < size:
        raise ConfigError(f"rank is {number}; expected 0 to {size - 1} (world_size - 1)")
    return Place(number, size, Local(), "arguments")


def _integer(name: str, value: Any) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)  # numpy's integers, too
    except TypeError:
        pass
    raise ConfigError(f"{name} is {value!r}; expected an integer, or None to find it out")


def _own_variables() -> Place | None:
    if all(name not in os.environ for name in _OWN):
        return None
    if any(name not in os.environ for name in _OWN):
        raise ConfigError(f"one of {' and '.join(_OWN)} is set; set both or neither")
    own = Place(*checked_pair(*_OWN), Local(), _OWN[0])
    group = running_place()
    if group is not None and own.world_size > 1 and own[:2] != group[:2]:
        raise ConfigError(
            f"{_OWN[0]} says {own.rank} of {own.world_size}, {group.source} says {group.rank} of {group.world_size}; "
            f"unset {' and '.join(_OWN)} on all ranks, or pass rank= and world_size= to the loader"
        )
    return own


def _local_override() -> Local:
    names = ("E2EIO_LOCAL_RANK", "E2EIO_LOCAL_WORLD_SIZE")
    return Local(*checked_pair(*names)) if all(name in os.environ for name in names) else Local()


def running_place() -> Place | None:
    """Return the place in the group that runs in this process; None: there is none."""
    return _torch() or _horovod() or _mpi() or _jax()


def _torch() -> Place | None:
    group: Any = sys.modules.get("torch.distributed")
    if group is None or not group.is_available() or not group.is_initialized():
        return None
    return Place(int(group.get_rank()), int(group.get_world_size()), Local(), "torch.distributed")


def _horovod() -> Place | None:
    for name in (
        "horovod.torch",
        "horovod.tensorflow.keras",
        "horovod.tensorflow",
        "horovod.keras",
    ):
        hvd: Any = sys.modules.get(name)
        if hvd is not None and hvd.is_initialized() and hvd.size() > 1:
            local = Local(int(hvd.local_rank()), int(hvd.local_size()))
            return Place(int(hvd.rank()), int(hvd.size()), local, "Horovod")
    return None


def _mpi() -> Place | None:
    # A world of one is what a process not started by mpirun sees, whoever started it.
    world = mpi.running_world()
    if world is None or world.size == 1:
        return None
    return Place(int(world.rank), int(world.size), Local(), "MPI")


def _jax() -> Place | None:
    # jax.process_count() would start the devices' runtime; the state it reads is asked instead.
    module: Any = sys.modules.get("jax._src.distributed")
    state = None if module is None else module.global_state
    if state is None or state.client is None or state.num_processes == 1:
        return None
    return Place(int(state.process_id), int(state.num_processes), Local(), "JAX")
