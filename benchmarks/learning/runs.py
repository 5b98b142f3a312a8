"""What a run is: one training, or one timing, with all that decides its outcome."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["LAYERS", "Run", "Timing", "Training", "read_run"]

# The talk's selections of layers, in its order, and the pixel layers that its benchmark has besides.
LAYERS: dict[str, tuple[str, ...]] = {
    "pT": ("track_pt",),
    "pT+d0+dz": ("track_pt", "d0", "dz"),
    "pT+d0+dz+ECAL+HCAL": ("track_pt", "d0", "dz", "ecal", "hcal"),
    "all": ("track_pt", "d0", "dz", "ecal", "hcal", "bpix1", "bpix2", "bpix3"),
}
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Training:
    """One network trained and tested. Equal trainings give equal networks, on the same machine with as many threads.

    Parameters
    ----------
    process : str
        Of `e2eio simulate`; "toy": toy jets, which teach nothing.
    channels : tuple of str
        Chosen at load, in this order; empty: all.
    stored, resolution : {1, 3}
        Pixels per crystal and axis in the files, and of what is loaded.
    batch_size, ranks : int
        Jets per rank and step.
    seed : int
        Of weights and order.
    jets, valid, test : int
        To train on, to choose the epoch by, and to tell the area of.
    epochs, halve_every : int
    learning_rate : float
        Of one rank.
    precision : {"float32", "bfloat16"}
        That convolutions compute in.
    device : {"cpu", "cuda"}
    """

    process: str
    channels: tuple[str, ...]
    jets: int
    valid: int
    test: int
    epochs: int
    halve_every: int = 10
    stored: int = 1
    resolution: int = 1
    batch_size: int = 64
    ranks: int = 1
    seed: int = 0
    learning_rate: float = 5e-4
    precision: str = "float32"
    device: str = "cpu"

    @property
    def key(self) -> str:
        """Name of the run among results and folders: two runs of one name are the same."""
        layers = "_".join(self.channels) or "every"
        parts = [
            self.process,
            f"x{self.resolution}",
            layers,
            f"n{self.jets}",
            f"b{self.batch_size}",
        ]
        if self.stored != self.resolution:
            parts.append(f"of-x{self.stored}")
        parts += [f"r{self.ranks}", f"e{self.epochs}", f"h{self.halve_every}"]
        parts += [f"lr{self.learning_rate:g}", f"v{self.valid}", f"t{self.test}"]
        return "-".join([*parts, self.precision, self.device, f"s{self.seed}"])

    @property
    def title(self) -> str:
        """What is said while it runs."""
        layers = next((name for name, chosen in LAYERS.items() if chosen == self.channels), "")
        text = f"{self.process} x{self.resolution} {layers or '+'.join(self.channels)}".strip()
        text += f", {self.jets} jets, batch {self.batch_size}"
        return f"{text} on {self.ranks} rank(s), seed {self.seed}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": "training", **dataclasses.asdict(self)}


@dataclass(frozen=True, slots=True)
class Timing:
    """How fast one thing goes.

    Parameters
    ----------
    what : {"io", "step", "inference"}
        Batches and a consumer that does nothing, then training on them: `io`. Training alone, with the time that
        ranks take to agree: `step`. `inference`: scores.
    jets : int
        In the dataset.
    seconds : float
        That is timed, about, after a start that is not.
    """

    what: str
    process: str
    jets: int
    stored: int = 1
    batch_size: int = 64
    ranks: int = 1
    threads: int = 1
    device: str = "cpu"
    precision: str = "float32"
    seconds: float = 20.0

    @property
    def key(self) -> str:
        parts = [self.what, self.process, f"x{self.stored}", f"n{self.jets}", f"b{self.batch_size}"]
        parts += [f"r{self.ranks}", f"threads{self.threads}", f"{self.seconds:g}s"]
        return "-".join([*parts, self.precision, self.device])

    @property
    def title(self) -> str:
        text = f"{self.what}: {self.process} x{self.stored}, batch {self.batch_size}"
        return f"{text}, {self.ranks} rank(s) of {self.threads} thread(s), {self.device}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": "timing", **dataclasses.asdict(self)}


Run = Training | Timing


def read_run(content: dict[str, Any]) -> Run:
    """Return the run that `to_json` made."""
    values = {name: value for name, value in content.items() if name != "kind"}
    if content["kind"] == "training":
        return Training(**{**values, "channels": tuple(values["channels"])})
    return Timing(**values)
