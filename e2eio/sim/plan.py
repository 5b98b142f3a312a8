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

from e2eio.errors import ConfigError
from e2eio.integers import as_integer
from e2eio.presets import find_preset, scalar_unit
from e2eio.production import ShardRange
from e2eio.schema import ImageField, ScalarField, Schema
from e2eio.sim.processes import find_process

__all__ = ["SimulationOptions", "SimulationPlan", "make_simulation_plan", "shard_seeds"]

#: Raised whenever the same options give other samples, so that a run does not go on from shards of another version.
_VERSION: Final = 1

_RANGES: Final = {
    "n": (1, 10**9),
    "seed": (0, 2**63 - 1),
    "shard_samples": (2, 10**6),
    "compression_level": (1, 19),
}
_MAX_PILEUP: Final = 200.0


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """All that decides the samples, and their shards; parameters of `simulate`.

    `pileup` is that of the process, if None was given.

    Raises
    ------
    ConfigError
        One is out of its range, which the message tells.
    """

    process: str
    n: int
    seed: int = 0
    resolution: int = 1
    pileup: float | None = None
    shard_samples: int = 2048
    compression_level: int = 3

    def __post_init__(self) -> None:
        process = find_process(self.process)
        object.__setattr__(self, "pileup", self.mean_pileup)
        for name, (low, high) in _RANGES.items():
            given = as_integer(getattr(self, name))
            if given is None or not low <= given <= high:
                raise ConfigError(
                    f"wrong {name}: found {getattr(self, name)!r}, expected an integer from {low} to {high}"
                )
        if self.resolution not in process.resolutions:
            possible = " or ".join(", ".join(map(str, process.resolutions)).rsplit(", ", 1))
            raise ConfigError(
                f"wrong resolution: found {self.resolution!r}, expected {possible} for {process.name}"
            )
        if not 0 <= self.mean_pileup <= _MAX_PILEUP:
            raise ConfigError(
                f"wrong pileup: found {self.pileup!r}, expected a number from 0 to {_MAX_PILEUP:g}"
            )

    @property
    def mean_pileup(self) -> float:
        """Mean number of other collisions, the process's own if none was given."""
        return find_process(self.process).pileup if self.pileup is None else self.pileup

    @property
    def schema(self) -> Schema:
        """The channels of the published set, y and the scalar fields of the process (float32)."""
        process = find_process(self.process)
        channels = find_preset(process.preset).channels
        height, width = (edge * self.resolution for edge in process.size)
        names = ("y", *process.scalars)
        scalars = tuple(ScalarField(name, "float32", scalar_unit(name)) for name in names)
        return Schema(ImageField(process.image, channels, height=height, width=width), scalars)

    def to_json(self) -> dict[str, object]:
        """Return what provenance states."""
        packages = find_process(self.process).packages(self.mean_pileup)
        return {
            "operation": "simulate",
            **asdict(self),
            "version": _VERSION,
            **{name: _version(name) for name in packages},
        }


def shard_seeds(seed: int, index: int) -> np.random.SeedSequence:
    """Return what all that is drawn for a shard comes from."""
    return np.random.SeedSequence([seed, index])


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """All shards of a simulated dataset."""

    options: SimulationOptions
    tasks: tuple[ShardRange, ...]
    max_skipped: int = 0  # every sample is there


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
    numbers = "".join(map(repr, find_process(options.process).detector))
    tasks = []
    for index in range(n_shards):
        begin, end = edges[index], edges[index + 1]
        parts = [made_by, numbers, index, begin, end, options.schema.to_json()]
        digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=16)
        tasks.append(ShardRange(index, begin, end, digest.digest()))
    return SimulationPlan(options, tuple(tasks))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
