"""One run of io_speed: sources, contenders, what was measured."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from contenders import CONTENDERS
from harness.campaign import Budget, Kept, measure_cell
from harness.contender import ContenderError, Inputs
from harness.data import Derived, JetSource, ParquetJets, ToySource, derive
from harness.environment import describe
from harness.peer_environments import find_versions
from harness.progress import tell
from harness.report import OURS, Check, Ratio, Row, Storage, draw_verdict, run_checks, weigh
from harness.results import BenchmarkReport
from harness.rounds import Timing
from harness.talk import Entry, tabulate
from speed.options import Options

__all__ = ["Report", "run"]


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
