"""A small dataset, and loaders of it for a device: where there is no card, the host is taken for one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

os.environ.setdefault("TRITON_INTERPRET", "1" if not torch.cuda.is_available() else "0")

import e2eio
from e2eio.device.lanes import usable_device
from e2eio.sim import ToyJets, toy_jets

DEVICE = usable_device("cuda" if torch.cuda.is_available() else "cpu")


def write_toy(out: Path) -> Path:
    with e2eio.write(out, ToyJets().schema) as writer:
        for images, scalars in toy_jets(40, seed=4):
            writer.append(images, scalars)
    return out


def wires(path: Path, **options: Any) -> Iterator[Any]:
    return dense(path, form="wire", **options)


def dense(path: Path, **options: Any) -> Iterator[Any]:
    options.update(fields=("X_jets", "y", "sample_id"), channels=("track_pt", "dz", "hcal"))
    return iter(e2eio.Loader(path, batch_size=8, shuffle=True, **options))


def on_device(path: Path, **options: Any) -> e2eio.Loader:
    """A loader with a device; where there is no card, one that takes the host for one."""
    if DEVICE.type == "cuda":
        return e2eio.Loader(path, batch_size=8, shuffle=True, device=DEVICE, **options)
    layout = options.pop("layout", "NCHW")
    loader = e2eio.Loader(path, batch_size=8, shuffle=True, form="wire", **options)
    loader._device = DEVICE
    loader._arguments["layout"] = layout
    return loader
