"""What a loader does about the other ranks of its job."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from e2eio.distributed.agreement import LOADED, START, check_agreement
from e2eio.distributed.launchers import Place
from e2eio.distributed.ranks import Ranks, detect_ranks, running_place

__all__ = ["RankedLoader"]


class RankedLoader(ABC):
    """Base of loaders that share an epoch among ranks: which rank it is, and whether all ranks agree.

    Ranks that were not given come from :func:`e2eio.distributed.detect_ranks`, anew until the first batch, since
    a trainer may set up its group after the loader was made. Before the first batch all ranks are compared, and
    again before the first one after a state was loaded.

    Parameters
    ----------
    rank, world_size : int or None
        Both or neither.
    """

    def __init__(self, rank: int | None, world_size: int | None) -> None:
        self._ranks = detect_ranks(rank, world_size)
        self._settled = self._ranks.given
        self._due: str | None = START  # why the ranks are to be compared before the next batch

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self._settled_ranks().rank

    @property
    def world_size(self) -> int:
        """Number of processes that share the epoch."""
        return self._settled_ranks().world_size

    @abstractmethod
    def plan_description(self) -> dict[str, Any]:
        """Return what has to be equal on all ranks of a job, as JSON values."""

    def check_ranks(self, timeout: float | None = None) -> bool:
        """Compare :meth:`plan_description` with the other ranks'; all of them call it.

        Done by itself before the first batch, and before the first after ``load_state_dict``, unless rank and world
        size were given. Ranks that were given are compared by hand only, by their numbers in the group that runs if
        it has `world_size` ranks.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait for the other ranks; None: ``E2EIO_CHECK_TIMEOUT``, else 300.

        Returns
        -------
        bool
            Whether there was somebody to compare with: :func:`e2eio.distributed.check_agreement`.

        Raises
        ------
        PlanMismatchError
            The ranks would load different things; the message lists them.
        RankMissingError
            Some ranks did not come in time; the message names them.
        """
        ranks = self._settled_ranks()
        if not ranks.given and not ranks.provisional:
            detect_ranks()  # raises if a group has been set up meanwhile that contradicts E2EIO_RANK
        return self._compare_as(self._place_to_compare(), timeout)

    def check_processes(self, rank: int | None = None, world_size: int | None = None) -> None:
        """Compare all processes of a job before the next batch, though rank and world size were given.

        For what iterates over a loader on all processes at once, as :class:`e2eio.jax.GlobalBatches` does. Once, and
        again after ``load_state_dict``; a call between does nothing.

        Parameters
        ----------
        rank, world_size : int or None
            Of the process, which the loader's may differ from: processes that hold the same part of a batch have the
            same rank in the loader. None: of the group that runs, if it has as many ranks as the loader.

        Raises
        ------
        PlanMismatchError, RankMissingError
            As of :meth:`check_ranks`.
        """
        if self._due is None:
            return
        self._settled_ranks()
        given = rank is not None and world_size is not None
        self._compare_as((rank, world_size) if given else self._place_to_compare())
        self._note_compared()

    @abstractmethod
    def _move_to(self, ranks: Ranks) -> None:
        """Load for these ranks from now on; called before the first batch only."""

    def _settled_ranks(self) -> Ranks:
        if not self._settled and self._ranks.provisional:
            before, self._ranks = self._ranks, detect_ranks()
            if self._ranks[:2] != before[:2]:
                self._move_to(self._ranks)
        return self._ranks

    def _compare_if_due(self) -> None:
        if self._due is not None and not self._ranks.given:
            self.check_ranks()
            self._note_compared()

    def _compare_anew(self) -> None:
        """Have the ranks compared before the next batch: a state was loaded."""
        if self._due is None:
            self._due = LOADED

    def _note_compared(self) -> None:
        self._settled, self._due = True, None

    def _place_to_compare(self) -> tuple[int, int]:
        """Return the place under which the others know this process: that in the group, whatever was given."""
        ranks, group = self._ranks, running_place()
        named: Ranks | Place = ranks
        if group is not None and group.world_size == ranks.world_size:
            named = group
        return named.rank, named.world_size

    def _compare_as(self, place: Any, timeout: float | None = None) -> bool:
        return check_agreement(
            self.plan_description(),
            rank=place[0],
            world_size=place[1],
            timeout_s=timeout,
            occasion=self._due or START,
        )
