"""From runs to rows, ratios, checks, a table and a verdict in plain words."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from contenders import CONTENDERS
from harness.contender import Inputs
from harness.rounds import Result

__all__ = [
    "Check",
    "Ratio",
    "Row",
    "Storage",
    "compare",
    "draw_verdict",
    "print_table",
    "run_checks",
    "summarise",
    "weigh",
]

OURS = "e2eio_dense"
# Talk "Accelerating deep learning reconstruction using CMS Open Data", Tesla P100 node: seconds to
# read a batch of 32,
# 80,000 batches an epoch, and minutes that an epoch of training took in all.
TALK_BATCH = 32
TALK_BATCHES = 80_000
TALK_READ_S = {"x1": 0.119, "x3": 0.833}
TALK_EPOCH_MIN = {"x1": 321, "x3": 1663}
LEAST_SPEED_RATIO = {"torch_parquet": 100.0, "torch_npy": 4.0}  # at x1
MOST_BYTES_RATIO = {"x1": 0.38, "x3": 0.21}


@dataclass(frozen=True, slots=True)
class Row:
    """One contender at one resolution; see the README for the keys."""

    contender: str
    title: str
    resolution: str
    channels: int
    batch_size: int
    threads: int
    samples_per_s: float
    samples_per_s_min: float
    samples_per_s_max: float
    samples_per_s_rounds: list[float]
    ms_per_batch: float
    bytes_per_sample: float
    peak_rss_mb: float
    n_verified: int
    settings: dict[str, int | str]
    settings_tried: list[dict[str, object]]
    details: dict[str, int | str]
    unavailable: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """Speed of e2eio over that of a peer, paired round by round."""

    peer: str
    resolution: str
    median: float
    min: float
    max: float
    rounds: list[float]


@dataclass(frozen=True, slots=True)
class Storage:
    """Stored bytes per jet by format, and e2eio's share of the Parquet file's."""

    resolution: str
    bytes_per_sample: dict[str, float]
    e2eio_to_parquet: float | None
    target: float


@dataclass(frozen=True, slots=True)
class Check:
    """A figure to reach."""

    name: str
    value: float | None
    target: str
    passed: bool


def summarise(
    results: Iterable[Result], inputs: Inputs, sizes: dict[str, float], resolution: str
) -> list[Row]:
    """Condense the runs of one resolution into a row per contender."""
    rows = []
    for result in results:
        speeds = [run.samples_per_s for run in result.runs]
        median = statistics.median(speeds) if speeds else 0.0
        entry = CONTENDERS[result.name]
        rows.append(
            Row(
                contender=result.name,
                title=entry.title,
                resolution=resolution,
                channels=inputs.shape[0],
                batch_size=inputs.batch_size,
                threads=int(result.setting.get("threads", result.setting.get("workers", 0)) or 1),
                samples_per_s=median,
                samples_per_s_min=min(speeds, default=0.0),
                samples_per_s_max=max(speeds, default=0.0),
                samples_per_s_rounds=speeds,
                ms_per_batch=1000 * inputs.batch_size / median if median else 0.0,
                bytes_per_sample=sizes.get(entry.format, 0.0),
                peak_rss_mb=round(result.peak_rss_mb, 1),
                n_verified=result.n_verified,
                settings=result.setting,
                settings_tried=[asdict(trial) for trial in result.trials],
                details=result.details,
                unavailable=result.unavailable,
            )
        )
    return rows


def compare(rows: Sequence[Row]) -> list[Ratio]:
    """Divide e2eio's speed by each peer's, round by round; nothing if e2eio is not among them."""
    ratios = []
    for ours in (row for row in rows if row.contender == OURS and row.samples_per_s_rounds):
        for row in rows:
            if row is ours or row.resolution != ours.resolution or not row.samples_per_s_rounds:
                continue
            pairs = zip(ours.samples_per_s_rounds, row.samples_per_s_rounds, strict=True)
            rounds = [a / b for a, b in pairs]
            ratios.append(
                Ratio(
                    row.contender,
                    row.resolution,
                    statistics.median(rounds),
                    min(rounds),
                    max(rounds),
                    rounds,
                )
            )
    return ratios


def weigh(sizes: dict[str, float], resolution: str) -> Storage:
    """Compare stored sizes."""
    ratio = sizes["e2eio"] / sizes["parquet"] if {"e2eio", "parquet"} <= sizes.keys() else None
    return Storage(resolution, sizes, ratio, MOST_BYTES_RATIO[resolution])


def run_checks(ratios: Sequence[Ratio], storage: Sequence[Storage]) -> list[Check]:
    """Compare with the figures to reach; what was not measured has not been reached."""
    checks = []
    for peer, least in LEAST_SPEED_RATIO.items():
        value = next((r.median for r in ratios if r.peer == peer and r.resolution == "x1"), None)
        name = f"speed of e2eio / {CONTENDERS[peer].title}, x1"
        checks.append(Check(name, value, f">= {least:g}", value is not None and value >= least))
    for item in storage:
        value = item.e2eio_to_parquet
        name = f"stored bytes of e2eio / Parquet, {item.resolution}"
        checks.append(
            Check(name, value, f"<= {item.target:g}", value is not None and value <= item.target)
        )
    return checks


def draw_verdict(rows: Sequence[Row], ratios: Sequence[Ratio]) -> str:
    """Say what the numbers mean."""
    ours = next((row for row in rows if row.contender == OURS and row.samples_per_s), None)
    if ours is None:
        return "e2eio was not measured in this run, so there is nothing to compare."
    speed = {ratio.peer: ratio.median for ratio in ratios if ratio.resolution == ours.resolution}
    phrases = {
        "torch_parquet": "{} x the Parquet reader",
        "torch_hdf5": "{} x gzipped HDF5",
        "torch_npy": "{} x raw npy files",
        "torch_npy_batched": "{} x raw npy files gathered by batches",
        "clear_memset": "{} x the speed at which memset clears the same memory",
        "clear_nontemporal": "{} x the fastest way to clear it",
    }
    parts = [phrase.format(_say(speed[peer])) for peer, phrase in phrases.items() if peer in speed]
    speed_told = f"{ours.samples_per_s:,.0f} jets/s at {ours.resolution}"
    text = f"e2eio delivers {speed_told} on {ours.threads} threads"
    text += f": {_enumerate(parts)}." if parts else "."
    read_s = TALK_READ_S[ours.resolution]
    jets = TALK_BATCH * TALK_BATCHES
    share = read_s * TALK_BATCHES / 60 / TALK_EPOCH_MIN[ours.resolution]
    minutes = f"{read_s * TALK_BATCHES / 60:,.0f} minutes, {share:.0%} of the time"
    return (
        f"{text} On the talk's P100 node ({read_s} s a batch of {TALK_BATCH}: "
        f"{TALK_BATCH / read_s:,.0f} jets/s) reading an epoch of {jets / 1e6:.2f} million jets "
        f"took {minutes}; at the rate measured here it takes "
        f"{_say_time(jets / ours.samples_per_s)}."
    )


def print_table(rows: Sequence[Row], ratios: Sequence[Ratio]) -> None:
    """Print one table, with rich where it is installed."""
    header = [
        "",
        "jets/s",
        "min - max",
        "ms/batch",
        "e2eio is",
        "min - max",
        "bytes/jet",
        "peak MB",
        "settings",
    ]
    by_peer = {(ratio.peer, ratio.resolution): ratio for ratio in ratios}
    lines = []
    for row in rows:
        name = f"{row.resolution} {row.title}"
        if row.unavailable:
            lines.append([name, "-", "-", "-", "-", "-", "-", "-", row.unavailable])
            continue
        ratio = by_peer.get((row.contender, row.resolution))
        lines.append(
            [
                name,
                f"{row.samples_per_s:,.0f}",
                f"{row.samples_per_s_min:,.0f} - {row.samples_per_s_max:,.0f}",
                f"{row.ms_per_batch:,.2f}",
                f"{_say(ratio.median)} x" if ratio else "",
                f"{_say(ratio.min)} - {_say(ratio.max)}" if ratio else "",
                f"{row.bytes_per_sample:,.0f}" if row.bytes_per_sample else "",
                f"{row.peak_rss_mb:,.0f}",
                ", ".join(f"{key} {value}" for key, value in row.settings.items()),
            ]
        )
    _print_lines(header, lines)


def _print_lines(header: list[str], lines: list[list[str]]) -> None:
    try:
        from rich import box
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ImportError:
        widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
        for line in [header, *lines]:
            cells = [
                c.ljust(w) if k in (0, 8) else c.rjust(w)
                for k, (c, w) in enumerate(zip(line, widths, strict=True))
            ]
            print("  ".join(cells).rstrip())
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for k, name in enumerate(header):
        table.add_column(name, justify="left" if k in (0, 8) else "right", no_wrap=k != 8)
    previous = ""
    for line in lines:
        resolution = line[0].split()[0]
        if previous and resolution != previous:
            table.add_section()
        previous = resolution
        table.add_row(*map(escape, line), style="bold" if line[0].endswith(" e2eio") else None)
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def _say(value: float) -> str:
    """Three digits where they mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _say_time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"


def _enumerate(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
