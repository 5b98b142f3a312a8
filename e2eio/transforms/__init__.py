"""Transforms of images, declared in Python and run by the decoding threads.

>>> from e2eio import transforms
>>> chain = (*transforms.preset("top-mass"), transforms.FlipEta(0.5))

docs/transforms.md has the table of all of them.
"""

from __future__ import annotations

from e2eio.transforms.detector import ChannelDropout, DeadCells, EnergySmear
from e2eio.transforms.geometry import Crop, FlipEta, Pad, RollPhi, Rot90
from e2eio.transforms.normalise import DivideBySample, MinMax, ZScore
from e2eio.transforms.program import compile_transforms, transform_key, transforms_text
from e2eio.transforms.published import PRESETS, preset
from e2eio.transforms.target import Transform
from e2eio.transforms.values import (
    Asinh,
    Clip,
    Divide,
    Log1p,
    Offset,
    Scale,
    Sqrt,
    ZeroSuppress,
)

__all__ = [
    "PRESETS",
    "Asinh",
    "ChannelDropout",
    "Clip",
    "Crop",
    "DeadCells",
    "Divide",
    "DivideBySample",
    "EnergySmear",
    "FlipEta",
    "Log1p",
    "MinMax",
    "Offset",
    "Pad",
    "RollPhi",
    "Rot90",
    "Scale",
    "Sqrt",
    "Transform",
    "ZScore",
    "ZeroSuppress",
    "compile_transforms",
    "preset",
    "transform_key",
    "transforms_text",
]
