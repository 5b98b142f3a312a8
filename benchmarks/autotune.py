"""Does "auto" find a setting as good as the best fixed one, whoever consumes the batches?

A grid of fixed threads and prefetch against threads="auto", prefetch="auto", on the same jets, in
interleaved rounds, for consumers that differ: one that does nothing, one that sleeps (as one that
waits for a GPU), one that computes. Refuted by a ratio below 0.9.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import e2eio
from e2eio.sim import ToyJets
from harness.command import make_parser, work_folder
from harness.environment import count_cores, describe
from harness.progress import tell
from harness.results import BenchmarkReport, write_json

__all__ = ["Options", "Report", "Row", "main", "measure", "parse", "print_report"]

EXAMPLES = """\
examples:
  python benchmarks/autotune.py --quick               under a minute
  python benchmarks/autotune.py                       a few minutes
  python benchmarks/autotune.py --consumers compute --consumer-ms 5
  python benchmarks/autotune.py --check               exit code 1 if a ratio is below 0.9
"""
CONSUMERS = ("none", "sleep", "compute")
TARGET = 0.9
_CHUNK = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What to measure; as on the command line."""

    jets: int
    resolution: int
    batch_size: int
    threads: tuple[int, ...]
    prefetch: tuple[int, ...]
    consumers: tuple[str, ...]
    consumer_ms: float
    rounds: int
    seconds: float
    settle_s: float


@dataclasses.dataclass(slots=True)
class Row:
    """One setting under one consumer; `threads` and `prefetch` of "auto" are those it ended with."""

    consumer: str
    setting: str
    threads: int
    prefetch: int
    samples_per_s_rounds: list[float] = dataclasses.field(default_factory=list)
    samples_per_s: float = 0.0
    setting_changes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Ratio:
    """Speed of "auto" over that of the fixed setting with the best median, round by round."""

    consumer: str
    best: str
    median: float
    min: float
    max: float
    rounds: list[float]


@dataclasses.dataclass(slots=True)
class Report(BenchmarkReport):
    """What was measured."""

    format: str = "e2eio-autotune"
    rows: list[Row] = dataclasses.field(default_factory=list)
    ratios: list[Ratio] = dataclasses.field(default_factory=list)


Consumer = Callable[[], None]


def make_consumer(name: str, milliseconds: float) -> Consumer:
    """Return what is done with each batch; "compute" is an amount of work, not of time."""
    if name == "none":
        return lambda: None
    if name == "sleep":
        return lambda: time.sleep(milliseconds / 1e3)
    trial = 100_000
    quickest = min(_timed(lambda: _compute(trial)) for _ in range(5))
    steps = max(1, int(trial * milliseconds / 1e3 / quickest))
    return lambda: _compute(steps)


def measure(options: Options, path: Path, tell: Callable[[str], None]) -> Report:
    """Time every setting of the grid, and "auto", in interleaved rounds."""
    report = Report(describe(), dataclasses.asdict(options))
    for name in options.consumers:
        consumer = make_consumer(name, options.consumer_ms)
        rows = [Row(name, f"{t} x {p}", t, p) for t in options.threads for p in options.prefetch]
        auto = Row(name, "auto", 0, 0)
        lanes = [*rows, auto]
        # One loader for all rounds, which has had time for its first search; the trials of later ones are
        # timed. Fixed ones are made anew, so that rings do not add up; their first epoch is not timed.
        with _open(options, path, auto) as adaptive:
            tell(f"{name}: auto searches")
            _run(adaptive, consumer, options.settle_s)
            for k in range(options.rounds):
                first = k * len(lanes) // options.rounds
                for row in lanes[first:] + lanes[:first]:
                    tell(f"{name}: round {k + 1} of {options.rounds}, {row.setting}")
                    if row is auto:
                        speed = _run(adaptive, consumer, options.seconds)
                    else:
                        with _open(options, path, row) as loader:
                            _run(loader, consumer, 0)
                            speed = _run(loader, consumer, options.seconds)
                    row.samples_per_s_rounds.append(speed)
            stats = adaptive.stats()
        auto.threads, auto.prefetch = stats["threads"], stats["prefetch"]
        auto.setting_changes = stats["setting_changes"]
        for row in lanes:
            row.samples_per_s = statistics.median(row.samples_per_s_rounds)
        report.rows += lanes
        report.ratios.append(_compare(auto, rows))
    return report


def print_report(report: Report) -> None:
    """Print one table per consumer, and the ratios."""
    machine = report.environment
    print(f"\n{machine['cpu']}, {machine['cores']} cores; page cache warm; jets/s, medians")
    for ratio in report.ratios:
        rows = [row for row in report.rows if row.consumer == ratio.consumer]
        depths = sorted({row.prefetch for row in rows if row.setting != "auto"})
        print(f"\nconsumer: {ratio.consumer}")
        print("threads " + "".join(f"{f'prefetch {depth}':>14}" for depth in depths))
        for threads in sorted({row.threads for row in rows if row.setting != "auto"}):
            speeds = {
                row.prefetch: row.samples_per_s
                for row in rows
                if row.threads == threads and row.setting != "auto"
            }
            print(f"{threads:>7} " + "".join(f"{speeds[depth]:>14,.0f}" for depth in depths))
        auto = next(row for row in rows if row.setting == "auto")
        print(
            f"   auto {auto.samples_per_s:>14,.0f}   ending with {auto.threads} threads and prefetch "
            f"{auto.prefetch}, after {auto.setting_changes} changes"
        )
        outcome = "reached" if ratio.median >= TARGET else "MISSED"
        print(
            f"auto / best fixed ({ratio.best}) = {ratio.median:.2f} ({ratio.min:.2f} to {ratio.max:.2f}; "
            f"{outcome}: at least {TARGET})"
        )


