"""What stands between the beam and the ECAL: layers of the tracker and their thickness in radiation lengths.

Source of every number: CMS's fast simulation, GitHub repository cms-sw/cmssw,
`FastSimulation/SimplifiedGeometryPropagator/python/TrackerMaterial_cfi.py` (the tracker of 2008 to 2016, with its cables and
walls; all of a layer is thought to be on one surface). Where that file leaves a place to the geometry of the tracker:
disks of the endcaps, `Alignment/LaserAlignment` of the same repository (nominal z of the nine disks); inner disks at 80, 85
and 90 cm, pixel disks at 34.5 and 46.5 cm (CMS, JINST 3 (2008) S08004, sections 3.2 and 3.3; from memory).

What they add up to is in docs/design/0012-simulation.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.sim.helix import Helices, Places

    Floats = NDArray[np.float64]

__all__ = ["CMS_TRACKER", "Layer", "disk", "radiation_lengths", "shell"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A cylinder round the beam, or a pair of disks across it. Lengths in cm.

    Parameters
    ----------
    is_shell : bool
        A cylinder; else disks at both ends.
    place : float
        Its radius; the disks' distance from the middle of the detector.
    edges : tuple of float
        Ascending; |z| on a cylinder, the radius on a disk, between which it has a thickness.
    thickness : tuple of float
        Radiation lengths of what is crossed at a right angle; one fewer than edges.
    """

    is_shell: bool
    place: float
    edges: tuple[float, ...]
    thickness: tuple[float, ...]

    def way_to(self, helices: Helices) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the ways of particles to it in the transverse plane (cm), and which of them get there."""
        return (helices.way_to_radius if self.is_shell else helices.way_to_plane)(self.place)

    def crossed(self, at: Places, eta: Floats, phi: Floats) -> Floats:
        """Return the radiation lengths that particles cross.

        Parameters
        ----------
        at : Places
            Where they meet it.
        eta, phi : ndarray
            float64 [n]: their directions there.
        """
        along = np.abs(at.z) if self.is_shell else at.radius
        padded = np.array([0.0, *self.thickness, 0.0])
        normal = padded[np.searchsorted(self.edges, along, side="right")]
        # The share of the direction that is normal to the surface; glancing tracks stay finite.
        upright = np.cos(phi - at.phi) / np.cosh(eta) if self.is_shell else np.tanh(eta)
        length: Floats = normal / np.maximum(np.abs(upright), _LEAST_NORMAL)
        return np.where(at.reached, length, 0.0)


_LEAST_NORMAL: Final = 0.05


def shell(radius: float, *steps: float) -> Layer:
    """Return a cylinder: its radius, then edges (|z|) and thicknesses in turn.

    Examples
    --------
    >>> shell(17.6, 0.0, 0.0135, 27.5, 0.095, 32.0).thickness
    (0.0135, 0.095)
    """
    return Layer(True, radius, steps[::2], steps[1::2])


def disk(z: float, *steps: float) -> Layer:
    """Return disks at +z and -z: then edges (radii) and thicknesses in turn."""
    return Layer(False, z, steps[::2], steps[1::2])


def _outer(radius: float, k: float) -> Layer:
    """Return a layer of the outer barrel: thick ones are 1, thin ones 0.7333 as thick."""
    steps = (0.0, 0.021, 18.0, 0.06, 30.0, 0.03, 36.0, 0.06, 46.0, 0.03, 55.0, 0.06, 108.737)
    scaled = [step * k if number % 2 else step for number, step in enumerate(steps)]
    return shell(radius, *scaled)


_THIN: Final = 0.044 / 0.06

#: Whoever flies outward from near the middle meets them in this order, as far as it meets them.
CMS_TRACKER: Final = (
    shell(3.003, 0.0, 0.0024, 28.3),  # beam pipe
    *(shell(radius, 0.0, 0.0217, 28.391) for radius in (4.425, 7.312, 10.177)),  # pixel barrel
    disk(
        28.7, 4.2, 0.100, 5.1, 0.0, 7.1, 0.108, 8.2, 0.0, 10.0, 0.112, 11.0, 0.02, 11.9, 0.04, 16.5
    ),
    disk(28.8, 3.8, 0.012, 16.5),
    *(disk(z, 4.825, 0.058, 16.598) for z in (34.5, 46.5)),  # pixel disks
    shell(17.6, 0.0, 0.0135, 27.5, 0.095, 32.0, 0.050, 65.0),  # pixel cables
    disk(65.1, 6.5, 0.150, 10.0, 0.325, 11.0, 0.250, 16.0, 0.175, 17.61),
    shell(25.767, 0.0, 0.053, 35.0, 0.0769, 65.254),  # inner barrel
    shell(34.104, 0.0, 0.053, 35.0, 0.0769, 65.231),
    shell(41.974, 0.0, 0.035, 35.0, 0.0508, 66.232),
    shell(49.907, 0.0, 0.040, 35.0, 0.0580, 66.355),
    disk(74.0, 22.5, 0.130, 53.9),  # its cables
    *(disk(z, 22.2, 0.04, 34.0, 0.08, 42.0, 0.04, 53.94) for z in (80.0, 85.0)),  # inner disks
    disk(90.0, 22.2, 0.055, 34.0, 0.110, 42.0, 0.055, 53.94),
    disk(108.0, 22.0, 0.111, 24.0, 0.074, 47.5, 0.185, 54.943),  # their cables
    shell(55.1, 0.0, 0.009, 27.5, 0.036, 30.5, 0.009, 72.0, 0.0495, 108.2),
    *(_outer(radius, 1.0) for radius in (60.937, 69.322)),  # outer barrel
    *(_outer(radius, _THIN) for radius in (78.081, 86.876, 96.569, 108.063)),
    disk(115.0, 55.0, 0.005, 60.0, 0.009, 62.0, 0.014, 78.0, 0.016, 92.0, 0.009, 111.0),
    *(
        disk(z, 21.87, 0.100, 24.0, 0.040, 34.0, 0.080, 39.0, 0.050, 111.395)
        for z in (132.25, 146.25, 160.25)  # endcaps
    ),
    *(
        disk(z, 29.62, rim, 32.0, 0.030, 40.0, 0.050, 41.0, 0.070, 46.0, 0.050, 111.395)
        for z, rim in ((174.25, 0.115), (188.25, 0.115), (205.75, 0.125))
    ),
    *(
        disk(z, 29.71, rim, 32.0, 0.030, 60.0, 0.050, 111.395)
        for z, rim in ((224.75, 0.135), (245.25, 0.150), (266.75, 0.150))
    ),
    shell(120.0, 0.0, 0.042, 120.0, 0.1596, 299.9),  # cables and walls of all
    disk(300.0, 16.24, 1.47, 22.0, 0.924, 28.5, 0.693, 31.5, 0.294, 36.0, 0.336, 120.0),
)


def radiation_lengths(eta: Floats, layers: tuple[Layer, ...] = CMS_TRACKER) -> Floats:
    """Return what straight tracks from the middle of the detector cross, float64 [n].

    Examples
    --------
    >>> radiation_lengths(np.array([0.0, 1.4])).round(2)
    array([0.42, 1.84])
    """
    from e2eio.sim.helix import Helices
    from e2eio.sim.particles import SimParticles

    n = len(eta)
    photons = SimParticles.of(pt=np.ones(n), eta=eta, phi=np.zeros(n))
    helices = Helices(photons)
    total = np.zeros(n)
    for layer in layers:
        way, reached = layer.way_to(helices)
        total += layer.crossed(helices.places(way, reached), photons.eta, photons.phi)
    return total
