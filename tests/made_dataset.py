"""A small dataset of sparse images whose contents the tests know."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import e2eio
from e2eio.schema import Channel, ImageField, ScalarField, Schema

C, H, W = 3, 40, 48


def make(path: str | os.PathLike[str], n: int = 150, image: str = "X") -> NDArray[np.float32]:
    """Write n samples and return their images [3, 40, 48]; y float32 and run int64 are the number of the sample."""
    rng = np.random.default_rng(3)
    images = np.where(rng.random((n, C, H, W)) < 0.02, rng.normal(size=(n, C, H, W)), 0.0)
    images = images.astype(np.float32)
    channels = tuple(Channel(name, "GeV") for name in ("a", "b", "c"))
    scalars = (ScalarField("y", "float32", ""), ScalarField("run", "int64", ""))
    with e2eio.write(Path(path), Schema(ImageField(image, channels, H, W), scalars)) as writer:
        writer.append(images, {"y": np.arange(n, dtype=np.float32), "run": np.arange(n)})
    return images


def documented_programs(page: Path, package: str) -> list[str]:
    """Return the code blocks of a page that are marked to be run with a package, data in data/top."""
    parts = page.read_text(encoding="utf-8").split(f"<!-- test: {package} -->\n```python\n")[1:]
    return [part.partition("```")[0] for part in parts]
