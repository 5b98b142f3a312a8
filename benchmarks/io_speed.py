"""How fast do batches of jet images come, in e2eio and in what is used today?

The same jets, in the same run, in interleaved rounds, through every contender; what each delivers
is compared with the source, bit by bit, before anything is timed. The consumer does nothing with a
batch. `make peers` installs the contenders that are not there; who is missing or fails has a line
that says so. The same --out again goes on after an interruption.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from contenders import CONTENDERS
from harness.campaign import Budget, Kept, measure_cell
from harness.command import fail, make_parser
from harness.contender import ContenderError, Inputs
from harness.data import DataError, Derived, JetSource, ParquetJets, ToySource, derive
from harness.environment import describe
from harness.peer_environments import find_versions
from harness.picture import draw
from harness.progress import tell
from harness.report import (
    OURS,
    Check,
    Ratio,
    Row,
    Storage,
    draw_verdict,
    print_table,
    run_checks,
    weigh,
)
from harness.results import BenchmarkReport, name_folder, save_result
from harness.rounds import Timing
from harness.talk import Entry, print_talk, tabulate

__all__ = ["Options", "Report", "main", "parse", "print_report", "run", "save"]

EXAMPLES = """\
examples:
  python benchmarks/io_speed.py --quick               under a minute, x1 only
  python benchmarks/io_speed.py                       x1 and x3, batches of 32 and 64, under an hour
  python benchmarks/io_speed.py --out DIR             the same; again, it goes on where it was stopped
  python benchmarks/io_speed.py --data jets.parquet   on your own jets (published layout)
  python benchmarks/io_speed.py --contenders e2eio_dense,torch_npy --threads 8
  python benchmarks/io_speed.py --check               exit code 1 if a figure is not reached
"""
QUICK_S = 50.0  # of a minute: what contenders have; the first in the list come first


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What to measure; as on the command line."""

    data: Path | None
    jets: int | None
    resolutions: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    threads: int
    rounds: int
    seconds: float
    contenders: tuple[str, ...]
    work: Path | None
    quick: bool
    budget_s: float | None = None
    timeout_s: float = 600.0


@dataclasses.dataclass(slots=True)
class Report(BenchmarkReport):
    """What was measured."""

    format: str = "e2eio-io-speed"
    data: list[str] = dataclasses.field(default_factory=list)
    rows: list[Row] = dataclasses.field(default_factory=list)
    ratios: list[Ratio] = dataclasses.field(default_factory=list)
    storage: list[Storage] = dataclasses.field(default_factory=list)
    checks: list[Check] = dataclasses.field(default_factory=list)
    talk: list[Entry] = dataclasses.field(default_factory=list)
    peers: dict[str, str] = dataclasses.field(default_factory=dict)
    verdict: str = ""


