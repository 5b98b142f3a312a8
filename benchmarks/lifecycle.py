"""How fast does a loader let go?

Dropping an iterator in mid-epoch until its threads are joined, beside torch's DataLoader with 2 workers in the
same run; the end of the process in several states; the answer to Ctrl-C while the storage stalls; the first
batch. Times include whatever else the machine does.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import e2eio
from e2eio.shards import open_shard, shard_paths
from harness.command import make_parser, work_folder
from harness.data import ToySource, derive_shards
from harness.environment import describe
from harness.memory import time_first_batches
from harness.progress import tell
from harness.results import BenchmarkReport, save_result

__all__ = ["Report", "Times", "main", "run"]

EXAMPLES = """\
examples:
  python benchmarks/lifecycle.py            all figures, some five minutes
  python benchmarks/lifecycle.py --quick    few repetitions: what it does, not what it reaches
  python benchmarks/lifecycle.py --check    exit code 1 if a figure is not reached
"""
BATCH = 64
STALLED = (100_000.0, 0.0)  # bytes/s: a batch takes seconds

# What the process does once a batch was delivered (or the storage has stalled), and its exit code.
STATES: dict[str, tuple[str, int]] = {
    "live iterator": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "uncaught exception": ("raise RuntimeError", 1),
    "os._exit": ("os._exit(4)", 4),
    "iterator in a cycle": ("cycle = [iterator]; cycle.append(cycle); del iterator, loader", 0),
    "daemon thread iterates": (
        "threading.Thread(target=lambda: [None for _ in iterator], daemon=True).start()",
        0,
    ),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
}

PROGRAM = f"""
import os, signal, sys, threading, time
import e2eio
from e2eio.shards import open_shard
path, framework, stalls, text = sys.argv[1:]
dataset = e2eio.Dataset(open_shard(path, throttle={STALLED} if stalls == "stalled" else None))
loader = e2eio.Loader(dataset, batch_size={BATCH}, framework=framework)
iterator = iter(loader)
kept = None if stalls == "stalled" else next(iterator)
sys.stderr = open(os.devnull, "w")
print("begin", flush=True)
exec(text)
"""

INTERRUPTED = """
try:
    while True:
        list(iterator)
except KeyboardInterrupt:
    caught = time.monotonic()
    del iterator
    print(caught, time.monotonic(), flush=True)
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Times:
    """One figure: milliseconds, each of the repetitions; `target_ms` is for the 99th percentile."""

    name: str
    times_ms: list[float]
    target_ms: float | None = None
    note: str = ""

    @property
    def p50(self) -> float:
        return statistics.median(self.times_ms)

    @property
    def p99(self) -> float:
        return sorted(self.times_ms)[min(len(self.times_ms) - 1, int(0.99 * len(self.times_ms)))]

    @property
    def reached(self) -> bool | None:
        return None if self.target_ms is None else self.p99 < self.target_ms


