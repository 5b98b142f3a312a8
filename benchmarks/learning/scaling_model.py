"""What more ranks would reach: measured times, put together by a formula, and told apart from what was measured."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ScalingModel"]


@dataclass(frozen=True, slots=True)
class ScalingModel:
    """The time of a training step on n ranks with a core each.

    A step is computing, then agreeing on gradients, then a rest that was seen on two ranks: waiting for the slower one and what
    the ranks take from each other (memory, cache). Agreeing follows the ring (Patarasuk and Yuan, J. Parallel Distrib.
    Comput. 69 (2009) 117): 2 (n - 1) messages of 1/n of the gradients each. Of the two numbers that decide it, delay and
    bandwidth, one measurement on two ranks cannot tell apart; it is counted as delay alone, which grows fastest.
    The rest stays what it is on two ranks. Batches cost each rank what they cost one, as long as there are enough cores
    to decode them.

    Parameters
    ----------
    batch_size : int
        Of a rank.
    one_s, two_s : float
        Step of one rank, and of each of two, batches included.
    agree_s : float
        Sum of the gradients over two ranks, alone.
    """

    batch_size: int
    one_s: float
    two_s: float
    agree_s: float

    @property
    def rest_s(self) -> float:
        """Of two ranks' step: what neither one rank's step nor agreeing explains; not below 0."""
        return max(self.two_s - self.one_s - self.agree_s, 0.0)

    def step_s(self, ranks: int) -> float:
        """Seconds of a step; those of one and two ranks are the measured ones, or nearly."""
        if ranks == 1:
            return self.one_s
        return self.one_s + (ranks - 1) * self.agree_s + self.rest_s

    def jets_per_s(self, ranks: int) -> float:
        return ranks * self.batch_size / self.step_s(ranks)

    def speed_up(self, ranks: int) -> float:
        return self.jets_per_s(ranks) / self.jets_per_s(1)