def run(options: Options, finished: Path | None = None) -> Report:
    """Measure.

    Parameters
    ----------
    options : Options
    finished : Path, optional
        Folder where finished contenders are kept; those that are there are not measured again.

    Raises
    ------
    DataError
        If the data cannot be had.
    ContenderError
        If e2eio itself delivers wrong data, or fails.
    """
    budget = Budget(options.budget_s)
    as_told = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in dataclasses.asdict(options).items()
    }
    report = Report(describe(), as_told)
    conditions = {key: as_told[key] for key in ("data", "jets", "threads", "rounds", "seconds")}
    machine = {key: report.environment[key] for key in ("cpu", "cores", "commit", "versions")}
    kept = Kept(finished, {**conditions, **machine})
    entries = [CONTENDERS[name] for name in options.contenders]
    report.peers = {entry.group: find_versions(entry.group) for entry in entries if entry.group}
    formats = {entry.format for entry in entries} - {""}
    sources: list[JetSource] = (
        [ParquetJets(options.data)]
        if options.data
        else [ToySource(resolution) for resolution in options.resolutions]
    )
    for source in sources:
        resolution = f"x{source.resolution}"
        n_jets = options.jets or _default_jets(source.resolution, options.quick)
        # Whole batches: a loader that never ends knows no shorter last one.
        n_jets = math.lcm(*options.batch_sizes) * -(-n_jets // math.lcm(*options.batch_sizes))
        with _make_work_folder(options.work, resolution) as folder:
            report.data.append(f"{resolution}: {n_jets} jets, {source.description}")
            tell(
                f"{resolution}: writing {n_jets} jets as {', '.join(sorted(formats)) or 'nothing'}"
            )
            derived = derive(source, n_jets, folder, formats)
            _measure(options, derived, resolution, report, kept, budget)
            report.storage.append(weigh(derived.bytes_per_sample, resolution))
    report.checks = run_checks(report.ratios, report.storage)
    report.talk = tabulate(report.rows)
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
    if any(row.status == "not run" for row in report.rows):
        print("not run: --quick ends after a minute; leave it out, or name some by --contenders")
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
    print()
    print_talk(report.talk)
    print(f"\n{report.verdict}")


def save(report: Report, folder: Path | None = None) -> list[Path]:
    """Write io_speed.json and, with matplotlib, io_speed.png; return the files written."""
    json_path = save_result("io_speed", dataclasses.asdict(report), folder)
    png_path = json_path.with_suffix(".png")
    machine = report.environment
    title = f"{machine['cpu']}, {machine['cores']} cores; {str(machine['date'])[:10]}"
    return (
        [json_path, png_path] if draw(report.rows, report.ratios, title, png_path) else [json_path]
    )


def parse(arguments: list[str] | None = None) -> tuple[Options, Path | None, bool]:
    """Read the command line: options, folder for the results, and whether to check."""
    parser = _make_parser()
    told = parser.parse_args(arguments)
    peers = tuple(name for name, entry in CONTENDERS.items() if entry.is_peer)
    is_named = told.contenders not in (None, "all")
    names = tuple(told.contenders.split(",")) if is_named else peers
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
        batch_sizes=told.batch or ((64,) if told.quick else (32, 64)),
        threads=told.threads,
        rounds=told.rounds or (3 if told.quick else 7),
        seconds=0.2 if told.quick else 1.0,
        contenders=tuple(dict.fromkeys(names)),
        work=told.work and told.work.resolve(),
        quick=told.quick,
        budget_s=QUICK_S if told.quick and not is_named else None,
        timeout_s=told.timeout or (60 if told.quick else 600),
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
    batches = "jets per batch, several by commas (default: 32,64; --quick: 64)"
    add("--batch", "--batch-size", type=_sizes, metavar="LIST", help=batches)
    add_number("--threads", default=2, help="threads, or worker processes (default: 2)")
    add_number("--rounds", help="interleaved rounds (default: 7; --quick: 3)")
    some = f"comma-separated, out of: {listed} (default: all; --quick: as many as a minute takes)"
    add("--contenders", metavar="LIST", help=some)
    hang = "seconds without an answer after which a contender counts as hanging (default: 600)"
    add_number("--timeout", help=hang)
    results = "where JSON and PNG go (default: benchmarks/results/<date>-io_speed); what is finished there is not measured again"
    add_folder("--out", help=results)
    add_folder("--work", help="keep the derived files here (default: a temporary folder)")
    add("--quick", action="store_true", help="few jets and short rounds: under a minute on 2 cores")
    add("--check", action="store_true", help="exit with 1 if a figure to reach is not reached")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    options, out, check = parse(arguments)
    folder = out or name_folder("io_speed")
    try:
        report = run(options, folder / "finished")
    except (ContenderError, DataError) as error:
        return fail("io_speed", error)
    except KeyboardInterrupt:
        tell("")
        print(f"interrupted; to go on, add: --out {folder}", file=sys.stderr)
        return 130
    print_report(report)
    files = save(report, folder)
    print(f"written: {', '.join(str(file) for file in files)}")
    failed = [item for item in report.checks if not item.passed]
    if check:
        for item in report.checks:
            value = "not measured" if item.value is None else f"{item.value:.3g}"
            outcome = "reached" if item.passed else "MISSED"
            print(f"{outcome}: {item.name}: {value} (target {item.target})")
    return 1 if check and failed else 0


def _measure(
    options: Options,
    derived: Derived,
    resolution: str,
    report: Report,
    kept: Kept,
    budget: Budget,
) -> None:
    timing = Timing(
        options.rounds,
        options.seconds,
        timeout_s=options.timeout_s,
        all_settings=not options.quick or options.budget_s is None,
        is_tolerant=True,
    )
    for batch_size in options.batch_sizes:
        inputs = Inputs(
            files=derived.files,
            n_samples=derived.n_samples,
            shape=derived.shape,
            batch_size=batch_size,
            threads=options.threads,
            folder=derived.folder,
        )
        label = f"{resolution}, batches of {batch_size}"
        rows, ratios = measure_cell(
            options.contenders,
            inputs,
            derived.bytes_per_sample,
            resolution,
            timing,
            kept=kept,
            budget=budget,
            tell=partial(_tell, label),
        )
        for row in rows:
            if row.contender == OURS and row.status in ("wrong", "failed"):
                raise ContenderError(row.unavailable)
        report.rows += rows
        report.ratios += ratios


def _tell(label: str, text: str) -> None:
    tell(f"{label}: {text}")


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


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_positive(word) for word in text.split(",")))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {value}, expected 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
