"""Whole events, one after the other: collisions, pile-up, and the view of all the detector.

Images are 280 x 360 as those of the field: 170 rows of the ECAL barrel, and 55 rows on each side which are fifths of the HCAL's
towers up to |eta| = 3 (`e2eio.sim.grid.event_rows`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.sim.decays import HIGGS, higgs_to_photons
from e2eio.sim.generator import collisions
from e2eio.sim.grid import event_rows
from e2eio.sim.images import draw_event, look
from e2eio.sim.layers import CMS_TRACKER
from e2eio.sim.particles import SimParticles, join
from e2eio.sim.processes import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from e2eio.sim.apparatus import Apparatus
    from e2eio.sim.pileup import PileUp
    from e2eio.sim.processes import EventProcess

    Floats = NDArray[np.float64]

__all__ = ["chosen_photons", "simulate_events"]

_PHOTON: Final = 22


def simulate_events(
    process: EventProcess,
    label: int,
    pileup: PileUp,
    apparatus: Apparatus,
    *,
    resolution: int,
    seeds: np.random.SeedSequence,
) -> Iterator[Sample]:
    """Yield events of one class without end.

    Parameters
    ----------
    process : EventProcess
    label : {0, 1}
    pileup : PileUp
    apparatus : Apparatus
    resolution : int
        Pixels per crystal edge.
    seeds : numpy.random.SeedSequence
        All that is drawn comes from it.

    Yields
    ------
    Sample
        Image float32 [8, 280, 360] at resolution 1; the mass of a (GeV), 0 where there is none.

    Raises
    ------
    E2eioError
        The generator fails.
    """
    rng = np.random.default_rng(seeds)
    seed = int(seeds.generate_state(1)[0])
    for collision in collisions(process.classes[label], seed, reach=process.reach):
        particles, mass = _decayed(collision.particles, process, rng)
        if particles is None:
            continue
        vertex_z = float(apparatus.beam_spot_z * rng.standard_normal())
        others = pileup.draw(apparatus, rng)
        event = particles.moved(vertex_z)
        event = event if others is None else join([event, others])
        view = look(event, vertex_z, apparatus, rng, material=CMS_TRACKER, rows_of=event_rows)
        yield Sample(draw_event(view, resolution), (mass,) if process.min_pt else ())


def chosen_photons(process: EventProcess, pt: Floats, eta: Floats) -> bool:
    """Tell whether an event has the two photons, or photon-like pairs, that it must have.

    Parameters
    ----------
    pt, eta : ndarray
        float64 [n], GeV.
    """
    hard = np.argsort(-pt, kind="stable")[:2]
    inside = np.abs(eta[hard]) < process.max_eta
    return bool(len(hard) == 2 and inside.all() and (pt[hard] > process.min_pt).all())


def _decayed(
    particles: SimParticles, process: EventProcess, rng: np.random.Generator
) -> tuple[SimParticles | None, float]:
    """Return the particles of a collision with its Higgs boson decayed, and the mass of a; None if not chosen."""
    is_higgs = particles.kind == HIGGS
    if is_higgs.any():
        mass = float(rng.uniform(*process.masses))
        made = higgs_to_photons(particles.take(np.flatnonzero(is_higgs)[:1]), mass, rng)
        chosen = chosen_photons(process, made.pt, made.eta)
        particles = join([particles.take(~is_higgs), made.photons])
    else:
        mass = 0.0
        photons = particles.take(particles.kind == _PHOTON)
        chosen = not process.min_pt or chosen_photons(process, photons.pt, photons.eta)
    return (particles if chosen else None), mass
