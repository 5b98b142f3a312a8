"""What a simulation has to do: one task per shard, with a seed of its own.

The plan depends on the options, never on the number of processes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import numpy as np

from e2eio.detector_grid import CRYSTALS
from e2eio.errors import ConfigError
from e2eio.integers import as_integer
from e2eio.presets import find_preset, scalar_unit
from e2eio.production import ShardRange
from e2eio.schema import ImageField, ScalarField, Schema
from e2eio.sim.apparatus import CMS_RUN_1
from e2eio.sim.processes import find_process

__all__ = ["SimulationOptions", "SimulationPlan", "make_simulation_plan", "shard_seeds"]

#: Raised whenever the same options give other jets, so that a run does not go on from shards of another version.
_VERSION: Final = 1

_PACKAGES: Final = ("pythia8mc", "fastjet")  # other versions give other jets
_RANGES: Final = {
    "n": (1, 10**9),
    "seed": (0, 2**63 - 1),
    "shard_samples": (2, 10**6),
    "compression_level": (1, 19),
}
_RESOLUTIONS: Final = (1, 3, 5)
_MAX_PILEUP: Final = 200.0


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """All that decides the jets, and their shards; parameters of `simulate`.

    Raises
    ------
    ConfigError
        One is out of its range, which the message tells.
    """

    process: str
    n: int
    seed: int = 0
    resolution: int = 1
    pileup: float = 21.0
    shard_samples: int = 2048
    compression_level: int = 3

    def __post_init__(self) -> None:
        find_process(self.process)
        for name, (low, high) in _RANGES.items():
            given = as_integer(getattr(self, name))
            if given is None or not low <= given <= high:
                raise ConfigError(
                    f"wrong {name}: found {getattr(self, name)!r}, expected an integer from {low} to {high}"
                )
        if self.resolution not in _RESOLUTIONS:
            raise ConfigError(f"wrong resolution: found {self.resolution!r}, expected 1, 3 or 5")
        if not 0 <= self.pileup <= _MAX_PILEUP:
            raise ConfigError(
                f"wrong pileup: found {self.pileup!r}, expected a number from 0 to {_MAX_PILEUP:g}"
            )

    @property
    def schema(self) -> Schema:
        """The channels of the published set, and y, m0 and pt (float32)."""
        channels = find_preset(find_process(self.process).preset).channels
        edge = CRYSTALS * self.resolution
        scalars = (ScalarField(name, "float32", scalar_unit(name)) for name in ("y", "m0", "pt"))
        return Schema(ImageField("X_jets", channels, height=edge, width=edge), tuple(scalars))

    def to_json(self) -> dict[str, object]:
        """Return what provenance states."""
        return {
            "operation": "simulate",
            **asdict(self),
            "version": _VERSION,
            **{name: _version(name) for name in _PACKAGES},
        }


def shard_seeds(seed: int, index: int) -> np.random.SeedSequence:
    """Return what all that is drawn for a shard comes from."""
    return np.random.SeedSequence([seed, index])


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """All shards of a simulated dataset."""

    options: SimulationOptions
    tasks: tuple[ShardRange, ...]
    max_skipped: int = 0  # every jet is there


def make_simulation_plan(options: SimulationOptions) -> SimulationPlan:
    """Cut [0, n) into shards of about equal size.

    Examples
    --------
    >>> plan = make_simulation_plan(SimulationOptions("top", 5000))
    >>> [task.n_samples for task in plan.tasks]
    [1666, 1667, 1667]
    """
    n_shards = -(-options.n // options.shard_samples)
    edges = [options.n * k // n_shards for k in range(n_shards + 1)]
    made_by = {k: v for k, v in options.to_json().items() if k not in ("n", "shard_samples")}
    tasks = []
    for index in range(n_shards):
        begin, end = edges[index], edges[index + 1]
        parts = [made_by, repr(CMS_RUN_1), index, begin, end, options.schema.to_json()]
        digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=16)
        tasks.append(ShardRange(index, begin, end, digest.digest()))
    return SimulationPlan(options, tuple(tasks))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
