"""How the ranks of a job reach each other, for a few short texts: through whatever connects them already."""

from __future__ import annotations

import itertools
import sys
from typing import Any, Protocol

from e2eio.distributed import mpi

__all__ = ["Exchange", "JaxExchange", "StoreExchange", "open_exchange"]

_PREFIX = "e2eio/exchange"


class Exchange(Protocol):
    """One round: every rank but 0 reports a text, rank 0 answers all of them with one.

    No call waits for another rank, so whoever waits can stop waiting. All ranks begin the same rounds in
    the same order.

    Thread rule: one thread at a time.
    """

    def report(self, text: str) -> None:
        """Hand a text to rank 0; a second one replaces the first."""

    def reports(self) -> dict[int, str]:
        """Return, on rank 0, the texts that have come so far, by rank."""

    def answer(self, text: str) -> None:
        """Hand rank 0's text to all other ranks."""

    def answered(self) -> str | None:
        """Return rank 0's text once it is there."""


def open_exchange(rank: int, world_size: int) -> Exchange | None:
    """Return a round among exactly these ranks, or None if nothing connects them.

    The store of torch.distributed comes first (it needs no GPU, whatever the backend), then MPI, then
    the key-value store of jax.distributed. Only what runs already is used.
    """
    place = (rank, world_size)
    group: Any = sys.modules.get("torch.distributed")
    in_group = group is not None and group.is_available() and group.is_initialized()
    if in_group and (group.get_rank(), group.get_world_size()) == place:
        return StoreExchange(_default_store(), rank, world_size)
    world = mpi.running_world()
    if world is not None and (world.rank, world.size) == place:
        return mpi.MpiExchange(world)
    jax: Any = sys.modules.get("jax._src.distributed")
    client = None if jax is None else jax.global_state.client
    if client is None or (jax.global_state.process_id, jax.global_state.num_processes) != place:
        return None
    return JaxExchange(client, rank)


def _default_store() -> Any:
    # The only way to the store of a group that somebody else may have set up.
    module: Any = sys.modules["torch.distributed.distributed_c10d"]
    return module._get_default_store()


class StoreExchange:
    """A round through a store of torch.distributed."""

    def __init__(self, store: Any, rank: int, world_size: int) -> None:
        self._store = store
        self._rank, self._world_size = rank, world_size
        # Counted in the store itself, so that a new group begins anew.
        number = store.add(f"{_PREFIX}/rounds/{rank}", 1)
        self._prefix = f"{_PREFIX}/{number}"
        self._texts: dict[int, str] = {}

    def report(self, text: str) -> None:
        """Hand a text to rank 0."""
        self._store.set(self._key(self._rank), text)

    def reports(self) -> dict[int, str]:
        """Return the texts that have come so far, by rank."""
        absent = [rank for rank in range(1, self._world_size) if rank not in self._texts]
        came = [rank for rank in absent if self._store.check([self._key(rank)])]
        # Once all are there, all are read anew: one may have replaced its text meanwhile.
        again = range(1, self._world_size) if came == absent else came
        for rank in again:
            self._texts[rank] = self._store.get(self._key(rank)).decode()
        return self._texts

    def answer(self, text: str) -> None:
        """Hand a text to all other ranks."""
        self._store.set(f"{self._prefix}/answer", text)
        for rank in self._texts:
            self._store.delete_key(self._key(rank))

    def answered(self) -> str | None:
        """Return rank 0's text once it is there."""
        key = f"{self._prefix}/answer"
        return self._store.get(key).decode() if self._store.check([key]) else None

    def _key(self, rank: int) -> str:
        return f"{self._prefix}/{rank}"


class JaxExchange:
    """A round through the key-value store of jax.distributed."""

    _rounds = itertools.count()  # jax.distributed is initialised once per process

    def __init__(self, client: Any, rank: int) -> None:
        self._client = client
        self._rank = rank
        self._prefix = f"{_PREFIX}/{next(JaxExchange._rounds)}"

    def report(self, text: str) -> None:
        """Hand a text to rank 0."""
        self._client.key_value_set(f"{self._prefix}/ranks/{self._rank}", text, True)

    def reports(self) -> dict[int, str]:
        """Return the texts that have come so far, by rank."""
        found = self._client.key_value_dir_get(f"{self._prefix}/ranks/")
        return {int(key.rpartition("/")[2]): text for key, text in found}

    def answer(self, text: str) -> None:
        """Hand a text to all other ranks."""
        self._client.key_value_set(f"{self._prefix}/answer/0", text)

    def answered(self) -> str | None:
        """Return rank 0's text once it is there."""
        found = self._client.key_value_dir_get(f"{self._prefix}/answer/")
        return found[0][1] if found else None
