"""Ways of particles through the magnetic field: exact, from wherever they were made.

In a field along the beam a charged particle moves on a helix of radius R = pT / (0.3 B) (Particle Data Group, "Particle
Detectors", momentum measurement); a positive one turns clockwise as seen from the positive z axis. From the
origin to radius r its direction turns by a = 2 asin(r / 2R), its phi by a / 2, and it moves along z by R a sinh(eta).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.detector_grid import ECAL_FACE_M, ECAL_RADIUS_M, FIELD_GEV_PER_M

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.sim.particles import SimParticles

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = ["Helices", "Places"]

_CM_PER_M: Final = 100.0
_LEAST_GEV: Final = 1e-6  # of pT and energies, so that nothing is divided by 0


@dataclass(frozen=True, slots=True)
class Places:
    """Where particles meet a surface: cm and radians, [n]; `reached` tells which do."""

    radius: Floats
    phi: Floats
    z: Floats
    reached: Mask

    def take(self, which: NDArray[np.int64]) -> Places:
        """Return some of them, by number."""
        return Places(self.radius[which], self.phi[which], self.z[which], self.reached[which])

    def eta_from(self, z: float | Floats) -> Floats:
        """Return the pseudorapidities as seen from a point on the beam."""
        radius = np.maximum(self.radius, _LEAST_GEV)
        return np.arcsinh((self.z - z) / radius)


class Helices:
    """The ways of some particles. Immutable; any thread may use it.

    Parameters
    ----------
    particles : SimParticles

    Examples
    --------
    >>> from e2eio.sim.particles import SimParticles
    >>> Helices(SimParticles.of(pt=[500.0], eta=[0.0], phi=[1.0])).at_radius(129.0).phi
    array([1.])
    """

    def __init__(self, particles: SimParticles) -> None:
        self._at = particles
        self._sinh = np.sinh(particles.eta)
        self._charged = particles.charge != 0
        self._sign = np.sign(particles.charge)
        magnitude = np.where(self._charged, np.abs(particles.charge), 1.0)
        self.radius = _CM_PER_M * np.maximum(particles.pt, _LEAST_GEV) / FIELD_GEV_PER_M / magnitude
        self._cx = particles.x + self._sign * self.radius * np.sin(particles.phi)
        self._cy = particles.y - self._sign * self.radius * np.cos(particles.phi)

    def at_radius(self, radius: float) -> Places:
        """Return where they first leave the cylinder round the beam of a radius (cm).

        Those that were made outside of it, or turn back before, do not reach it.
        """
        return self.places(*self.way_to_radius(radius))

    def way_to_radius(self, radius: float) -> tuple[Floats, Mask]:
        """Return their ways in the transverse plane (cm) to that cylinder, and which of them reach it."""
        way, reached = np.empty_like(self.radius), np.empty(len(self.radius), bool)
        bent, straight = self._charged, ~self._charged
        way[bent], reached[bent] = self._turn_to(radius, bent)
        way[straight], reached[straight] = self._line_to(radius, straight)
        inside = np.hypot(self._at.x, self._at.y) < radius
        return np.where(reached, way, 0.0), reached & inside

    def way_to_plane(self, z: float) -> tuple[Floats, Mask]:
        """Return the same for the planes across the beam at +z and -z (cm): the one that they fly to.

        Those that would turn by more than half a circle do not reach it.
        """
        ahead = np.where(self._sinh >= 0, z, -z) - self._at.z
        way = ahead / np.where(np.abs(self._sinh) > _LEAST_GEV, self._sinh, np.inf)
        loops = self._charged & (way > np.pi * self.radius)
        return way, (np.abs(self._at.z) < z) & (way > 0) & ~loops

    def carried(self, way: Floats, reached: Mask) -> tuple[SimParticles, Places]:
        """Return them as they are after a way in the transverse plane (cm): place and direction are those there.

        Examples
        --------
        >>> from e2eio.sim.particles import SimParticles
        >>> pion = SimParticles.of(pt=[1.14], eta=[0.0], phi=[1.0], charge=[1], kind=[211])
        >>> there, _ = Helices(pion).carried(np.array([50.0]), np.array([True]))
        >>> float(there.phi[0])  # half a radius of 100 cm
        0.5
        """
        at = self.places(way, reached)
        turned = np.where(self._charged, self._sign * way / self.radius, 0.0)
        x, y = at.radius * np.cos(at.phi), at.radius * np.sin(at.phi)
        return replace(self._at, phi=self._at.phi - turned, x=x, y=y, z=at.z), at

    def at_calorimeter(self) -> Places:
        """Return where they meet the face of the ECAL: the barrel, else an endcap.

        Those that turn by more than half a circle come back through the tracker: they are taken to stop there.
        """
        barrel = self.at_radius(_CM_PER_M * ECAL_RADIUS_M)
        face = _CM_PER_M * ECAL_FACE_M
        in_barrel = barrel.reached & (np.abs(barrel.z) <= face)
        way, ahead = self.way_to_plane(face)
        made_inside = np.hypot(self._at.x, self._at.y) < _CM_PER_M * ECAL_RADIUS_M
        endcap = self.places(way, made_inside & ahead)
        in_endcap = endcap.reached & (endcap.radius < _CM_PER_M * ECAL_RADIUS_M) & ~in_barrel
        radius = np.where(in_barrel, barrel.radius, endcap.radius)
        phi = np.where(in_barrel, barrel.phi, endcap.phi)
        z = np.where(in_barrel, barrel.z, endcap.z)
        return Places(radius, phi, z, in_barrel | in_endcap)

    def impact(self, z: float) -> tuple[Floats, Floats]:
        """Return d0 and dz (cm) at the point nearest to the beam; dz from `z`.

        d0 has the sign of x sin(phi) - y cos(phi), which is that of minus CMS's dxy. For neutral particles the
        straight line's.
        """
        p = self._at
        along = p.x * np.cos(p.phi) + p.y * np.sin(p.phi)
        across = p.x * np.sin(p.phi) - p.y * np.cos(p.phi)
        curved = self._sign * (np.hypot(self._cx, self._cy) - self.radius)
        nearest = np.arctan2(self._cy, self._cx) + np.pi
        turned = _wrapped(self._sign * (self._start() - nearest))
        back = np.where(self._charged, self.radius * turned, -along)
        return np.where(self._charged, curved, across), p.z + back * self._sinh - z

    def _start(self) -> Floats:
        """Return the angle at which they stand, as seen from the centres of their circles."""
        start: Floats = self._at.phi + self._sign * (np.pi / 2)
        return start

    def _turn_to(self, radius: float, which: Mask) -> tuple[Floats, Mask]:
        """Return the length of the way in the transverse plane, and whether the circle gets there."""
        r, sign = self.radius[which], self._sign[which]
        cx, cy = self._cx[which], self._cy[which]
        distance = np.maximum(np.hypot(cx, cy), _LEAST_GEV)
        cosine = (radius**2 - distance**2 - r**2) / (2 * r * distance)
        half = np.arccos(np.clip(cosine, -1, 1))
        toward, start = np.arctan2(cy, cx), self._start()[which]
        turns = [(sign * (start - toward + side * half)) % (2 * np.pi) for side in (-1, 1)]
        return r * np.minimum(*turns), np.abs(cosine) <= 1

    def _line_to(self, radius: float, which: Mask) -> tuple[Floats, Mask]:
        p = self._at
        x, y, phi = p.x[which], p.y[which], p.phi[which]
        along = x * np.cos(phi) + y * np.sin(phi)
        root = along**2 + radius**2 - x**2 - y**2
        way = -along + np.sqrt(np.maximum(root, 0))
        return way, (root >= 0) & (way >= 0)

    def places(self, way: Floats, reached: Mask) -> Places:
        """Return where they are after ways in the transverse plane (cm)."""
        p = self._at
        angle = self._start() - self._sign * way / self.radius
        x = np.where(
            self._charged, self._cx + self.radius * np.cos(angle), p.x + way * np.cos(p.phi)
        )
        y = np.where(
            self._charged, self._cy + self.radius * np.sin(angle), p.y + way * np.sin(p.phi)
        )
        return Places(np.hypot(x, y), np.arctan2(y, x), p.z + way * self._sinh, reached)


def _wrapped(angle: Floats) -> Floats:
    """Return the same angles in [-pi, pi)."""
    wrapped: Floats = (angle + np.pi) % (2 * np.pi) - np.pi
    return wrapped
