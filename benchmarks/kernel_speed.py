"""How fast is each kernel, and what bounds it?

Builds and runs benchmarks/kernels/kernel_speed.cpp: every kernel of every set that this machine
runs, on the pixels of jets at x1 and x3, and beside them copies and clears of memory. Cycles are
those of the reference clock, which ticks at a constant rate.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.command import fail, make_parser
from harness.environment import describe
from harness.results import BenchmarkReport, save_result

__all__ = ["KernelRow", "Report", "condense", "main"]

EXAMPLES = """\
examples:
  python benchmarks/kernel_speed.py --quick             some seconds
  python benchmarks/kernel_speed.py                     a few minutes, on a machine with nothing else to do
  python benchmarks/kernel_speed.py --filter gaps       kernels, inputs or sets that match
  python benchmarks/render.py                           then: write docs/performance.md anew
"""
ROOT = Path(__file__).resolve().parents[1]
SETS = ("memory", "avx512", "avx2", "neon", "scalar")  # as printed
PROGRAM = ROOT / "build" / "bench" / "benchmarks" / "kernels" / "kernel_speed"


@dataclasses.dataclass(frozen=True, slots=True)
class KernelRow:
    """One kernel of one set on one input; see the README for the keys."""

    kernel: str
    input: str
    kernels: str
    cycles_per_item: float
    cycles_per_item_min: float
    cycles_per_item_max: float
    cycles_per_byte: float
    bytes_per_item: float
    items_per_call: float
    items_per_s: float
    bytes_per_s: float
    repetitions: int


@dataclasses.dataclass(slots=True)
class Report(BenchmarkReport):
    """What was measured."""

    format: str = "e2eio-kernel-speed"
    compiler: str = ""
    caches: list[dict[str, object]] = dataclasses.field(default_factory=list)
    rows: list[KernelRow] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """What google-benchmark tells."""

    runs: list[dict[str, object]]
    caches: list[dict[str, object]]


def condense(runs: Iterable[Mapping[str, object]]) -> list[KernelRow]:
    """Take the median over the repetitions of each benchmark, in order of appearance.

    Parameters
    ----------
    runs
        The "benchmarks" of google-benchmark's JSON.
    """
    by_name: dict[str, list[Mapping[str, object]]] = defaultdict(list)
    for run in runs:
        if run.get("run_type", "iteration") == "iteration":
            by_name[str(run["run_name"])].append(run)
    rows = []
    for name, group in by_name.items():
        kernel, source, kernels = name.split("/")
        cycles = _values(group, "cycles_per_item")
        rows.append(
            KernelRow(
                kernel=kernel,
                input=source,
                kernels=kernels,
                cycles_per_item=statistics.median(cycles),
                cycles_per_item_min=min(cycles),
                cycles_per_item_max=max(cycles),
                cycles_per_byte=statistics.median(_values(group, "cycles_per_byte")),
                bytes_per_item=statistics.median(_values(group, "bytes_per_item")),
                items_per_call=statistics.median(_values(group, "items_per_call")),
                items_per_s=statistics.median(_values(group, "items_per_second")),
                bytes_per_s=statistics.median(_values(group, "bytes_per_second")),
                repetitions=len(group),
            )
        )
    return sorted(rows, key=lambda row: (row.kernel, row.input, SETS.index(row.kernels)))


def main(arguments: list[str] | None = None) -> int:
    """Build, measure, print and write; return the exit code."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--quick", action="store_true", help="few and short repetitions")
    parser.add_argument("--filter", default=".", metavar="REGEX", help="of kernel/input/set")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where the JSON goes (default: benchmarks/results/<date>-kernel_speed)",
    )
    told = parser.parse_args(arguments)
    try:
        _build()
        measured = _measure(told.quick, told.filter)
    except (OSError, subprocess.CalledProcessError) as error:
        return fail("kernel_speed", error)
    compiler = PROGRAM.with_name("compiler.txt").read_text(encoding="utf-8").strip()
    options = {"quick": told.quick, "filter": told.filter}
    report = Report(describe(), options, compiler=compiler, caches=measured.caches)
    report.rows = condense(measured.runs)
    _print(report.rows)
    path = save_result("kernel_speed", dataclasses.asdict(report), told.out)
    print(f"written: {path}")
    return 0


def _build() -> None:
    for command in (
        ["cmake", "--preset", "bench", "--log-level=WARNING"],
        ["cmake", "--build", "--preset", "bench"],
    ):
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    if not PROGRAM.exists():
        raise FileNotFoundError(
            "no google-benchmark, expected its library; apt-get install libbenchmark-dev, or "
            "make kernel-speed"
        )


def _measure(quick: bool, names: str) -> Measured:
    """Run all, repetitions in random order: what else the machine does then hits all alike."""
    command = [
        str(PROGRAM),
        f"--benchmark_filter={names}",
        f"--benchmark_repetitions={3 if quick else 9}",
        f"--benchmark_min_time={0.003 if quick else 0.05}",
        "--benchmark_enable_random_interleaving=true",
        "--benchmark_format=json",
    ]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    told = json.loads(done.stdout)
    return Measured(told["benchmarks"], told["context"]["caches"])


def _print(rows: Iterable[KernelRow]) -> None:
    print(f"{'kernel':20} {'input':16} {'set':8} {'cycles/item':>11} {'bytes/item':>10} items/s")
    for row in rows:
        print(
            f"{row.kernel:20} {row.input:16} {row.kernels:8} {row.cycles_per_item:11.2f} "
            f"{row.bytes_per_item:10.1f} {row.items_per_s:.3g}"
        )


def _values(group: Iterable[Mapping[str, object]], key: str) -> list[float]:
    return [float(str(run[key])) for run in group]


if __name__ == "__main__":
    sys.exit(main())
