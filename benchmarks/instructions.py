"""How many instructions does a jet take?

Counts them with valgrind's callgrind while benchmarks/kernels/decode_jets.cpp decodes the same jets
every time, and compares with the figures in benchmarks/instructions.json: more than 10 % above is a
failure. Times depend on the machine and its load, counts on the compiler alone, so figures are kept
by compiler. Valgrind knows no AVX-512: the sets scalar and avx2 are counted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from harness.command import make_parser

__all__ = ["Count", "compare", "main", "read_callgrind"]

EXAMPLES = """\
examples:
  python benchmarks/instructions.py            count, compare, exit code 1 above +10 %
  python benchmarks/instructions.py --update   keep what is counted as the figures of this compiler
"""
ROOT = Path(__file__).resolve().parents[1]
FIGURES = Path(__file__).resolve().with_suffix(".json")
BUILD = ROOT / "build" / "bench"
SETS = ("scalar", "avx2")
MOST = 1.10  # times the figure
LEAST_SHARE = 0.05  # of all instructions: smaller stages are not compared one by one


@dataclass(frozen=True, slots=True)
class Count:
    """Instructions per jet, in all and by function, and what came out."""

    total: float
    stages: dict[str, float]
    digest: str


class CountingError(Exception):
    """Something needed is absent, or failed."""


def read_callgrind(text: str) -> Counter[str]:
    """Add up the instructions of each function itself, without those that it calls."""
    counts: Counter[str] = Counter()
    function = ""
    skip = False  # the line after "calls=" is about the called function
    for line in text.splitlines():
        if line.startswith("fn="):
            function = _short(line[3:])
        elif line.startswith("calls="):
            skip = True
        elif line[:1].isdigit():
            if not skip:
                counts[function] += int(line.split()[1])
            skip = False
    return counts


def compare(name: str, count: Count, figure: Count) -> list[str]:
    """Say what takes too many instructions.

    Parameters
    ----------
    name
        Kernel set.
    count, figure
        What was counted now, and what is allowed with 10 % more.
    """
    faults = []
    if count.total > MOST * figure.total:
        faults.append(f"{name}: {count.total:,.0f} a jet, the figure is {figure.total:,.0f}")
    for stage, told in figure.stages.items():
        now = count.stages.get(stage, 0.0)
        if told >= LEAST_SHARE * figure.total and now > MOST * told:
            faults.append(f"{name}: {stage}: {now:,.0f} a jet, the figure is {told:,.0f}")
    return faults


def main(arguments: list[str] | None = None) -> int:
    """Count, print, and compare or update; return the exit code."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--update", action="store_true", help="write the figures instead")
    told = parser.parse_args(arguments)
    if shutil.which("valgrind") is None:
        print("instructions: skipped: no valgrind (apt-get install valgrind)")
        return 0
    try:
        compiler = _build()
        counts = {name: count for name in SETS if (count := _count(name)) is not None}
    except CountingError as error:
        print(f"instructions: {error}", file=sys.stderr)
        return 1
    if len({count.digest for count in counts.values()}) > 1:
        print("instructions: the kernel sets do not decode to the same bits", file=sys.stderr)
        return 1
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    for name, count in counts.items():
        _print(name, count)
    if told.update:
        figures[compiler] = {name: _figure(count) for name, count in counts.items()}
        FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"instructions: figures of {compiler} written to {FIGURES.name}")
        return 0
    if compiler not in figures:
        print(f"instructions: skipped: no figure for {compiler}; run with --update to keep one")
        return 0
    faults = _compare_all(counts, figures[compiler])
    for fault in faults:
        print(f"instructions: {fault}; run with --update if that is meant", file=sys.stderr)
    if not faults:
        print(f"instructions: within 10 % of the figures of {compiler}")
    return 1 if faults else 0


def _compare_all(counts: dict[str, Count], figures: dict[str, dict[str, object]]) -> list[str]:
    faults = []
    for name, told in figures.items():
        if name not in counts:
            print(f"instructions: skipped: {name} does not run here")
            continue
        total, stages = told["total"], told["stages"]
        if not isinstance(total, (int, float)) or not isinstance(stages, dict):
            raise TypeError(f"{FIGURES}: {name}: expected a total and stages")
        faults += compare(name, counts[name], Count(total, stages, ""))
    return faults


def _figure(count: Count) -> dict[str, object]:
    stages = {name: round(n) for name, n in count.stages.items() if n >= 0.01 * count.total}
    return {"total": round(count.total), "stages": stages}


def _print(name: str, count: Count) -> None:
    print(f"{name}: {count.total:,.0f} instructions a jet")
    for stage, n in count.stages.items():
        if n >= 0.02 * count.total:
            print(f"  {n:9,.0f}  {n / count.total:5.1%}  {stage}")


def _build() -> str:
    """Build decode_jets; return the compiler's name and version."""
    for command in (
        ["cmake", "--preset", "bench", "--log-level=WARNING"],
        ["cmake", "--build", "--preset", "bench", "--target", "decode_jets"],
    ):
        done = _run(command, dict(os.environ))
        if done.returncode != 0:
            raise CountingError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    told = BUILD / "benchmarks" / "kernels" / "compiler.txt"
    return told.read_text(encoding="utf-8").strip()


def _count(name: str) -> Count | None:
    """Count with one kernel set; None if this machine does not have it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind"
        command = [
            "valgrind",
            "--tool=callgrind",
            "--toggle-collect=e2eio_decode_counted",
            "--compress-strings=no",
            "--compress-pos=no",
            f"--callgrind-out-file={out}",
            str(BUILD / "benchmarks" / "kernels" / "decode_jets"),
        ]
        done = _run(command, os.environ | {"E2EIO_KERNELS": name})
        if "E2EIO_KERNELS" in done.stderr:
            return None
        if done.returncode != 0:
            raise CountingError(f"decode_jets under valgrind failed:\n{done.stderr[-2000:]}")
        counted = read_callgrind(out.read_text(encoding="utf-8"))
    told = json.loads(done.stdout)
    stages = {stage: n / told["jets"] for stage, n in counted.most_common()}
    return Count(sum(stages.values()), stages, told["sum"])


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def _short(name: str) -> str:
    """Drop namespaces of ours, arguments and what the C library appends to its variants."""
    plain = name.replace("(anonymous namespace)::", "").replace("e2eio::", "")
    plain = re.sub(r"^(?:void|bool|auto) ", "", plain)
    return re.sub(r"[(<\[].*$", "", plain).removesuffix("'2") or name


if __name__ == "__main__":
    sys.exit(main())
