"""Particles that leave a collision, as arrays; whatever made them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

__all__ = ["INVISIBLE", "SimParticles", "join"]

#: PDG numbers that leave nothing: neutrinos, and the lightest neutral particle of many models.
INVISIBLE: Final = (12, 14, 16, 18, 1000022)


@dataclass(frozen=True, slots=True)
class SimParticles:
    """Stable particles of one event.

    Parameters
    ----------
    pt, eta, phi, energy : ndarray
        float64 [n]; GeV, radians; momentum where the particle was made.
    charge : ndarray
        float64 [n], of the positron's.
    kind : ndarray
        int64 [n]: absolute value of the PDG number.
    x, y, z : ndarray
        float64 [n]: where the particle was made (cm).
    pileup : ndarray
        bool [n]: of another collision of the same bunches.
    """

    pt: Floats
    eta: Floats
    phi: Floats
    energy: Floats
    charge: Floats
    kind: Ints
    x: Floats
    y: Floats
    z: Floats
    pileup: Mask

    def __len__(self) -> int:
        return len(self.pt)

    def take(self, which: Ints | Mask) -> SimParticles:
        """Return some of them, by number or by mask."""
        return SimParticles(*(getattr(self, field.name)[which] for field in fields(self)))

    def moved(self, z: float | Floats) -> SimParticles:
        """Return them with the collision moved along the beam by `z` (cm)."""
        return replace(self, z=self.z + z)

    def turned(self, angle: float | Floats) -> SimParticles:
        """Return them turned about the beam by `angle` (radians).

        Examples
        --------
        >>> one = SimParticles.of(pt=[5.0], eta=[0.0], phi=[0.0])
        >>> float(one.turned(0.5).phi[0])
        0.5
        """
        cos, sin = np.cos(angle), np.sin(angle)
        return replace(
            self,
            phi=self.phi + angle,
            x=self.x * cos - self.y * sin,
            y=self.x * sin + self.y * cos,
        )

    @classmethod
    def of(cls, **columns: Sequence[float] | NDArray[np.generic]) -> SimParticles:
        """Return particles of given columns; the others are those of photons from the origin.

        Energy, where it is not given, is that of massless particles.
        """
        n = len(columns["pt"])
        given = {name: np.asarray(values, np.float64) for name, values in columns.items()}
        given.setdefault("energy", given["pt"] * np.cosh(given["eta"]))
        for name in ("charge", "x", "y", "z"):
            given.setdefault(name, np.zeros(n))
        kind = np.abs(np.asarray(columns.get("kind", np.full(n, 22)))).astype(np.int64)
        pileup = np.asarray(columns.get("pileup", np.zeros(n, bool)), bool)
        return cls(**{**given, "kind": kind, "pileup": pileup})


def join(parts: Sequence[SimParticles]) -> SimParticles:
    """Return the particles of all parts, in order."""
    columns = (np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(SimParticles))
    return SimParticles(*columns)
