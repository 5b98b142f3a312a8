"""How close to the limits of the machine is e2eio?

Its rate beside clearing the memory it fills, the cost of verification, what a second thread brings,
the sparse bytes that a core has ready, the first batch, memory over many epochs, opening a large
shard, and stored bytes beside the smallest peer. Rates are measured in interleaved rounds of one
run, ratios are paired round by round, and what is delivered is compared bit by bit before.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import statistics
import sys
from pathlib import Path

import open_speed
from harness.command import fail, make_parser, work_folder
from harness.contender import ContenderError, Inputs
from harness.data import DataError, Derived, ToySource, derive_shards
from harness.environment import describe
from harness.memory import grow_over_epochs, time_first_batches
from harness.progress import tell
from harness.report import Ratio, Row, compare, print_table, summarise
from harness.results import BenchmarkReport, Figure, describe_figure, save_result
from harness.rounds import Timing, measure
from harness.sizes import weigh_formats
from large_shard import write_empty_samples  # beside the tests; open_speed says where

__all__ = ["Report", "main", "run"]

EXAMPLES = """\
examples:
  python benchmarks/limits.py                 all figures, some ten minutes on 2 cores
  python benchmarks/limits.py --quick         few jets, short rounds: what it does, not what it reaches
  python benchmarks/limits.py --only x3       one part: x1, x3, start, sizes, open
  python benchmarks/limits.py --check         exit code 1 if a figure is not reached
"""
PARTS = ("x1", "x3", "start", "sizes", "open")
DENSE = ["e2eio_dense", "clear_memset", "clear_nontemporal"]
VARIANTS = ["e2eio_unverified", "e2eio_one_thread", "e2eio_wire"]


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What to measure; as on the command line."""

    parts: tuple[str, ...]
    jets: dict[int, int]
    rounds: int
    seconds: float
    epochs: int
    samples: int
    threads: int


@dataclasses.dataclass(slots=True)
class Report(BenchmarkReport):
    """What was measured."""

    format: str = "e2eio-limits"
    rows: list[Row] = dataclasses.field(default_factory=list)
    ratios: list[Ratio] = dataclasses.field(default_factory=list)
    sizes: dict[str, dict[str, float | str]] = dataclasses.field(default_factory=dict)
    figures: list[Figure] = dataclasses.field(default_factory=list)


def run(options: Options, work: Path) -> Report:
    """Measure the parts that are asked for.

    Raises
    ------
    DataError
        If the data cannot be had.
    ContenderError
        If a contender delivers wrong data, or fails while it is timed.
    """
    report = Report(describe(), dataclasses.asdict(options))
    derived: dict[int, Derived] = {}
    for resolution in (1, 3):
        if {f"x{resolution}", "sizes"} & set(options.parts) or (
            resolution == 1 and "start" in options.parts
        ):
            folder = work / f"x{resolution}"
            folder.mkdir(parents=True, exist_ok=True)
            tell(f"x{resolution}: writing {options.jets[resolution]} jets")
            source = ToySource(resolution)
            derived[resolution] = derive_shards(source, options.jets[resolution], folder)
    for resolution in (1, 3):
        if f"x{resolution}" in options.parts:
            _measure_rates(options, derived[resolution], resolution, report)
    if "start" in options.parts:
        report.figures += _measure_start(options, derived[1])
    if "sizes" in options.parts:
        for resolution in (1, 3):
            _measure_sizes(derived[resolution], resolution, report)
    if "open" in options.parts:
        report.figures += _measure_open(options, work)
    return report


def _measure_rates(options: Options, derived: Derived, resolution: int, report: Report) -> None:
    label = f"x{resolution}"
    inputs = Inputs(
        files=derived.files,
        n_samples=derived.n_samples,
        shape=derived.shape,
        batch_size=64,
        threads=options.threads,
    )
    results = measure(
        [*DENSE, *VARIANTS],
        inputs,
        Timing(options.rounds, options.seconds),
        lambda text: tell(f"{label}: {text}"),
    )
    rows = summarise(results, inputs, derived.bytes_per_sample, label)
    ratios = compare(rows)
    report.rows += rows
    report.ratios += ratios
    by_peer = {ratio.peer: ratio for ratio in ratios}
    memset, fastest = (2.0, 1.2) if resolution == 1 else (6.0, 3.0)
    report.figures += [
        _at_least(f"{label} dense / memset of the same ring", by_peer.get("clear_memset"), memset),
        _at_least(f"{label} dense / fastest clear", by_peer.get("clear_nontemporal"), fastest),
        _verification(label, by_peer.get("e2eio_unverified")),
        _at_least(
            f"{label} {options.threads} threads / 1 thread",
            by_peer.get("e2eio_one_thread"),
            1.8 if options.threads == 2 else None,
        ),
        _wire(label, rows),
    ]


def _at_least(name: str, ratio: Ratio | None, least: float | None) -> Figure:
    target = "" if least is None else f">= {least:g}"
    if ratio is None:
        return Figure(name, None, "x", target, None, note="not measured")
    reached = None if least is None else ratio.median >= least
    return Figure(name, ratio.median, "x", target, reached, [ratio.min, ratio.max])


def _verification(label: str, ratio: Ratio | None) -> Figure:
    name = f"{label} share of the time that verification takes"
    if ratio is None:
        return Figure(name, None, "%", "<= 5", None, note="not measured")
    shares = [100 * (1 - value) for value in (ratio.median, ratio.max, ratio.min)]
    return Figure(name, shares[0], "%", "<= 5", shares[0] <= 5, shares[1:])


