"""What is simulated: processes, what their samples are like, their two classes, and which jets are of which."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from e2eio.detector_grid import CRYSTALS, ETA_CRYSTALS, PHI_CRYSTALS
from e2eio.errors import ConfigError
from e2eio.sim.apparatus import CMS_READOUT, CMS_RUN_1
from e2eio.sim.layers import CMS_TRACKER
from e2eio.sim.pileup import MEAN_PILEUP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.sim.generator import Partons

    Mask = NDArray[np.bool_]

__all__ = [
    "PROCESSES",
    "EventProcess",
    "GunProcess",
    "JetProcess",
    "Process",
    "Sample",
    "find_process",
    "is_of_class",
]

_MAX_ETA: Final = 1.37  # of the published images' jets


class Sample(NamedTuple):
    """One sample: its image, float32 [C, H, W], in the channels of the process; its scalar fields beside y."""

    image: NDArray[np.float32]
    scalars: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Process(ABC):
    """What is simulated: samples of two classes, and what a dataset of them is like.

    Parameters
    ----------
    name : str
    noun : str
        What a sample is.
    preset : str
        Of the published set: its channels, in its order.
    image : str
        Name of the image field.
    size : (int, int)
        Height and width of images in crystals.
    scalars : tuple of str
        Scalar fields beside y.
    resolutions : tuple of int
        Pixels per crystal edge that images may have.
    pileup : float
        Mean number of other collisions, if nothing else is asked for.
    reach : float
        |eta| up to which neutral particles matter.
    """

    name: str
    noun: str
    preset: str
    image: str
    size: tuple[int, int]
    scalars: tuple[str, ...]
    resolutions: tuple[int, ...]
    pileup: float = MEAN_PILEUP
    reach: float = 2.6

    @property
    def detector(self) -> tuple[object, ...]:
        """What else decides the samples: the numbers of the detector that looks at them."""
        return (CMS_RUN_1,)

    @abstractmethod
    def packages(self, pileup: float) -> tuple[str, ...]:
        """Return the packages whose versions decide the samples, where there is that much pile-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JetProcess(Process):
    """Jets of two classes.

    Parameters
    ----------
    classes : tuple of two tuples of str
        Settings of Pythia for label 0 and label 1.
    truth : {"top", "parton"}
        How jets are recognised: see `is_of_class`.
    radius, min_pt, max_eta : float
        Of the anti-kT algorithm; GeV; of the jets' axes, so that images lie on the detector.
    """

    classes: tuple[tuple[str, ...], tuple[str, ...]]
    truth: Literal["top", "parton"]
    radius: float
    min_pt: float
    max_eta: float = _MAX_ETA
    noun: str = "jet"
    image: str = "X_jets"
    size: tuple[int, int] = (CRYSTALS, CRYSTALS)
    scalars: tuple[str, ...] = ("m0", "pt")
    resolutions: tuple[int, ...] = (1, 3, 5)

    def packages(self, pileup: float) -> tuple[str, ...]:
        """Jets are Pythia's and FastJet's, with or without pile-up."""
        return ("pythia8mc", "fastjet")


@dataclass(frozen=True, slots=True, kw_only=True)
class GunProcess(Process):
    """Single photons (label 0) and electrons (label 1) in the ECAL barrel, of one transverse momentum.

    Parameters
    ----------
    pt, max_eta : float
        GeV; they fly evenly in eta and phi.
    """

    pt: float
    max_eta: float
    noun: str = "shower"
    image: str = "X"
    size: tuple[int, int] = (32, 32)
    scalars: tuple[str, ...] = ("pt", "ieta", "iphi")
    resolutions: tuple[int, ...] = (1,)
    pileup: float = 0.0

    @property
    def detector(self) -> tuple[object, ...]:
        """The process and the tracker's material belong to it."""
        return (CMS_RUN_1, CMS_TRACKER, CMS_READOUT, self)

    def packages(self, pileup: float) -> tuple[str, ...]:
        """Pythia makes the pile-up alone."""
        return ("pythia8mc",) if pileup else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventProcess(Process):
    """Whole events of two classes.

    Parameters
    ----------
    classes : tuple of two tuples of str
        Settings of Pythia for label 0 and label 1; Higgs bosons that Pythia leaves become four photons.
    min_pt : tuple of float
        Of the two hardest photons, or of the a that Higgs bosons decay to, GeV; none: all events are taken.
    max_eta : float
        Of the same two.
    masses : (float, float)
        Range of the mass of a, GeV.
    """

    classes: tuple[tuple[str, ...], tuple[str, ...]]
    min_pt: tuple[float, ...] = ()
    max_eta: float = 3.0
    masses: tuple[float, float] = (0.0, 0.0)
    noun: str = "event"
    preset: str = "boosted-top"
    image: str = "X"
    size: tuple[int, int] = (ETA_CRYSTALS, PHI_CRYSTALS)
    scalars: tuple[str, ...] = ("am",)
    resolutions: tuple[int, ...] = (1, 3)
    reach: float = 3.1

    @property
    def detector(self) -> tuple[object, ...]:
        """The process and the tracker's material belong to it."""
        return (CMS_RUN_1, CMS_TRACKER, self)

    def packages(self, pileup: float) -> tuple[str, ...]:
        """No jets are found."""
        return ("pythia8mc",)


