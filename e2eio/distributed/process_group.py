"""torch.distributed, set up from whatever started the process."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from e2eio.distributed import mpi
from e2eio.distributed.launchers import slurm_first_host
from e2eio.distributed.ranks import Ranks, detect_ranks
from e2eio.distributed.waiting import wait_until
from e2eio.errors import ConfigError, MissingDependencyError

try:
    import torch
    import torch.distributed
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "torch is missing: needed for e2eio.distributed.init(); install it with 'pip install e2eio[torch]'; "
        "without torch, e2eio.Loader takes rank and world size from MPI, JAX or the launcher"
    ) from error

# torch declares no types for what it exports here.
group: Any = torch.distributed

__all__ = ["RENDEZVOUS_S", "World", "init", "shutdown"]

#: Seconds in which all ranks have to come to init().
RENDEZVOUS_S = 300.0

_LEAVE_S = 10.0  # that rank 0, which may hold the store, waits for the others at the end
_MPI_SOURCES = ("MPI", "Open MPI", "MVAPICH", "MPICH or Intel MPI")

# Ports for Slurm jobs: below what Linux gives out by itself (32768 to 60999).
_FIRST_PORT, _N_PORTS = 10_000, 20_000


@dataclass(frozen=True)
class World:
    """The place of this process, and the device it is to use. A context manager: leaving it is :func:`shutdown`.

    Attributes
    ----------
    rank, world_size : int
        This is number `rank`, from 0, of `world_size` processes.
    local_rank, local_world_size : int
        The same among the processes of this node.
    device : torch.device
        ``cuda:i`` with i the local rank where the backend is nccl, else ``cpu``.
    backend : str
        Of torch.distributed: "nccl" or "gloo".
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    device: torch.device
    backend: str

    def __enter__(self) -> World:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *rest: object) -> None:
        _leave(wait=exc_type is None)


@dataclass
class _Current:
    """The world that init() has set up in this process, and its store."""

    world: World | None = None
    store: Any = field(default=None, repr=False)


_current = _Current()


def init(backend: str | None = None, *, timeout: float | None = None) -> World:
    """Set up torch.distributed, so that one script runs by itself and under any launcher.

    Rank and world size are those of :func:`e2eio.distributed.detect_ranks`. The ranks find each other through

    - nothing, if the world is one process;
    - ``MASTER_ADDR`` and ``MASTER_PORT`` where both are set: torchrun sets them, and you may;
    - MPI: rank 0 takes a free port and tells it over mpi4py;
    - Slurm: the first host of the step's node list, and a port made from the numbers of job and step.

    Idempotent: a second call returns the first call's world. A group that somebody else has set up is used as
    it is, and not shut down. The environment is not changed.

    Parameters
    ----------
    backend : str or None
        "gloo" or "nccl"; None: nccl where CUDA is available, else gloo. With nccl the process uses the GPU
        of its local rank, by ``torch.cuda.set_device``.
    timeout : float or None
        Seconds for all ranks to come, and for each collective operation later on; None: 300 for the former,
        torch's own (nccl 600, gloo 1800) for the latter.

    Returns
    -------
    World
        Rank, world size, and the device to use.

    Raises
    ------
    ConfigError
        The variables of the launcher do not fit each other, the ranks have no way to find each other, or
        there is a group with another backend.
    MissingDependencyError
        torch is missing; or mpi4py, which would have told the ranks of mpirun the address.
    TimeoutError
        Under MPI: not all ranks have called it in time. (Elsewhere torch raises DistNetworkError or
        DistStoreError.)

    Examples
    --------
    >>> with e2eio.distributed.init() as world:  # doctest: +SKIP
    ...     model = torch.nn.parallel.DistributedDataParallel(model.to(world.device))
    ...     train(model, e2eio.Loader("data/top", batch_size=64, shuffle=True))
    """
    if group.is_initialized():
        return _existing(backend)
    if backend is None:
        backend = "nccl" if torch.cuda.is_available() and group.is_nccl_available() else "gloo"
    ranks = detect_ranks()
    rendezvous_s = RENDEZVOUS_S if timeout is None else timeout
    store, local = _meet(ranks, rendezvous_s)
    device = _device(backend, local[0])
    group.init_process_group(
        backend,
        store=store,
        rank=ranks.rank,
        world_size=ranks.world_size,
        timeout=None if timeout is None else timedelta(seconds=timeout),
    )
    _current.world = World(ranks.rank, ranks.world_size, *local, device, backend)
    _current.store = store
    return _current.world


def shutdown() -> None:
    """Destroy the group that :func:`init` has set up; idempotent. Another's group stays.

    All ranks call it at their end. Rank 0, which may hold the store, waits up to 10 s for the others.
    """
    _leave(wait=True)


def _leave(*, wait: bool) -> None:
    world, store = _current.world, _current.store
    _current.world = _current.store = None
    if world is None or not group.is_initialized():
        return
    if world.world_size > 1:
        # RuntimeError: the rank that holds the store is gone already, so nobody waits for this one.
        with suppress(RuntimeError):
            store.add("left", 1)
            if wait and world.rank == 0:
                wait_until(lambda: store.add("left", 0) == world.world_size, _LEAVE_S)
    group.destroy_process_group()


