"""The grid on which CMS jet images are drawn: crystals, towers, and where tracks meet the calorimeter.

Sources, where nothing else is said: the producer of the published 8-channel images, GitHub repository
ddyachkova/CMSSW_5_3_32-MLAnalyzer, `RecHitAnalyzer/interface/RecHitAnalyzer.h` and
`convert_root2pq_jet.py`. "real images": found by comparing images made of real CMS events with the
particles that they were made of (docs/importers/particles.md).
"""

from __future__ import annotations

import math
from typing import Final

__all__ = [
    "CRYSTALS",
    "CRYSTAL_RAD",
    "ECAL_FACE_M",
    "ECAL_RADIUS_M",
    "ENDCAP_ABS_ETA",
    "ETA_CRYSTALS",
    "ETA_TOWERS",
    "FIELD_GEV_PER_M",
    "PHI_CRYSTALS",
    "PHI_TOWERS",
    "PION_GEV",
    "SEED_WINDOW",
    "TOWERS",
    "TOWER_CRYSTALS",
    "TRACK_MIN_GEV",
]

#: Rows (eta) and columns (phi) of the whole detector: 170 rows of the barrel, 55 of each endcap.
ETA_CRYSTALS: Final = 280
PHI_CRYSTALS: Final = 360

#: An HCAL tower covers 5 x 5 crystals.
TOWER_CRYSTALS: Final = 5
ETA_TOWERS: Final = ETA_CRYSTALS // TOWER_CRYSTALS
PHI_TOWERS: Final = PHI_CRYSTALS // TOWER_CRYSTALS

#: Edge of a jet image, in crystals and in towers.
CRYSTALS: Final = 125
TOWERS: Final = CRYSTALS // TOWER_CRYSTALS

#: Towers in eta and phi round a jet's axis among which the most energetic is its centre.
SEED_WINDOW: Final = 7

#: Width of a crystal in eta and phi: 2 pi / 360 (real images; published as 0.01745).
CRYSTAL_RAD: Final = math.pi / 180

#: Tracks at or below it are left out (GeV).
TRACK_MIN_GEV: Final = 0.5

#: Radius of the ECAL barrel's face, distance of the endcaps' faces (m; CMS; real images).
ECAL_RADIUS_M: Final = 1.29
ECAL_FACE_M: Final = 3.17

#: Where the endcaps begin (`eta_bins_EEp`).
ENDCAP_ABS_ETA: Final = 1.479

#: A track's radius of curvature is pT over it: 0.3 GeV / (T m) x 3.8 T (CMS; real images).
FIELD_GEV_PER_M: Final = 0.3 * 3.8

#: Mass of a charged pion (GeV), for charged hadrons without a mass (Particle Data Group).
PION_GEV: Final = 0.13957
