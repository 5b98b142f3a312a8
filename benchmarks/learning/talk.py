"""Areas and times of the talk and the papers behind it, to put the measured ones beside; I/O is in `harness.talk`.

The talk: D. Di Croce, "Accelerating deep learning reconstruction using CMS open data" (EPJ Web Conf. 251, 03057, doi
10.1051/epjconf/202125103057). Papers: arXiv:2104.14659 (boosted top), arXiv:1902.08276 (quark and gluon).
"""

from __future__ import annotations

__all__ = ["AUC_BY_BATCH", "AUC_BY_LAYERS", "MINUTES_BY_BATCH", "PAPER_AUC"]

AUC_BY_LAYERS = {"pT": 0.953, "pT+d0+dz": 0.972, "pT+d0+dz+ECAL+HCAL": 0.981}
# With all layers and derived track quantities: abstract of arXiv:2104.14659.
PAPER_AUC = (0.9824, 0.0013)
AUC_BY_BATCH = {64: 0.981, 512: 0.979, 1024: 0.976}
MINUTES_BY_BATCH = {64: 11.8, 512: 7.5, 1024: 7.4}
