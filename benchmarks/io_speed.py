"""How fast do batches of jet images come, in e2eio and in what is used today?

The same jets, in the same run, in interleaved rounds, through every contender; what each delivers
is compared with the source, bit by bit, before anything is timed. The consumer does nothing with a
batch.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from contenders import CONTENDERS
from harness.command import fail, make_parser
from harness.contender import ContenderError, Inputs
from harness.data import DataError, Derived, JetSource, ParquetJets, ToySource, derive
from harness.environment import describe
from harness.picture import draw
from harness.progress import tell
from harness.report import (
    Check,
    Ratio,
    Row,
    Storage,
    compare,
    draw_verdict,
    print_table,
    run_checks,
    summarise,
    weigh,
)
from harness.results import BenchmarkReport, save_result
from harness.rounds import measure

__all__ = ["Options", "Report", "main", "parse", "print_report", "run", "save"]

EXAMPLES = """\
examples:
  python benchmarks/io_speed.py --quick               under a minute, x1 only
  python benchmarks/io_speed.py                       x1 and x3, a few minutes
  python benchmarks/io_speed.py --data jets.parquet   on your own jets (published layout)
  python benchmarks/io_speed.py --contenders e2eio_dense,torch_npy --threads 8
  python benchmarks/io_speed.py --check               exit code 1 if a figure is not reached
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What to measure; as on the command line."""

    data: Path | None
    jets: int | None
    resolutions: tuple[int, ...]
    batch_size: int
    threads: int
    rounds: int
    seconds: float
    contenders: tuple[str, ...]
    work: Path | None
    quick: bool


@dataclasses.dataclass(slots=True)
class Report(BenchmarkReport):
    """What was measured."""

    format: str = "e2eio-io-speed"
    data: list[str] = dataclasses.field(default_factory=list)
    rows: list[Row] = dataclasses.field(default_factory=list)
    ratios: list[Ratio] = dataclasses.field(default_factory=list)
    storage: list[Storage] = dataclasses.field(default_factory=list)
    checks: list[Check] = dataclasses.field(default_factory=list)
    verdict: str = ""


def run(options: Options) -> Report:
    """Measure.

    Raises
    ------
    DataError
        If the data cannot be had.
    ContenderError
        If a contender delivers wrong data, or fails while it is timed.
    """
    as_told = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in dataclasses.asdict(options).items()
    }
    report = Report(describe(), as_told)
    formats = {CONTENDERS[name].format for name in options.contenders} - {""}
    sources: list[JetSource] = (
        [ParquetJets(options.data)]
        if options.data
        else [ToySource(resolution) for resolution in options.resolutions]
    )
    for source in sources:
        resolution = f"x{source.resolution}"
        n_jets = options.jets or _default_jets(source.resolution, options.quick)
        with _make_work_folder(options.work, resolution) as folder:
            report.data.append(f"{resolution}: {n_jets} jets, {source.description}")
            tell(
                f"{resolution}: writing {n_jets} jets as {', '.join(sorted(formats)) or 'nothing'}"
            )
            derived = derive(source, n_jets, folder, formats)
            _measure(options, derived, resolution, report)
    report.checks = run_checks(report.ratios, report.storage)
    report.verdict = draw_verdict(report.rows, report.ratios)
    tell("")
    return report


def print_report(report: Report) -> None:
    """Print table, storage and verdict."""
    machine = report.environment
    print(
        f"\n{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; "
        f"page cache warm; {'; '.join(report.data)}"
    )
    print_table(report.rows, report.ratios)
    for item in report.storage:
        sizes = ", ".join(
            f"{name} {size:,.0f}"
            for name, size in sorted(item.bytes_per_sample.items(), key=lambda pair: pair[1])
        )
        line = f"stored bytes per jet at {item.resolution}: {sizes}"
        if item.e2eio_to_parquet is not None:
            line += (
                f"; e2eio / Parquet = {item.e2eio_to_parquet:.2f} (target: at most {item.target:g})"
            )
        print(line)
    print(f"\n{report.verdict}")


def save(report: Report, folder: Path | None = None) -> list[Path]:
    """Write io_speed.json and, with matplotlib, io_speed.png; return the files written."""
    json_path = save_result("io_speed", dataclasses.asdict(report), folder)
    png_path = json_path.with_suffix(".png")
    machine = report.environment
    batches = f"batches of {report.options['batch_size']}"
    title = f"{machine['cpu']}, {machine['cores']} cores; {batches}; {str(machine['date'])[:10]}"
    return (
        [json_path, png_path] if draw(report.rows, report.ratios, title, png_path) else [json_path]
    )


def parse(arguments: list[str] | None = None) -> tuple[Options, Path | None, bool]:
    """Read the command line: options, folder for the results, and whether to check."""
    parser = _make_parser()
    told = parser.parse_args(arguments)
    peers = tuple(name for name, entry in CONTENDERS.items() if entry.is_peer)
    names = tuple(told.contenders.split(",")) if told.contenders else peers
    if unknown := set(names) - set(CONTENDERS):
        parser.error(
            f"unknown contenders: {', '.join(sorted(unknown))}; "
            f"expected some of {', '.join(CONTENDERS)}"
        )
    if told.resolution and told.data:
        parser.error(
            "--resolution and --data exclude each other: a file has a resolution of its own"
        )
    options = Options(
        data=told.data,
        jets=told.jets,
        resolutions=(told.resolution,) if told.resolution else (1,) if told.quick else (1, 3),
        batch_size=told.batch_size,
        threads=told.threads,
        rounds=told.rounds or (5 if told.quick else 7),
        seconds=0.4 if told.quick else 1.0,
        contenders=tuple(dict.fromkeys(names)),
        work=told.work,
        quick=told.quick,
    )
    return options, told.out, told.check


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add_number = partial(add, type=_positive, metavar="N")
    add_folder = partial(add, type=Path, metavar="DIR")
    listed = ", ".join(CONTENDERS)
    layout = "Parquet file of jets in the published layout (default: toy jets)"
    add("--data", type=Path, metavar="FILE", help=layout)
    defaults = "2048 at x1, 256 at x3; --quick: 256, 64"
    add_number("--jets", help=f"number of jets (default: {defaults})")
    granularity = "pixels per crystal (default: 1 and 3; --quick: 1)"
    add("--resolution", type=int, choices=(1, 3), help=granularity)
    add_number("--batch-size", default=64, help="jets per batch (default: 64)")
    add_number("--threads", default=2, help="threads, or worker processes (default: 2)")
    add_number("--rounds", help="interleaved rounds (default: 7; --quick: 5)")
    add("--contenders", metavar="LIST", help=f"comma-separated, out of: {listed} (default: all)")
    results = "where JSON and PNG go (default: benchmarks/results/<date>-io_speed)"
    add_folder("--out", help=results)
    add_folder("--work", help="keep the derived files here (default: a temporary folder)")
    add("--quick", action="store_true", help="few jets and short rounds: under a minute on 2 cores")
    add("--check", action="store_true", help="exit with 1 if a figure to reach is not reached")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    options, out, check = parse(arguments)
    try:
        report = run(options)
    except (ContenderError, DataError) as error:
        return fail("io_speed", error)
    print_report(report)
    files = save(report, out)
    print(f"written: {', '.join(str(file) for file in files)}")
    failed = [item for item in report.checks if not item.passed]
    if check:
        for item in report.checks:
            value = "not measured" if item.value is None else f"{item.value:.3g}"
            outcome = "reached" if item.passed else "MISSED"
            print(f"{outcome}: {item.name}: {value} (target {item.target})")
    return 1 if check and failed else 0


def _measure(options: Options, derived: Derived, resolution: str, report: Report) -> None:
    inputs = Inputs(
        files=derived.files,
        n_samples=derived.n_samples,
        shape=derived.shape,
        batch_size=options.batch_size,
        threads=options.threads,
    )
    results = measure(
        list(options.contenders),
        inputs,
        n_rounds=options.rounds,
        seconds=options.seconds,
        tell=lambda text: tell(f"{resolution}: {text}"),
    )
    rows = summarise(results, inputs, derived.bytes_per_sample, resolution)
    report.rows += rows
    report.ratios += compare(rows)
    report.storage.append(weigh(derived.bytes_per_sample, resolution))


def _default_jets(resolution: int, quick: bool) -> int:
    """Take about as many bytes at x3 as at x1: an image is nine times as large."""
    return {(1, False): 2048, (3, False): 256, (1, True): 256, (3, True): 64}[resolution, quick]


@contextlib.contextmanager
def _make_work_folder(work: Path | None, resolution: str) -> Iterator[Path]:
    if work is not None:
        folder = work / resolution
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="e2eio-bench-", dir=cache))
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="e2eio-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {value}, expected 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