def _existing(backend: str | None) -> World:
    found = group.get_backend()
    if backend is not None and backend != found:
        raise ConfigError(
            f"torch.distributed is initialised with backend {found!r}; expected {backend!r}: destroy that group "
            "first, or call e2eio.distributed.init() without a backend"
        )
    if _current.world is not None:
        return _current.world
    ranks = detect_ranks()
    local = (ranks.local_rank or 0, ranks.local_world_size or 1)
    cuda = "nccl" in found
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    return World(group.get_rank(), group.get_world_size(), *local, device, found)


def _device(backend: str, local_rank: int) -> torch.device:
    if "nccl" not in backend:
        return torch.device("cpu")
    n_devices = torch.cuda.device_count()
    if n_devices == 0:
        raise ConfigError("no GPU is visible: found backend 'nccl'; pass backend='gloo'")
    # Where the launcher shows each rank a GPU of its own, it is number 0 for all of them.
    device = torch.device("cuda", local_rank % n_devices)
    torch.cuda.set_device(device)
    return device


def _meet(ranks: Ranks, timeout_s: float) -> tuple[Any, tuple[int, int]]:
    """Return a store that all ranks share, and (rank, ranks) on this node."""
    local = None
    if ranks.local_rank is not None and ranks.local_world_size is not None:
        local = (ranks.local_rank, ranks.local_world_size)
    if ranks.world_size == 1:
        return group.HashStore(), local or (0, 1)
    if all(name in os.environ for name in ("MASTER_ADDR", "MASTER_PORT")):
        limit = timedelta(seconds=timeout_s)
        place = (ranks.rank, ranks.world_size)
        store, _, _ = next(group.rendezvous("env://", *place, timeout=limit))
    elif ranks.source in _MPI_SOURCES:
        world = mpi.start_world(ranks.world_size)
        local = local or mpi.node_place(world)
        store = _store_by_mpi(world, timeout_s, one_node=local[1] == ranks.world_size)
    elif ranks.source == "Slurm":
        store = _store(_slurm_host(), _slurm_port(), ranks, timeout_s)
    else:
        raise ConfigError(
            f"rank {ranks.rank} of {ranks.world_size} (from {ranks.source}) has no way to find the others; set "
            "MASTER_ADDR (the host of rank 0) and MASTER_PORT (a free port there) for all ranks, or start the script "
            "with torchrun, mpirun or srun"
        )
    store = group.PrefixStore("e2eio", store)
    return store, local or _place_by_host(store, ranks, timeout_s)


def _store(host: str, port: int, ranks: Ranks, timeout_s: float) -> Any:
    try:
        return group.TCPStore(
            host,
            port,
            ranks.world_size,
            is_master=ranks.rank == 0,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
        )
    except RuntimeError as error:
        error.args = (
            f"rank {ranks.rank} found no way to port {port} of {host}, from {ranks.source}; set MASTER_ADDR and "
            f"MASTER_PORT for all ranks to choose another: {error}",
        )
        raise


def _store_by_mpi(world: Any, timeout_s: float, *, one_node: bool) -> Any:
    ranks = Ranks(int(world.rank), int(world.size), None, None, "MPI")
    store, address = None, ""
    if ranks.rank == 0:
        host = "127.0.0.1" if one_node else os.environ.get("MASTER_ADDR", socket.gethostname())
        store = _store(host, 0, ranks, timeout_s)  # port 0: the system chooses a free one
        address = f"{host} {store.port}"
    host, _, port = mpi.broadcast(world, address, timeout_s).partition(" ")
    return _store(host, int(port), ranks, timeout_s) if store is None else store


def _slurm_host() -> str:
    host = os.environ.get("MASTER_ADDR") or slurm_first_host()
    if host is None:
        raise ConfigError(
            "no node list: expected SLURM_STEP_NODELIST or SLURM_JOB_NODELIST from srun; set MASTER_ADDR and "
            "MASTER_PORT for all ranks"
        )
    return host


def _slurm_port() -> int:
    if "MASTER_PORT" in os.environ:
        return int(os.environ["MASTER_PORT"])
    numbers = [os.environ.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
    job, step = (int(number) if number.isdigit() else 0 for number in numbers)
    return _FIRST_PORT + (job + 7919 * step) % _N_PORTS


def _place_by_host(store: Any, ranks: Ranks, timeout_s: float) -> tuple[int, int]:
    """Return (rank, ranks) among those with the same host name, where no launcher says."""
    keys = [f"host/{rank}" for rank in range(ranks.world_size)]
    store.set(keys[ranks.rank], socket.gethostname())
    store.wait(keys, timedelta(seconds=timeout_s))
    hosts = [store.get(key) for key in keys]
    here = [rank for rank, host in enumerate(hosts) if host == hosts[ranks.rank]]
    return here.index(ranks.rank), len(here)
