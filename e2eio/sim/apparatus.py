"""The simulated detector: its numbers, each with its source.

Sources by name:

* "recipe": the detector model behind the test files in the published layout, tuned to real images.
* "TDR": CMS, "The CMS experiment at the CERN LHC", JINST 3 (2008) S08004, doi 10.1088/1748-0221/3/08/S08004.
* "tracking": CMS, "Description and performance of track and primary-vertex reconstruction with the CMS tracker",
  JINST 9 (2014) P10009, arXiv:1405.6569.
* "ECAL": CMS ECAL test beam, JINST 2 (2007) P04004, doi 10.1088/1748-0221/2/04/P04004.

Crystals, towers, the field and the calorimeters' faces are those of `e2eio.detector_grid`, which importers use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CMS_RUN_1", "Apparatus"]


@dataclass(frozen=True, slots=True)
class Apparatus:
    """What a detector measures, and how well. Lengths in cm, energies in GeV, unless the name says otherwise.

    Parameters
    ----------
    beam_spot_z : float
        Standard deviation of collisions along the beam (recipe; 2012 data had 5 to 6 cm).
    track_max_eta : float
        Tracker acceptance (TDR).
    track_efficiency : tuple of float
        Below and above |eta| = 0.9 (recipe; "tracking" has 0.94 and 0.85 for simulated ttbar).
    track_vertex_radius : float
        Tracks that begin beyond it are not found; the chance falls linearly from the beam on. A stand-in for
        the fall of the efficiency over 60 cm in "tracking", figure 16.
    track_pt_resolution : tuple of float
        Constant term, and the one proportional to pT in GeV, added in quadrature (recipe; "tracking": 1 % at
        1 to 10 GeV in the barrel, 2.8 % at 100 GeV).
    d0_resolution, dz_resolution : tuple of float
        cm: a (+) b / pT, pT in GeV (recipe). That of dz grows by 1 + 0.5 eta^2 (recipe).
    pixel_radii : tuple of float
        Of the three layers of the pixel barrel (TDR, section 3.2).
    pixel_half_length : float
        Of the pixel barrel (TDR: 53 cm long).
    pixel_efficiency : float
        Of a hit (recipe; "tracking": above 0.99, less in the innermost layer).
    shower_core, hadron_core : float
        In crystals: an electromagnetic spot lies within r with chance r^2 / (r^2 + core^2). Three cores hold
        90 %, that is a Moliere radius, 2.19 cm in lead tungstate (TDR, section 4.1), of crystals of 2.2 cm.
        That of hadrons: recipe.
    spot_energy : float
        Of one spot of a shower (recipe), of which there are `spot_counts`, lowest and highest number.
    mip_energy : float
        That hadrons and muons leave which do not shower in the ECAL (recipe; 23 cm of lead tungstate at 1.0 GeV
        / m and more), and the share of hadrons that do not (`mip_share`, recipe).
    shower_share : tuple of float
        Of the energy of a hadron that does shower there: lowest and highest (recipe).
    ecal_resolution : tuple of float
        Stochastic (root GeV), noise (GeV) and constant term ("ECAL": 2.8 %, 12 %/E for 3 x 3 crystals, 0.3 %;
        40 MeV is that noise of one crystal).
    ecal_thresholds : tuple of float
        Of a crystal in the barrel and in the endcaps (recipe).
    hcal_spots : int
        Parts of a hadron shower (recipe), spread with `hcal_width`, in towers.
    hcal_resolution : tuple of float
        Stochastic (root GeV), of a hadron, and noise (GeV), of a tower (recipe; TDR, section 5: 90 to 110 %).
    hcal_threshold : float
        Of a tower. The recipe has 0.7, and 1 to 1.5 to get the tower counts of the published sets.
    muon_hcal : float
        Energy of a muon in the HCAL (TDR, section 5: some 2 GeV).
    """

    beam_spot_z: float = 5.0
    track_max_eta: float = 2.5
    track_efficiency: tuple[float, float] = (0.95, 0.90)
    track_vertex_radius: float = 60.0
    track_pt_resolution: tuple[float, float] = (0.007, 0.00015)
    d0_resolution: tuple[float, float] = (10e-4, 90e-4)
    dz_resolution: tuple[float, float] = (30e-4, 130e-4)
    pixel_radii: tuple[float, ...] = (4.4, 7.3, 10.2)
    pixel_half_length: float = 26.5
    pixel_efficiency: float = 0.985
    shower_core: float = 0.33
    hadron_core: float = 0.8
    spot_energy: float = 0.05
    spot_counts: tuple[int, int] = (4, 300)
    mip_energy: float = 0.3
    mip_share: float = 0.45
    shower_share: tuple[float, float] = (0.05, 0.70)
    ecal_resolution: tuple[float, float, float] = (0.028, 0.040, 0.003)
    ecal_thresholds: tuple[float, float] = (0.080, 0.300)
    hcal_spots: int = 12
    hcal_width: float = 0.35
    hcal_resolution: tuple[float, float] = (1.0, 0.2)
    hcal_threshold: float = 1.0
    muon_hcal: float = 2.0


#: The detector of the published images.
CMS_RUN_1: Final = Apparatus()