_QG_RANGE: Final = ("PhaseSpace:pTHatMin = 80.", "PhaseSpace:pTHatMax = 170.")

_TOP_PAIRS: Final = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on")

#: In the order in which they are listed. Selections: M. Andrews et al., "End-to-end jet classification of boosted top quarks
#: with CMS open data" (arXiv:2104.14659) and "End-to-end jet classification of quarks and gluons with the CMS open data"
#: (arXiv:1902.08276), as far as the published code tells them. Electrons and photons: pT is in the names of the published
#: files; they are shot beyond |eta| = 1.2, where the windows of the producer's program end.
#: H to a a to four photons: CMS, Phys. Rev. Lett. 131 (2023) 101801, arXiv:2209.06197 (masses of a: abstract; two photons, or
#: merged pairs, in the barrel, above a third and a quarter of the mass: from memory) against prompt pairs of photons, the
#: background that cannot be reduced: it differs by the shape of showers and by angles, as real photons do.
_ALL: Final[tuple[Process, ...]] = (
    JetProcess(
        name="top",
        preset="boosted-top",
        classes=(
            ("HardQCD:all = on", "PhaseSpace:pTHatMin = 400."),
            (
                *_TOP_PAIRS,
                "PhaseSpace:pTHatMin = 400.",
                "24:onMode = off",
                "24:onIfAny = 1 2 3 4 5",
            ),
        ),
        truth="top",
        radius=0.8,
        min_pt=400.0,
    ),
    JetProcess(
        name="quark-gluon",
        preset="quark-gluon",
        classes=(
            ("HardQCD:gg2gg = on", "HardQCD:qqbar2gg = on", *_QG_RANGE),
            (
                "HardQCD:qq2qq = on",
                "HardQCD:gg2qqbar = on",
                "HardQCD:qqbar2qqbarNew = on",
                *_QG_RANGE,
            ),
        ),
        truth="parton",
        radius=0.5,
        min_pt=70.0,
    ),
    GunProcess(name="electron-photon", preset="electron-photon", pt=50.0, max_eta=1.4),
    EventProcess(
        name="h4gamma",
        classes=(
            (
                "PromptPhoton:ffbar2gammagamma = on",
                "PromptPhoton:gg2gammagamma = on",
                "PhaseSpace:pTHatMin = 25.",
                "PhaseSpace:mHatMin = 100.",
                "PhaseSpace:mHatMax = 180.",
            ),
            ("HiggsSM:gg2H = on", "25:m0 = 125.", "25:mayDecay = off"),
        ),
        min_pt=(41.7, 31.25),
        max_eta=1.4442,
        masses=(0.1, 1.2),
    ),
    EventProcess(
        name="ttbar",
        classes=(("HardQCD:all = on", "PhaseSpace:pTHatMin = 150."), _TOP_PAIRS),
        scalars=(),
    ),
)

#: By name.
PROCESSES: Final[Mapping[str, Process]] = MappingProxyType({each.name: each for each in _ALL})

_GLUON: Final = 21
_TOP: Final = 6
_W: Final = 24
_PARTON_DISTANCE: Final = 0.4  # of a jet from its parton (arXiv:1902.08276)


def find_process(name: str) -> Process:
    """Return the process called `name`.

    Raises
    ------
    ConfigError
        There is none.

    Examples
    --------
    >>> find_process("top").preset
    'boosted-top'
    """
    if name not in PROCESSES:
        raise ConfigError(
            f"unknown process: found {name!r}, expected one of {', '.join(PROCESSES)}"
        )
    return PROCESSES[name]


def is_of_class(
    process: JetProcess,
    label: int,
    partons: Partons,
    eta: NDArray[np.float64],
    phi: NDArray[np.float64],
) -> Mask:
    """Return which jets of an event generated for a class belong to it, bool [n].

    "top": all of the background; of the signal those that hold the three quarks of one top's decay within
    their radius. "parton": those that a hard quark (label 1) or gluon (label 0) is near.
    """
    near = _distance(eta[:, None] - partons.eta, phi[:, None] - partons.phi)
    if process.truth == "parton":
        quark = np.abs(partons.number) < _TOP
        wanted = quark if label else partons.number == _GLUON
        return np.asarray((wanted & (near < _PARTON_DISTANCE)).any(axis=1))
    if not label:
        return np.ones(len(eta), bool)
    inside = near < process.radius
    matched = np.zeros(len(eta), bool)
    for sign in (1, -1):
        ours = (partons.mother == sign * _TOP) | (partons.mother == sign * _W)
        ours &= np.abs(partons.number) < _TOP
        if np.count_nonzero(ours) == 3:
            matched |= inside[:, ours].all(axis=1)
    return matched


def _distance(eta: NDArray[np.float64], phi: NDArray[np.float64]) -> NDArray[np.float64]:
    wrapped = (phi + np.pi) % (2 * np.pi) - np.pi
    distance: NDArray[np.float64] = np.hypot(eta, wrapped)
    return distance
