"""Samples of any process: who makes them, and what that needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from e2eio.presets import find_preset
from e2eio.sim.processes import EventProcess, GunProcess, JetProcess, Process, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from e2eio.sim.apparatus import Apparatus
    from e2eio.sim.pileup import PileUp

__all__ = ["load_packages", "make_samples"]


def load_packages(process: Process, pileup: float) -> None:
    """Import what a process needs, so that a package that is missing is told before anything is made.

    Raises
    ------
    MissingDependencyError
        It is missing.
    """
    needed = process.packages(pileup)
    if "pythia8mc" in needed:
        import_module("e2eio.sim.generator")
    if "fastjet" in needed:
        import_module("e2eio.sim.clustering")


def make_samples(
    process: Process,
    label: int,
    pileup: PileUp,
    apparatus: Apparatus,
    *,
    resolution: int,
    seeds: np.random.SeedSequence,
) -> Iterator[Sample]:
    """Yield samples of one class of a process without end.

    Parameters
    ----------
    process : Process
    label : {0, 1}
    pileup : PileUp
    apparatus : Apparatus
    resolution : int
        Pixels per crystal edge.
    seeds : numpy.random.SeedSequence
        All that is drawn comes from it.

    Raises
    ------
    E2eioError
        The generator fails.
    """
    match process:
        case JetProcess():
            from e2eio.sim.images import CHANNELS
            from e2eio.sim.jets import simulate_jets  # brings in the generator

            chosen = _channels_of(process, CHANNELS)
            for jet in simulate_jets(
                process, label, pileup, apparatus, resolution=resolution, seeds=seeds
            ):
                yield Sample(jet.image[chosen], (jet.mass, jet.pt))
        case GunProcess():
            from e2eio.sim.gun import simulate_showers

            yield from simulate_showers(process, label, pileup, apparatus, seeds=seeds)
        case EventProcess():
            from e2eio.sim.events import simulate_events

            yield from simulate_events(
                process, label, pileup, apparatus, resolution=resolution, seeds=seeds
            )
        case _:
            raise TypeError(f"nobody makes samples of a {type(process).__name__}")


def _channels_of(process: JetProcess, known: Sequence[str]) -> list[int] | slice:
    """Return which of the channels of all jets are those of a process."""
    wanted = [known.index(channel.name) for channel in find_preset(process.preset).channels]
    return slice(None) if len(wanted) == len(known) else wanted
