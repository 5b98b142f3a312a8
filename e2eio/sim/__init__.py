"""Jets without data: toy jets of a few random numbers, and jets of a generator in a simulated detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2eio.sim.toy import ToyJets, toy_jets

if TYPE_CHECKING:
    from e2eio.sim.production import simulate

__all__ = ["ToyJets", "simulate", "toy_jets"]


def __getattr__(name: str) -> object:
    if name == "simulate":  # toy jets need no processes
        from e2eio.sim.production import simulate

        return simulate
    raise AttributeError(f"module 'e2eio.sim' has no attribute {name!r}")
