"""The jets that are trained on: simulated in blocks, each of a seed of its own, when they are first needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import e2eio
from e2eio.sim import ToyJets, simulate

__all__ = ["SPLITS", "Jets", "find_jets"]

# Part of the data -> where its seeds begin. Each has collisions and pile-up of its own: no jet of a test shares
# as much as a soft collision with one that was trained on.
SPLITS = {"train": 1_000_000, "valid": 2_000_000, "test": 3_000_000}
# Jets wanted, at most, and jets of their blocks. More jets are more blocks: those that there are stay as they are.
_BLOCKS = ((64, 64), (4096, 512))
_LARGE_BLOCK = 8192
TOY = "toy"


@dataclass(frozen=True, slots=True)
class Jets:
    """The first n jets of a part.

    Parameters
    ----------
    dataset : Dataset
        Of all blocks; the last may have more jets than are asked for.
    n : int
    """

    dataset: e2eio.Dataset
    n: int

    @property
    def exclude(self) -> Any:
        """Numbers of the jets that do not belong to it: argument of a Loader."""
        rest = np.arange(self.n, len(self.dataset))
        return rest if len(rest) else None


def find_jets(
    work: Path, process: str, split: str, n: int, resolution: int = 1, *, cores: int | None = None
) -> Jets:
    """Return n jets of a part of a process, simulated if they are not there.

    Parameters
    ----------
    work : Path
        Folder that keeps the jets.
    process : str
        Of `e2eio simulate`, or "toy".
    split : {"train", "valid", "test"}
    n : int
        1 or more.
    resolution : {1, 3}
        Of the files. Jets of a block are the same at both.
    cores : int, optional
        Processes that simulate.

    Raises
    ------
    E2eioError
        The process is not known, or cannot be simulated here.
    """
    size = next((block for most, block in _BLOCKS if n <= most), _LARGE_BLOCK)
    folder = work / f"{process}-x{resolution}" / split
    paths = []
    for block in range(-(-n // size)):
        path = folder / f"{size}-{block:03d}"
        if not (path / "dataset.json").exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _make(process, path, size, SPLITS[split] + block, resolution, cores)
        paths.append(path)
    return Jets(e2eio.Dataset(paths), n)


def _make(process: str, path: Path, n: int, seed: int, resolution: int, cores: int | None) -> None:
    if process == TOY:
        toys = ToyJets(resolution=resolution, seed=seed)
        with e2eio.write(path, toys.schema) as writer:
            for begin in range(0, n, 64):
                writer.append(*toys.chunk(begin, min(begin + 64, n)))
        return
    simulate(process, path, n=n, seed=seed, resolution=resolution, processes=cores)
