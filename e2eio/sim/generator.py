"""The one door to Pythia: collisions as arrays of stable particles and hard partons.

Pythia 8.3: C. Bierlich et al., SciPost Phys. Codebases 8 (2022), arXiv:2203.11601; the names of its settings are those of
its manual.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.errors import E2eioError, MissingDependencyError
from e2eio.sim.decays import HIGGS
from e2eio.sim.particles import INVISIBLE, SimParticles

try:
    import pythia8mc
except ImportError as error:
    raise MissingDependencyError(
        "package pythia8mc is missing: it generates collisions; run pip install 'e2eio[sim]'"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["Collision", "Partons", "collisions"]

_LARGEST_SEED: Final = 900_000_000  # Pythia's
_CM_PER_MM: Final = 0.1
_EVENTS_AT_ONCE: Final = 16
_HARD: Final = 23  # status of what leaves the hard process, and of what a resonance decays to

# 8 TeV as in 2012; what lives long decays within the tracker, whose end is the face of the ECAL (1.29 m and 3.17 m).
_SETTINGS: Final = (
    "Beams:eCM = 8000.",
    "Print:quiet = on",
    "Random:setSeed = on",
    "ParticleDecays:limitCylinder = on",
    "ParticleDecays:xyMax = 1290.",
    "ParticleDecays:zMax = 3170.",
)
# Beyond them nothing is seen: charged ones may leave pixel hits from a vertex far along the beam.
_MAX_ETA_CHARGED: Final = 3.1
_MAX_ETA_NEUTRAL: Final = 2.6


@dataclass(frozen=True, slots=True)
class Partons:
    """Partons that leave the hard process or a resonance's decay: PDG numbers, int64 [n], and directions."""

    number: Ints
    mother: Ints
    eta: Floats
    phi: Floats


@dataclass(frozen=True, slots=True)
class Collision:
    """Stable particles that a detector may see, and the partons that they come from."""

    particles: SimParticles
    partons: Partons


def collisions(
    settings: Sequence[str], seed: int, *, reach: float = _MAX_ETA_NEUTRAL
) -> Iterator[Collision]:
    """Yield collisions of protons at 8 TeV without end.

    Parameters
    ----------
    settings : sequence of str
        Of Pythia, as ``"HardQCD:all = on"``.
    seed : int
        The same settings and seed give the same collisions.
    reach : float
        Neutral particles beyond it in |eta| are left out, but for Higgs bosons, which somebody else lets decay.

    Raises
    ------
    E2eioError
        Pythia refuses a setting, cannot begin, or gives no more events.

    Examples
    --------
    >>> next(collisions(["SoftQCD:nonDiffractive = on"], seed=1)).particles.pt.dtype  # doctest: +SKIP
    dtype('float64')
    """
    pythia = pythia8mc.Pythia("", False)
    for line in (*_SETTINGS, f"Random:seed = {1 + seed % _LARGEST_SEED}", *settings):
        if not pythia.readString(line):
            raise E2eioError(f"wrong setting: found {line!r}, expected one that Pythia knows")
    if not pythia.init():
        raise E2eioError(f"Pythia cannot begin: settings {list(settings)}; run it alone to see why")
    charges: dict[int, float] = {}
    while True:
        record = pythia.nextBatch(_EVENTS_AT_ONCE).prt.layout
        offsets = np.asarray(record.offsets.data)
        if len(offsets) < 2:
            raise E2eioError(
                f"Pythia gives no more events: settings {list(settings)}; use another seed"
            )
        columns = _columns(record.content)
        for begin, end in pairwise(offsets.tolist()):
            rows = {name: values[begin:end] for name, values in columns.items()}
            yield Collision(_stable(rows, charges, pythia.particleData, reach), _hard(rows))


def _columns(record: Any) -> dict[str, NDArray[Any]]:
    """Return the columns of all particles of all events: GeV, cm."""
    columns = {name: np.asarray(record[name].data) for name in ("id", "status", "mother1")}
    columns |= {name: np.asarray(record["p"][name].data) for name in ("px", "py", "pz", "e")}
    index = np.asarray(record["vProd"].index.data)  # -1: made where the protons met
    made = np.flatnonzero(index >= 0)
    for name, axis in (("x", "px"), ("y", "py"), ("z", "pz")):
        place = np.zeros(len(index))
        place[made] = np.asarray(record["vProd"].content[axis].data)[index[made]]
        columns[name] = _CM_PER_MM * place
    return columns


def _directions(rows: dict[str, NDArray[Any]], which: Ints) -> tuple[Floats, Floats, Floats]:
    """Return pT, eta, phi."""
    px, py, pz = (rows[name][which] for name in ("px", "py", "pz"))
    pt = np.hypot(px, py)
    return pt, np.arcsinh(pz / np.maximum(pt, 1e-9)), np.arctan2(py, px)


def _stable(
    rows: dict[str, NDArray[Any]], charges: dict[int, float], data: Any, reach: float
) -> SimParticles:
    which = np.flatnonzero((rows["status"] > 0) & ~np.isin(np.abs(rows["id"]), INVISIBLE))
    pt, eta, phi = _directions(rows, which)
    numbers, place = np.unique(rows["id"][which], return_inverse=True)
    for number in numbers.tolist():
        if number not in charges:
            charges[number] = float(data.charge(number))
    charge = np.array([charges[number] for number in numbers.tolist()])[place]
    seen = np.abs(eta) < np.where(charge != 0, _MAX_ETA_CHARGED, reach)
    seen |= rows["id"][which] == HIGGS
    kept = which[seen]
    return SimParticles(
        pt[seen],
        eta[seen],
        phi[seen],
        rows["e"][kept],
        charge[seen],
        np.abs(rows["id"][kept]).astype(np.int64),
        rows["x"][kept],
        rows["y"][kept],
        rows["z"][kept],
        np.zeros(len(kept), bool),
    )


def _hard(rows: dict[str, NDArray[Any]]) -> Partons:
    number = rows["id"].astype(np.int64)
    which = np.flatnonzero((np.abs(rows["status"]) == _HARD) & (np.abs(number) <= 21))
    _, eta, phi = _directions(rows, which)
    return Partons(number[which], number[rows["mother1"][which]], eta, phi)
