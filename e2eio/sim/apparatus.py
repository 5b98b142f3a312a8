"""The simulated detector: its numbers, each with its source.

Sources by name:

* "recipe": the detector model behind the test files in the published layout, tuned to real images.
* "CMSSW": CMS's software, GitHub repository cms-sw/cmssw, at the path that is given; read.
* "tracking": CMS, "Description and performance of track and primary-vertex reconstruction with the CMS tracker",
  JINST 9 (2014) P10009, arXiv:1405.6569; its abstract was read, what else is said of it is from memory.
* "TDR": CMS, "The CMS experiment at the CERN LHC", JINST 3 (2008) S08004, doi 10.1088/1748-0221/3/08/S08004; from memory.
* "ECAL": P. Adzic et al., "Energy resolution of the barrel of the CMS electromagnetic calorimeter", JINST 2 (2007) P04004,
  doi 10.1088/1748-0221/2/04/P04004; its abstract was read, what else is said of it is from memory.

Crystals, towers, the field and the calorimeters' faces are those of `e2eio.detector_grid`, which importers use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CMS_READOUT", "CMS_RUN_1", "Apparatus", "Readout"]


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
        Below and above |eta| = 0.9 (recipe; "tracking", abstract: 0.94 and 0.85 in ttbar events above 0.9 GeV).
    track_vertex_radius : float
        Tracks that begin beyond it are not found; the chance falls linearly from the beam on. A stand-in for
        the fall of the efficiency over 60 cm in "tracking", figure 16 (from memory).
    track_pt_resolution : tuple of float
        Constant term, and the one proportional to pT in GeV, added in quadrature (recipe; CMS, abstract of
        arXiv:1007.1988: 0.7 % at 1 GeV and 5 % at 1 TeV; "tracking", abstract: 2.8 % at 100 GeV, more than here).
    d0_resolution, dz_resolution : tuple of float
        cm: a (+) b / pT, pT in GeV (recipe; "tracking", abstract: 10 and 30 um at 100 GeV). That of dz grows by
        1 + 0.5 eta^2 (recipe).
    pixel_radii : tuple of float
        Of the three layers of the pixel barrel (TDR, section 3.2; CMSSW, the file of `e2eio.sim.layers`).
    pixel_half_length : float
        Of the pixel barrel (TDR: 53 cm long).
    pixel_efficiency : float
        Of a hit (recipe; "tracking": above 0.99, less in the innermost layer).
    shower_core, hadron_core : float
        In crystals: an electromagnetic spot lies within r with chance r^2 / (r^2 + core^2). Three cores hold
        90 %, that is a Moliere radius, 2.19 cm in lead tungstate (TDR, section 4.1; theses have 2.2 cm, and faces of
        2.2 cm by 2.2 cm).
        That of hadrons: recipe.
    spot_energy : float
        Of one spot of a shower (recipe), of which there are `spot_counts`, lowest and highest number.
    mip_energy : float
        That hadrons and muons leave which do not shower in the ECAL (recipe; 23 cm of lead tungstate at 1.0 GeV
        / m and more), and the share of hadrons that do not (`mip_share`, recipe).
    shower_share : tuple of float
        Of the energy of a hadron that does shower there: lowest and highest (recipe).
    ecal_resolution : tuple of float
        Stochastic (root GeV), noise (GeV) and constant term ("ECAL": 2.8 % and 0.3 %, abstract, 12 %/E, all for 3 x 3 crystals;
        40 MeV is that noise of one crystal, 42 in CMSSW,
        RecoParticleFlow/PFClusterProducer/python/particleFlowCaloResolution_cfi.py).
    ecal_thresholds : tuple of float
        Of a crystal in the barrel and in the endcaps (recipe; CMSSW,
        RecoParticleFlow/PFClusterProducer/python/particleFlowRecHitECAL_cfi.py, as of Run 1).
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


@dataclass(frozen=True, slots=True)
class Readout:
    """How crystals round a shower are read.

    Parameters
    ----------
    spot_energy : float
        GeV; of one spot of a shower, of which there are `most_spots` at most. Finer than where a jet is looked at:
        ten spots make what a crystal must have to be read.
    most_spots : int
    profile : tuple of (float, float)
        Parts of a shower: their shares of its energy, and their cores in crystals. A core and a halo of the form of
        G. Grindhammer and S. Peters (hep-ex/0001020), with the shares and widths that put 90 % of a shower into one
        Moliere radius, 99 % into 3.5 (Particle Data Group, "Passage of Particles Through Matter") and 78 % of one that hits
        the middle of a crystal into it ("ECAL"; from memory).
    time_low : tuple of float
        Error of the time of a hit below 0.5 GeV: a / E + b / E^2, ns GeV and ns GeV^2.
    time_high : tuple of float
        From there on: a / E (+) b, ns GeV and ns, that of 5 GeV beyond it. Both: `particleFlowCaloResolution_cfi.py`,
        `_timeResolutionECALBarrel`, and `CaloRecHitResolutionProvider.h` of RecoParticleFlow/PFClusterProducer in
        CMS's software (GitHub repository cms-sw/cmssw).
    scale : float
        Both channels are divided by it (the producer's code, version 1).
    """

    spot_energy: float = 0.008
    most_spots: int = 8000
    profile: tuple[tuple[float, float], ...] = ((0.85, 0.2), (0.15, 0.8))
    time_low: tuple[float, float] = (31.4007142857 * 0.042, 0.0510871)
    time_high: tuple[float, float] = (26.4021428571 * 0.042, 0.428192)
    scale: float = 50.0


#: Of the published crops of showers.
CMS_READOUT: Final = Readout()
