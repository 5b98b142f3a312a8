"""Figures of the talk and the papers behind it, to put the measured ones beside.

The talk: D. Di Croce, "Accelerating deep learning reconstruction using CMS open data" (EPJ Web Conf. 251, 03057, doi
10.1051/epjconf/202125103057). Papers: arXiv:2104.14659 (boosted top), arXiv:1902.08276 (quark and gluon).
"""

from __future__ import annotations

__all__ = ["AUC_BY_BATCH", "AUC_BY_LAYERS", "JETS", "MINUTES_BY_BATCH", "PAPER_AUC", "PROCESSORS"]

JETS = 2_560_000  # of an epoch: 40,000 batches of 64
AUC_BY_LAYERS = {"pT": 0.953, "pT+d0+dz": 0.972, "pT+d0+dz+ECAL+HCAL": 0.981}
PAPER_AUC = (
    0.9824,
    0.0013,
)  # with all layers and derived track quantities: abstract of arXiv:2104.14659
AUC_BY_BATCH = {64: 0.981, 512: 0.979, 1024: 0.976}
MINUTES_BY_BATCH = {64: 11.8, 512: 7.5, 1024: 7.4}
# Processor -> batch size, and by pixels per crystal: seconds of I/O for a batch, minutes of an epoch.
PROCESSORS: dict[str, tuple[int, dict[int, tuple[float, float]]]] = {
    "Tesla P100": (32, {1: (0.119, 321), 3: (0.833, 1663)}),
    "Tesla V100": (64, {1: (0.018, 19), 3: (0.063, 105)}),
    "TPUv3-8": (64, {1: (0.018, 14), 3: (0.189, 131)}),
}
