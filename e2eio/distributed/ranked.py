"""What a loader does about the other ranks of its job."""

from __future__ import annotations

from typing import Any

from e2eio.distributed.agreement import check_agreement
from e2eio.distributed.ranks import Ranks, detect_ranks

__all__ = ["RankedLoader"]


class RankedLoader:
    """Base of loaders that share an epoch among ranks: which rank it is, and whether all ranks agree.

    Ranks that were not given come from :func:`e2eio.distributed.detect_ranks`, anew until the first batch, since
    a trainer may set up its group after the loader was made. Before the first batch all ranks are compared.

    Parameters
    ----------
    rank, world_size : int or None
        Both or neither.
    """

    def __init__(self, rank: int | None, world_size: int | None) -> None:
        self._ranks = detect_ranks(rank, world_size)
        self._compared = self._ranks.given

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self._settled_ranks().rank

    @property
    def world_size(self) -> int:
        """Number of processes that share the epoch."""
        return self._settled_ranks().world_size

    def plan_description(self) -> dict[str, Any]:
        """Return what has to be equal on all ranks of a job, as JSON values."""
        raise NotImplementedError

    def check_ranks(self, timeout: float | None = None) -> bool:
        """Compare :meth:`plan_description` with the other ranks'; all of them call it.

        Done by itself before the first batch, unless rank and world size were given.

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
        return check_agreement(
            self.plan_description(),
            rank=ranks.rank,
            world_size=ranks.world_size,
            timeout_s=timeout,
        )

    def _move_to(self, ranks: Ranks) -> None:
        """Load for these ranks from now on; called before the first batch only."""
        raise NotImplementedError

    def _settled_ranks(self) -> Ranks:
        if not self._compared and self._ranks.provisional:
            before, self._ranks = self._ranks, detect_ranks()
            if self._ranks[:2] != before[:2]:
                self._move_to(self._ranks)
        return self._ranks

    def _compare_once(self) -> None:
        if not self._compared:
            self.check_ranks()
            self._compared = True
