"""Figures and statistics that need a look at every pixel, gathered in one pass with bounded memory."""

from __future__ import annotations

from e2eio.summary.bins import LOG, Counts, LogBins, quantile
from e2eio.summary.classes import LABELS, MOST_CLASSES, Classes, make_classes
from e2eio.summary.content import Content, Maps
from e2eio.summary.samples import Largest, Repeats
from e2eio.summary.stream import Accumulator, Chunk, read_chunks, run_pass

__all__ = [
    "LABELS",
    "LOG",
    "MOST_CLASSES",
    "Accumulator",
    "Chunk",
    "Classes",
    "Content",
    "Counts",
    "Largest",
    "LogBins",
    "Maps",
    "Repeats",
    "make_classes",
    "quantile",
    "read_chunks",
    "run_pass",
]
