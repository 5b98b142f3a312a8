"""Batches through NVIDIA DALI: the loader as a source, augmentation of detector images as a graph.

>>> from e2eio import dali
>>> batches = dali.iterator("data/top", batch_size=64, device="gpu")  # doctest: +SKIP

docs/dali.md has examples. DALI is imported when something that needs it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2eio.dali.cells import Resolution, dead_cells, energy_smear, listed_dead_cells
    from e2eio.dali.feed import Source, source
    from e2eio.dali.geometry import crop, flip_eta, roll_phi, rot90, translate
    from e2eio.dali.graph import inputs, pipeline
    from e2eio.dali.iterate import Batches, iterator
    from e2eio.dali.masks import channel_dropout, random_erase
    from e2eio.dali.operator import load_operator, reader
    from e2eio.dali.steps import apply

__all__ = [
    "Batches",
    "Resolution",
    "Source",
    "apply",
    "channel_dropout",
    "crop",
    "dead_cells",
    "energy_smear",
    "flip_eta",
    "inputs",
    "iterator",
    "listed_dead_cells",
    "load_operator",
    "pipeline",
    "random_erase",
    "reader",
    "roll_phi",
    "rot90",
    "source",
    "translate",
]

_MODULES = {
    **dict.fromkeys(("Source", "source"), "feed"),
    **dict.fromkeys(("Resolution", "dead_cells", "energy_smear", "listed_dead_cells"), "cells"),
    **dict.fromkeys(("crop", "flip_eta", "roll_phi", "rot90", "translate"), "geometry"),
    **dict.fromkeys(("channel_dropout", "random_erase"), "masks"),
    **dict.fromkeys(("inputs", "pipeline"), "graph"),
    **dict.fromkeys(("apply",), "steps"),
    **dict.fromkeys(("load_operator", "reader"), "operator"),
    **dict.fromkeys(("Batches", "iterator"), "iterate"),
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(f"e2eio.dali.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'e2eio.dali' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
