"""MPI through mpi4py: the only module that imports it."""

from __future__ import annotations

import sys
from typing import Any

from e2eio.distributed.waiting import wait_until
from e2eio.errors import ConfigError, MissingDependencyError

__all__ = ["MpiExchange", "broadcast", "node_place", "running_world", "start_world"]

# Of all messages of an exchange; MPI guarantees tags up to 32767.
_TAG = 0x2E10

# Sends that the receiver has not taken yet: their buffers have to live.
_unfinished: list[tuple[Any, bytes]] = []


def running_world() -> Any | None:
    """Return COMM_WORLD if MPI runs in this process; mpi4py is looked up, not imported."""
    module: Any = sys.modules.get("mpi4py.MPI")
    if module is None or not module.Is_initialized() or module.Is_finalized():
        return None
    return module.COMM_WORLD


def start_world(world_size: int) -> Any:
    """Return COMM_WORLD, initialising MPI if nobody has.

    Raises
    ------
    MissingDependencyError
        mpi4py is not installed.
    ConfigError
        mpi4py belongs to another MPI than the launcher, or to none, or MPI is finalised.
    """
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise MissingDependencyError(
            "mpi4py is missing: needed to tell all ranks of mpirun where rank 0 is; install it with "
            "'pip install e2eio[mpi]', or set MASTER_ADDR (the host of rank 0) and MASTER_PORT (a free port there) "
            "for all ranks, as in 'mpirun -x MASTER_ADDR=127.0.0.1 -x MASTER_PORT=29500 ...' on one node"
        ) from error
    except RuntimeError as error:
        raise ConfigError(
            f"mpi4py finds no MPI library ({str(error).splitlines()[0]}), though a launcher of MPI started this rank; "
            "install the MPI of that launcher, or set MASTER_ADDR and MASTER_PORT for all ranks"
        ) from error
    world = running_world()
    if world is None:
        raise ConfigError("MPI is finalised; call e2eio.distributed.init() before MPI.Finalize()")
    if world.size != world_size:
        raise ConfigError(
            f"the launcher started {world_size} ranks, but mpi4py sees {world.size}: it was built for another MPI "
            f"({MPI.Get_library_version().partition(',')[0]}); install an mpi4py that fits mpirun, or set "
            "MASTER_ADDR and MASTER_PORT for all ranks"
        )
    return world


def broadcast(world: Any, text: str, timeout_s: float) -> str:
    """Return rank 0's text (up to 1000 bytes) on all ranks.

    Raises
    ------
    TimeoutError
        Some rank did not take part.
    """
    buffer = bytearray(text.encode().ljust(1000) if world.rank == 0 else bytes(1000))
    request = world.Ibcast(buffer, root=0)
    if not wait_until(request.Test, timeout_s):
        raise TimeoutError(
            f"rank {world.rank} waited {timeout_s:g} s in e2eio.distributed.init(); not all of the {world.size} "
            "ranks have called it"
        )
    return buffer.decode().rstrip()


def node_place(world: Any) -> tuple[int, int]:
    """Return (rank, ranks) on this node; all ranks call it together."""
    from mpi4py import MPI

    node = world.Split_type(MPI.COMM_TYPE_SHARED)
    place = (int(node.rank), int(node.size))
    node.Free()
    return place


class MpiExchange:
    """An :class:`e2eio.distributed.exchange.Exchange` by messages between rank 0 and the others.

    Thread rule: as MPI was initialised; mpi4py asks for MPI_THREAD_MULTIPLE.
    """

    _rounds = 0

    def __init__(self, world: Any) -> None:
        from mpi4py import MPI

        self._mpi: Any = MPI
        self._world = world
        MpiExchange._rounds += 1
        self._round = MpiExchange._rounds
        self._arrived: dict[int, str] = {}
        _unfinished[:] = [send for send in _unfinished if not send[0].Test()]

    def report(self, text: str) -> None:
        """Hand a text to rank 0."""
        self._send(text, 0)

    def reports(self) -> dict[int, str]:
        """Return the texts that have come so far, by rank."""
        self._arrived.update(self._receive(self._mpi.ANY_SOURCE))
        return self._arrived

    def answer(self, text: str) -> None:
        """Hand a text to all other ranks."""
        for rank in range(1, self._world.size):
            self._send(text, rank)
        # Long messages leave only while somebody looks after them.
        wait_until(lambda: all(request.Test() for request, _ in _unfinished), 5.0)

    def answered(self) -> str | None:
        """Return rank 0's text once it is there."""
        return self._receive(0).get(0)

    def _send(self, text: str, rank: int) -> None:
        data = f"{self._round}\n{text}".encode()
        _unfinished.append((self._world.Isend([data, self._mpi.BYTE], rank, _TAG), data))

    def _receive(self, source: int) -> dict[int, str]:
        found: dict[int, str] = {}
        status = self._mpi.Status()
        while self._world.Iprobe(source, _TAG, status):
            buffer = bytearray(status.Get_count(self._mpi.BYTE))
            sender = status.Get_source()
            self._world.Recv([buffer, self._mpi.BYTE], sender, _TAG)
            number, _, text = buffer.decode().partition("\n")
            if int(number) == self._round:  # an earlier one was given up
                found[sender] = text
        return found