def _wire(label: str, rows: list[Row]) -> Figure:
    name = f"{label} sparse batches, per core"
    row = next((each for each in rows if each.contender == "e2eio_wire"), None)
    if row is None or row.unavailable:
        note = row.unavailable if row else "not measured"
        return Figure(name, None, "jets/s", ">= 120000", None, note=note)
    speed = row.samples_per_s
    spread = [row.samples_per_s_min, row.samples_per_s_max]
    return Figure(name, speed, "jets/s", ">= 120000", speed >= 120_000, spread)


def _measure_start(options: Options, derived: Derived) -> list[Figure]:
    """Time first batches and watch the memory, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        tell("first batches")
        times_ms = sorted(pool.apply(time_first_batches, (derived.files["e2eio"], 21)))
    with context.Pool(1) as pool:
        tell(f"memory over {options.epochs} epochs")
        growth_mb = pool.apply(grow_over_epochs, (derived.files["e2eio"], options.epochs))
    median = times_ms[len(times_ms) // 2]
    return [
        Figure(
            "first batch after iter(), warm",
            median,
            "ms",
            "< 20",
            median < 20,
            [times_ms[0], times_ms[-1]],
        ),
        Figure(
            f"resident memory gained over {options.epochs} epochs",
            growth_mb,
            "MiB",
            "flat: < 1",
            growth_mb < 1,
        ),
    ]


def _measure_sizes(derived: Derived, resolution: int, report: Report) -> None:
    label = f"x{resolution}"
    tell(f"{label}: weighing formats")
    n = min(derived.n_samples, 256 if resolution == 1 else 64)
    images, _ = ToySource(resolution).chunk(0, n)
    sizes = weigh_formats(images)
    ours = derived.bytes_per_sample["e2eio"]
    report.sizes[label] = {"e2eio": ours, **sizes}
    smallest = min(
        ((size, name) for name, size in sizes.items() if isinstance(size, float | int)),
        default=(None, ""),
    )
    most = 0.58 if resolution == 1 else 0.41
    ratio = None if smallest[0] is None else ours / smallest[0]
    report.figures.append(
        Figure(
            f"{label} bytes per jet / smallest peer",
            ratio,
            "x",
            f"<= {most:g}",
            None if ratio is None else ratio <= most,
            note=smallest[1],
        )
    )


def _measure_open(options: Options, work: Path) -> list[Figure]:
    tell(f"opening a shard of {options.samples:,} samples")
    path = work / "large.e2e"
    write_empty_samples(path, options.samples)
    try:
        found = open_speed.measure(path, 5)
    finally:
        path.unlink()
    seconds = sorted(each["seconds"] for each in found)
    memory = max(each["mib"] for each in found)
    name = f"opening {options.samples:,} samples"
    median = statistics.median(seconds)
    return [
        Figure(name, median, "s", "< 1", median < 1, [seconds[0], seconds[-1]]),
        Figure(f"{name}: memory besides the offsets", memory, "MiB", "< 64", memory < 64),
    ]


def print_report(report: Report) -> None:
    """Print the rates, the sizes and the figures."""
    machine = report.environment
    print(f"\n{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB")
    if report.rows:
        print_table(report.rows, report.ratios)
    for label, sizes in report.sizes.items():
        known = sorted(((size, name) for name, size in sizes.items() if not isinstance(size, str)))
        listed = ", ".join(f"{name} {size:,.0f}" for size, name in known)
        missing = ", ".join(str(size) for size in sizes.values() if isinstance(size, str))
        print(f"{label} bytes per jet: {listed}" + (f"; {missing}" if missing else ""))
    print()
    for figure in report.figures:
        print(describe_figure(figure))


def parse(arguments: list[str] | None = None) -> tuple[Options, argparse.Namespace]:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--only", metavar="PARTS", help=f"comma-separated, out of: {', '.join(PARTS)}")
    add("--rounds", type=int, default=9, metavar="N", help="interleaved rounds (default: 9)")
    add("--threads", type=int, default=2, metavar="N", help="decoding threads (default: 2)")
    add("--quick", action="store_true", help="few jets and short rounds")
    add("--work", type=Path, metavar="DIR", help="keep the derived files here")
    add("--out", type=Path, metavar="DIR", help="where limits.json goes")
    add("--check", action="store_true", help="exit with 1 if a figure is not reached")
    told = parser.parse_args(arguments)
    parts = tuple(told.only.split(",")) if told.only else PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; expected {', '.join(PARTS)}")
    if told.rounds < 1 or told.threads < 1:
        parser.error("--rounds and --threads are at least 1")
    quick = told.quick
    options = Options(
        parts=parts,
        jets={1: 256, 3: 64} if quick else {1: 8192, 3: 2048},
        rounds=min(told.rounds, 3) if quick else told.rounds,
        seconds=0.3 if quick else 1.0,
        epochs=50 if quick else 1000,
        samples=100_000 if quick else 100_000_000,
        threads=told.threads,
    )
    return options, told


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    options, told = parse(arguments)
    try:
        with work_folder(told.work) as folder:
            report = run(options, folder)
    except (ContenderError, DataError) as error:
        return fail("limits", error)
    tell("")
    print_report(report)
    print(f"written: {save_result('limits', dataclasses.asdict(report), told.out)}")
    missed = [figure for figure in report.figures if figure.reached is False]
    return 1 if told.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
