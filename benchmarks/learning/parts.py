"""The parts of the benchmark: which runs each is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from learning.runs import LAYERS, Run, Timing, Training

__all__ = ["PARTS", "Options", "Part"]


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line.

    `top`: process of the top benchmark, or "toy"; `jets_x3`: that are trained on and tested with, at most, at x3, where
    images are nine times as large; `devices`: that I/O and training are timed on, `device`: that networks are trained on.
    """

    top: str
    jets: int
    jets_x3: int
    valid: int
    test: int
    epochs: int
    halve_every: int
    seeds: int
    precision: str
    device: str
    devices: tuple[str, ...]
    threads: int
    seconds: float

    def training(self, process: str = "") -> Training:
        """Return the training that parts vary: all channels at x1."""
        channels = () if process else LAYERS["all"]
        process = process or self.top
        return Training(
            process, channels, self.jets, self.valid, self.test, self.epochs, self.halve_every,
            precision=self.precision, device=self.device,
        )  # fmt: skip

    def seeded(self, runs: Sequence[Training]) -> list[Run]:
        """Return each run with each seed; all runs of a seed before those of the next."""
        return [replace(run, seed=seed) for seed in range(self.seeds) for run in runs]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the benchmark, a table of its own."""

    title: str
    runs: Callable[[Options], Sequence[Run]]


def _io(options: Options) -> Sequence[Run]:
    return [
        Timing(
            "io", options.top, 2048 if resolution == 1 else 512, resolution, batch_size,
            threads=options.threads, device=device, precision=options.precision,
            seconds=options.seconds * (1 if resolution == 1 else 3),
        )
        for device in options.devices
        for resolution in (1, 3)
        for batch_size in (32, 64)
    ]  # fmt: skip


def _layers(options: Options) -> Sequence[Run]:
    base = options.training()
    return options.seeded([replace(base, channels=channels) for channels in LAYERS.values()])


def _batch(options: Options) -> Sequence[Run]:
    """Those of the talk's sizes that leave a few steps to an epoch."""
    base = replace(options.training(), ranks=2)
    sizes = [size for size in (64, 512, 1024) if size == 64 or 8 * size <= options.jets]
    return options.seeded([replace(base, batch_size=size) for size in sizes])


def _of_ranks(what: str, options: Options) -> Sequence[Run]:
    """One rank and two with a thread each; and one rank with all threads."""
    base = Timing(
        what, options.top, 2048, device=options.device, precision=options.precision,
        seconds=options.seconds,
    )  # fmt: skip
    cores = [] if options.threads == 1 else [replace(base, threads=options.threads)]
    return [base, replace(base, ranks=2), *cores]


def _scaling(options: Options) -> Sequence[Run]:
    return _of_ranks("step", options)


def _inference(options: Options) -> Sequence[Run]:
    return _of_ranks("inference", options)


def _resolution(options: Options) -> Sequence[Run]:
    most = options.jets_x3
    sizes = {"jets": most, "valid": max(1, most // 4), "test": most}
    base = replace(options.training(), stored=3)
    base = replace(base, **{name: min(getattr(base, name), n) for name, n in sizes.items()})
    return options.seeded([replace(base, resolution=resolution) for resolution in (1, 3)])


def _precision(options: Options) -> Sequence[Run]:
    """All layers in both precisions."""
    base = options.training()
    return [replace(base, precision=precision) for precision in ("float32", "bfloat16")]


def _of_process(process: str) -> Callable[[Options], Sequence[Run]]:
    return lambda options: options.seeded([options.training(process)])


def _learning(options: Options) -> Sequence[Run]:
    """All layers, on 1024 jets and twice as many as long as there are, and on all."""
    sizes = {options.jets}
    n = 1024
    while n < options.jets:
        sizes.add(n)
        n *= 2
    base = options.training()
    return options.seeded([replace(base, jets=n) for n in sorted(sizes)])


#: In the order in which they are done: what takes minutes, then what takes hours.
PARTS: dict[str, Part] = {
    "io": Part("I/O and training time", _io),
    "scaling": Part("Scaling over ranks", _scaling),
    "inference": Part("Inference", _inference),
    "layers": Part("ROC-AUC by layers", _layers),
    "precision": Part("float32 against bfloat16", _precision),
    "learning": Part("ROC-AUC by number of training jets", _learning),
    "batch": Part("ROC-AUC by batch size, 2 ranks", _batch),
    "resolution": Part("x1 against x3", _resolution),
    "quark-gluon": Part("Quarks against gluons", _of_process("quark-gluon")),
    "electron-photon": Part("Electrons against photons", _of_process("electron-photon")),
}
