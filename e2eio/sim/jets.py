"""Jets of a class, one after the other: collisions, pile-up, jets, the detector's view, images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from e2eio.sim.clustering import find_jets
from e2eio.sim.generator import Collision, collisions
from e2eio.sim.images import crop_jet, jet_centres, look
from e2eio.sim.particles import SimParticles, join
from e2eio.sim.pileup import PileUp
from e2eio.sim.processes import JetProcess, is_of_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.sim.apparatus import Apparatus

__all__ = ["JetSample", "simulate_jets"]

_JETS_PER_EVENT: Final = 2
_JET_MAX_ETA: Final = 2.5  # of what is clustered
_JET_MIN_GEV: Final = 0.2  # of what is clustered: softer particles give particle flow no candidate


class JetSample(NamedTuple):
    """One jet: its image, float32 [8, H, W], and its mass and pT (GeV)."""

    image: NDArray[np.float32]
    mass: float
    pt: float


def simulate_jets(
    process: JetProcess,
    label: int,
    pileup: PileUp,
    apparatus: Apparatus,
    *,
    resolution: int,
    seeds: np.random.SeedSequence,
) -> Iterator[JetSample]:
    """Yield jets of one class without end, at most two of a collision.

    Jets are those of stable particles: charged ones of the collision of interest, as where charged hadrons of
    pile-up are subtracted, and all neutral ones.

    Parameters
    ----------
    process : JetProcess
    label : {0, 1}
    pileup : PileUp
    apparatus : Apparatus
    resolution : {1, 3}
        Pixels per crystal edge.
    seeds : numpy.random.SeedSequence
        All that is drawn comes from it.

    Raises
    ------
    E2eioError
        The generator fails.
    """
    rng = np.random.default_rng(seeds)
    seed = int(seeds.generate_state(1)[0])
    for collision in collisions(process.classes[label], seed):
        yield from _jets_of(collision, process, label, pileup, apparatus, resolution, rng)


def _jets_of(
    collision: Collision,
    process: JetProcess,
    label: int,
    pileup: PileUp,
    apparatus: Apparatus,
    resolution: int,
    rng: np.random.Generator,
) -> Iterator[JetSample]:
    hard = collision.particles
    found = find_jets(_clustered(hard), process.radius, process.min_pt)
    if not _chosen(process, label, collision, found.eta, found.phi).any():
        return  # before pile-up, which adds little to a jet, is worth its time
    vertex_z = float(apparatus.beam_spot_z * rng.standard_normal())
    others = pileup.draw(apparatus, rng)
    event = hard.moved(vertex_z)
    if others is not None:
        event = join([event, others])
        found = find_jets(_clustered(event), process.radius, process.min_pt)
    chosen = np.flatnonzero(_chosen(process, label, collision, found.eta, found.phi))
    if not len(chosen):
        return
    view = look(event, vertex_z, apparatus, rng)
    rows, columns = jet_centres(view, found.eta, found.phi)
    for jet in chosen[:_JETS_PER_EVENT]:
        if rows[jet] >= 0:
            image = crop_jet(view, int(rows[jet]), int(columns[jet]), resolution)
            yield JetSample(image, float(found.mass[jet]), float(found.pt[jet]))


def _clustered(particles: SimParticles) -> SimParticles:
    kept = (particles.charge == 0) | ~particles.pileup
    kept &= (np.abs(particles.eta) < _JET_MAX_ETA) & (particles.pt > _JET_MIN_GEV)
    return particles.take(kept)


def _chosen(
    process: JetProcess,
    label: int,
    collision: Collision,
    eta: NDArray[np.float64],
    phi: NDArray[np.float64],
) -> NDArray[np.bool_]:
    good = is_of_class(process, label, collision.partons, eta, phi)
    return good & (np.abs(eta) < process.max_eta)