@dataclasses.dataclass(slots=True)
class Report(BenchmarkReport):
    """What was measured."""

    format: str = "e2eio-lifecycle"
    figures: list[Times] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How often; as on the command line."""

    drops: int
    torch_drops: int
    ends: int
    interrupts: int
    jets: int


def run(options: Options, work: Path) -> Report:
    """Measure everything with toy jets written to `work`."""
    report = Report(describe(), dataclasses.asdict(options))
    tell(f"writing {options.jets} x1 jets")
    dataset = derive_shards(ToySource(1), options.jets, work).files["e2eio"]
    shard = str(shard_paths(dataset)[0])
    report.figures += _measure_drops(options, dataset, shard)
    tell("Ctrl-C")
    report.figures += _measure_interrupts(options, shard)
    for framework in ("numpy", "torch"):
        report.figures += _measure_ends(options, shard, framework)
    tell("first batches")
    report.figures.append(
        Times("first batch after iter(), warm", time_first_batches(dataset, 21), 20)
    )
    return report


def _drop_time_ms(loader: Any, n: int) -> float:
    """Time dropping an iterator after n batches; all threads that it began are gone then."""
    before = _count_tasks()
    iterator = iter(loader)
    for _ in range(n):
        next(iterator)
    begin = time.perf_counter()
    del iterator
    elapsed_ms = 1000 * (time.perf_counter() - begin)
    give_up = time.monotonic() + 5
    while _count_tasks() > before:  # the system forgets joined threads a moment later
        if time.monotonic() > give_up:
            raise RuntimeError(f"{_count_tasks() - before} threads are left after a drop")
    return elapsed_ms


def _count_tasks() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208


def _measure_drops(options: Options, dataset: str, shard: str) -> list[Times]:
    import torch

    settings: dict[str, Any] = {"batch_size": BATCH, "shuffle": True}
    ours = e2eio.Loader(dataset, framework="torch", **settings)
    stalled = e2eio.Loader(
        e2eio.Dataset(open_shard(shard, throttle=STALLED)), framework="torch", **settings
    )
    theirs: Any = torch.utils.data.DataLoader(
        e2eio.Dataset(dataset),  # type: ignore[arg-type]
        num_workers=2,
        **settings,
    )
    per_round = max(1, options.drops // options.torch_drops)
    times: dict[str, list[float]] = {"ours": [], "stalled": [], "theirs": []}
    n_batches = len(ours)
    for n in range(options.torch_drops):
        tell(f"drops, round {n + 1} of {options.torch_drops}")
        times["ours"] += [_drop_time_ms(ours, i % n_batches) for i in range(per_round)]
        times["stalled"] += [_drop_time_ms(stalled, 0) for _ in range(max(1, per_round // 10))]
        times["theirs"].append(_drop_worker_processes_ms(theirs))
    ratio = statistics.median(times["theirs"]) / statistics.median(times["ours"])
    return [
        Times("drop in mid-epoch until joined", times["ours"], 10),
        Times("the same, the storage stalls", times["stalled"], 10),
        Times("torch DataLoader, 2 workers", times["theirs"], note=f"{ratio:.0f} x e2eio's (p50)"),
    ]


def _drop_worker_processes_ms(loader: Any) -> float:
    iterator = iter(loader)
    next(iterator)
    begin = time.perf_counter()
    del iterator
    return 1000 * (time.perf_counter() - begin)


def _start(shard: str, framework: str, stalls: str, text: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, shard, framework, stalls, text],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "begin\n":
        raise RuntimeError(f"the program has not begun: exit code {process.wait()}")
    return process


def _measure_ends(options: Options, shard: str, framework: str) -> list[Times]:
    """Time the end of the process in each state; beside torch, what it adds to torch's own end."""
    alone = "del iterator, loader, kept"
    tell(f"process exit, {framework}: no loader any more")
    times = [_end_time_ms(shard, framework, "flows", alone, 0) for _ in range(options.ends)]
    found = [Times(f"process exit, {framework}: no loader any more", times)]
    base_ms = 0.0 if framework == "numpy" else found[0].p50
    added = "" if framework == "numpy" else ", added"
    for stalls in ("flows", "stalled"):
        for state, (text, code) in STATES.items():
            name = f"process exit, {framework}{added}: {state}"
            name += ", the storage stalls" if stalls == "stalled" else ""
            tell(name)
            times = [
                _end_time_ms(shard, framework, stalls, text, code) for _ in range(options.ends)
            ]
            found.append(Times(name, [each - base_ms for each in times], 500))
    return found


def _end_time_ms(shard: str, framework: str, stalls: str, text: str, code: int) -> float:
    process = _start(shard, framework, stalls, text)
    begin = time.perf_counter()
    process.communicate(timeout=60)
    if process.returncode != code:
        raise RuntimeError(f"{text!r}: exit code {process.returncode}, expected {code}")
    return 1000 * (time.perf_counter() - begin)


def _measure_interrupts(options: Options, shard: str) -> list[Times]:
    raised_ms, joined_ms = [], []
    for _ in range(options.interrupts):
        process = _start(shard, "numpy", "stalled", INTERRUPTED)
        time.sleep(0.1)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        caught, joined = (float(word) for word in out.split())
        raised_ms.append(1000 * (caught - begin))
        joined_ms.append(1000 * (joined - begin))
    return [
        Times("Ctrl-C while the storage stalls, until raised", raised_ms, 200),
        Times("the same, until joined", joined_ms, 210),
    ]


def print_report(report: Report) -> None:
    """Print a line for each figure."""
    machine = report.environment
    print(f"\n{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB\n")
    print(f"{'':8}{'':62}{'n':>6}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}  target for p99")
    for each in report.figures:
        outcome = {True: "reached", False: "MISSED ", None: "       "}[each.reached]
        target = "" if each.target_ms is None else f"< {each.target_ms:g} ms"
        row = f"{len(each.times_ms):6}{each.p50:10.2f}{each.p99:10.2f}{max(each.times_ms):10.2f}"
        print(f"{outcome} {each.name:62}{row}  {target}{each.note}")


def as_dict(report: Report) -> dict[str, Any]:
    """Return the report with the summaries of its figures."""
    content = dataclasses.asdict(report)
    for figure, each in zip(content["figures"], report.figures, strict=True):
        figure.update(p50=each.p50, p99=each.p99, reached=each.reached)
    return content


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--quick", action="store_true", help="few repetitions")
    add("--work", type=Path, metavar="DIR", help="keep the jets here")
    add("--out", type=Path, metavar="DIR", help="where lifecycle.json goes")
    add("--check", action="store_true", help="exit with 1 if a figure is not reached")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    told = parse(arguments)
    options = Options(drops=1000, torch_drops=50, ends=5, interrupts=20, jets=1024)
    if told.quick:
        options = Options(drops=20, torch_drops=2, ends=1, interrupts=2, jets=256)
    with work_folder(told.work) as folder:
        report = run(options, folder)
    tell("")
    print_report(report)
    print(f"written: {save_result('lifecycle', as_dict(report), told.out)}")
    missed = [figure for figure in report.figures if figure.reached is False]
    return 1 if told.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
