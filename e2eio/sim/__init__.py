"""Toy jets: images with the shape and statistics of the published ones, without a generator."""

from __future__ import annotations

from e2eio.sim.toy import ToyJets, toy_jets

__all__ = ["ToyJets", "toy_jets"]
