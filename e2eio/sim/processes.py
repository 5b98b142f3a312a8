"""What is simulated: processes, their two classes, and which jets are of which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from e2eio.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.sim.generator import Partons

    Mask = NDArray[np.bool_]

__all__ = ["PROCESSES", "SOFT", "JetProcess", "find_process", "is_of_class"]


@dataclass(frozen=True, slots=True)
class JetProcess:
    """Jets of two classes.

    Parameters
    ----------
    name : str
    preset : str
        Of the published set: its channels, in its order.
    classes : tuple of two tuples of str
        Settings of Pythia for label 0 and label 1.
    truth : {"top", "parton"}
        How jets are recognised: see `is_of_class`.
    radius, min_pt, max_eta : float
        Of the anti-kT algorithm; GeV; of the jets' axes, so that images lie on the detector.
    """

    name: str
    preset: str
    classes: tuple[tuple[str, ...], tuple[str, ...]]
    truth: Literal["top", "parton"]
    radius: float
    min_pt: float
    max_eta: float


#: What the other collisions of a bunch crossing are.
SOFT: Final = ("SoftQCD:nonDiffractive = on",)

_MAX_ETA: Final = 1.37  # of the published images' jets
_QG_RANGE: Final = ("PhaseSpace:pTHatMin = 80.", "PhaseSpace:pTHatMax = 170.")

#: By name. Selections: M. Andrews et al., "End-to-end jet classification of boosted top quarks with CMS open data"
#: (arXiv:2104.14659) and "End-to-end jet classification of quarks and gluons with the CMS open data"
#: (arXiv:1902.08276), as far as the published code tells them.
PROCESSES: Final[Mapping[str, JetProcess]] = MappingProxyType(
    {
        "top": JetProcess(
            "top",
            "boosted-top",
            (
                ("HardQCD:all = on", "PhaseSpace:pTHatMin = 400."),
                (
                    "Top:gg2ttbar = on",
                    "Top:qqbar2ttbar = on",
                    "PhaseSpace:pTHatMin = 400.",
                    "24:onMode = off",
                    "24:onIfAny = 1 2 3 4 5",
                ),
            ),
            "top",
            0.8,
            400.0,
            _MAX_ETA,
        ),
        "quark-gluon": JetProcess(
            "quark-gluon",
            "quark-gluon",
            (
                ("HardQCD:gg2gg = on", "HardQCD:qqbar2gg = on", *_QG_RANGE),
                (
                    "HardQCD:qq2qq = on",
                    "HardQCD:gg2qqbar = on",
                    "HardQCD:qqbar2qqbarNew = on",
                    *_QG_RANGE,
                ),
            ),
            "parton",
            0.5,
            70.0,
            _MAX_ETA,
        ),
    }
)

_GLUON: Final = 21
_TOP: Final = 6
_W: Final = 24
_PARTON_DISTANCE: Final = 0.4  # of a jet from its parton (arXiv:1902.08276)


def find_process(name: str) -> JetProcess:
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
