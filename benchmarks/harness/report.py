"""From runs to rows, ratios, checks, a table and a verdict in plain words."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from contenders import CONTENDERS
from harness.contender import Inputs
from harness.rounds import Result, Status
from harness.tables import print_lines, say, say_time
from harness.talk import EPOCH_JETS, PUBLISHED

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
    status: Status = "measured"


@dataclass(frozen=True, slots=True)
class Ratio:
    """Speed of e2eio over that of a peer, paired round by round."""

    peer: str
    resolution: str
    median: float
    min: float
    max: float
    rounds: list[float]
    batch_size: int = 64


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
                bytes_per_sample=sizes.get(entry.format, result.own_bytes / inputs.n_samples),
                peak_rss_mb=round(result.peak_rss_mb, 1),
                n_verified=result.n_verified,
                settings=result.setting,
                settings_tried=[asdict(trial) for trial in result.trials],
                details=result.details,
                unavailable=result.unavailable,
                status=result.status,
            )
        )
    return rows


def compare(rows: Sequence[Row]) -> list[Ratio]:
    """Divide e2eio's speed by each peer's, round by round; nothing if e2eio is not among them."""
    ratios = []
    for ours in (row for row in rows if row.contender == OURS and row.samples_per_s_rounds):
        for row in rows:
            same = (row.resolution, row.batch_size) == (ours.resolution, ours.batch_size)
            if row is ours or not same or not row.samples_per_s_rounds:
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
                    row.batch_size,
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
    # The figures are for batches of 64; another size stands in where that was not measured.
    ratios = sorted(ratios, key=lambda ratio: abs(ratio.batch_size - 64))
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
    measured = [row for row in rows if row.contender == OURS and row.samples_per_s]
    ours = min(measured, key=lambda row: (row.resolution, abs(row.batch_size - 64)), default=None)
    if ours is None:
        return "e2eio was not measured in this run, so there is nothing to compare."
    speed = {
        ratio.peer: ratio.median
        for ratio in ratios
        if (ratio.resolution, ratio.batch_size) == (ours.resolution, ours.batch_size)
    }
    phrases = {
        "torch_parquet": "{} x the Parquet reader",
        "torch_hdf5": "{} x gzipped HDF5",
        "torch_npy": "{} x raw npy files",
        "torch_npy_batched": "{} x raw npy files gathered by batches",
        "clear_memset": "{} x the speed at which memset clears the same memory",
        "clear_nontemporal": "{} x the fastest way to clear it",
    }
    parts = [phrase.format(say(speed[peer])) for peer, phrase in phrases.items() if peer in speed]
    speed_told = f"{ours.samples_per_s:,.0f} jets/s at {ours.resolution}"
    text = f"e2eio delivers {speed_told} on {ours.threads} threads"
    text += f": {_enumerate(parts)}." if parts else "."
    node = PUBLISHED[0]
    read_s = node.read_s[ours.resolution]
    n_batches = EPOCH_JETS / node.batch_size
    share = read_s * n_batches / 60 / node.epoch_min[ours.resolution]
    minutes = f"{read_s * n_batches / 60:,.0f} minutes, {share:.0%} of the time"
    return (
        f"{text} On the talk's {node.name} node ({read_s} s a batch of {node.batch_size}: "
        f"{node.batch_size / read_s:,.0f} jets/s) reading an epoch of {EPOCH_JETS / 1e6:.2f} million jets "
        f"took {minutes}; at the rate measured here it takes "
        f"{say_time(EPOCH_JETS / ours.samples_per_s)}."
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
    by_peer = {(ratio.peer, ratio.resolution, ratio.batch_size): ratio for ratio in ratios}
    several = len({row.batch_size for row in rows}) > 1
    lines, ours = [], set()
    for row in rows:
        size = f" b{row.batch_size}" if several else ""
        name = f"{row.resolution}{size} {row.title}"
        if row.contender == OURS:
            ours.add(name)
        if row.unavailable:
            lines.append(
                [name, "-", "-", "-", "-", "-", "-", "-", f"{row.status}: {row.unavailable}"]
            )
            continue
        ratio = by_peer.get((row.contender, row.resolution, row.batch_size))
        lines.append(
            [
                name,
                f"{row.samples_per_s:,.0f}",
                f"{row.samples_per_s_min:,.0f} - {row.samples_per_s_max:,.0f}",
                f"{row.ms_per_batch:,.2f}",
                f"{say(ratio.median)} x" if ratio else "",
                f"{say(ratio.min)} - {say(ratio.max)}" if ratio else "",
                f"{row.bytes_per_sample:,.0f}" if row.bytes_per_sample else "",
                f"{row.peak_rss_mb:,.0f}",
                ", ".join(f"{key} {value}" for key, value in row.settings.items()),
            ]
        )
    print_lines(header, lines, left={0, len(header) - 1}, bold=ours)


def _enumerate(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