def parse(arguments: list[str] | None = None) -> tuple[Options, Path | None, bool]:
    """Read the command line: options, file for the results, and whether to check."""
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--jets", type=int, metavar="N", help="toy jets (default: 2048; --quick: 512)")
    add("--resolution", type=int, choices=(1, 3), default=1, help="pixels per crystal (default: 1)")
    add("--batch-size", type=int, default=64, metavar="N", help="jets per batch (default: 64)")
    add("--consumers", metavar="LIST", help=f"out of: {', '.join(CONSUMERS)} (default: all)")
    add("--consumer-ms", type=float, metavar="T", default=4, help="per batch (default: 4)")
    add("--rounds", type=int, metavar="N", help="interleaved rounds (default: 7; --quick: 3)")
    add("--threads", type=_numbers, metavar="LIST", help="of the grid (default: 1 to cores + 2)")
    add("--prefetch", type=_numbers, metavar="LIST", help="of the grid (default: 1,2,4,8)")
    add("--seconds", type=float, metavar="T", help="per turn (default: 1; --quick: 0.3)")
    add("--settle", type=float, metavar="T", help="of auto before (default: 8 s; --quick: 2 s)")
    add("--out", type=Path, metavar="FILE", help="write the results as JSON")
    add("--quick", action="store_true", help="a small grid and short rounds")
    add("--check", action="store_true", help=f"exit with 1 if a ratio is below {TARGET}")
    told = parser.parse_args(arguments)
    consumers = tuple(told.consumers.split(",")) if told.consumers else CONSUMERS
    if unknown := set(consumers) - set(CONSUMERS):
        parser.error(f"unknown consumers: {', '.join(sorted(unknown))}")
    for name in ("jets", "batch_size", "rounds"):
        if getattr(told, name) is not None and getattr(told, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: expected 1 or more")
    most = count_cores() + 2
    quick = sorted({1, min(2, most), most})
    options = Options(
        jets=told.jets or (512 if told.quick else 2048),
        resolution=told.resolution,
        batch_size=told.batch_size,
        threads=told.threads or tuple(quick if told.quick else _spread(most)),
        prefetch=told.prefetch or ((1, 2, 4) if told.quick else (1, 2, 4, 8)),
        consumers=consumers,
        consumer_ms=told.consumer_ms,
        rounds=told.rounds or (3 if told.quick else 7),
        seconds=told.seconds or (0.3 if told.quick else 1.0),
        settle_s=told.settle or (2.0 if told.quick else 8.0),
    )
    return options, told.out, told.check


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    options, out, check = parse(arguments)
    with work_folder(None) as folder:
        path = folder / "jets"
        tell(f"writing {options.jets} toy jets")
        jets = ToyJets(resolution=options.resolution)
        with e2eio.write(path, jets.schema) as writer:
            for begin in range(0, options.jets, _CHUNK):
                writer.append(*jets.chunk(begin, min(begin + _CHUNK, options.jets)))
        report = measure(options, path, tell)
    tell("")
    print_report(report)
    if out is not None:
        write_json(out, dataclasses.asdict(report))
        print(f"written: {out}")
    return 1 if check and any(ratio.median < TARGET for ratio in report.ratios) else 0


@contextlib.contextmanager
def _open(options: Options, path: Path, row: Row) -> Iterator[e2eio.Loader]:
    with e2eio.Loader(
        path,
        batch_size=options.batch_size,
        shuffle=True,
        fields=("X_jets", "y"),
        framework="numpy",
        threads=row.threads or "auto",
        prefetch=row.prefetch or "auto",
    ) as loader:
        yield loader


def _run(loader: e2eio.Loader, consumer: Consumer, seconds: float) -> float:
    """Run whole epochs for at least that long, one at least; return samples per second."""
    n_samples = 0
    begin = time.perf_counter()
    while True:
        for images, _ in loader:
            n_samples += len(images)
            consumer()
        passed = time.perf_counter() - begin
        if passed >= seconds:
            return n_samples / passed


def _compare(auto: Row, rows: list[Row]) -> Ratio:
    best = max(rows, key=lambda row: row.samples_per_s)
    rounds = [
        mine / its
        for mine, its in zip(auto.samples_per_s_rounds, best.samples_per_s_rounds, strict=True)
    ]
    return Ratio(
        auto.consumer, best.setting, statistics.median(rounds), min(rounds), max(rounds), rounds
    )


def _spread(most: int) -> list[int]:
    """Return all numbers up to 6, then doubles, and the last two."""
    doubles = [2**k for k in range(3, 10) if 2**k < most]
    return sorted({*range(1, min(6, most) + 1), *doubles, most - 2, most})


def _numbers(text: str) -> tuple[int, ...]:
    values = tuple(sorted({int(word) for word in text.split(",")}))
    if values[0] < 1:
        raise argparse.ArgumentTypeError(f"found {values[0]}, expected 1 or more")
    return values


def _compute(steps: int) -> None:
    total = 0
    for i in range(steps):
        total ^= i


def _timed(work: Consumer) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
