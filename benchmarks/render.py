"""Write docs/performance.md from the newest results in benchmarks/results.

No number gets into the page in another way: each section names its result file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.command import make_parser
from harness.results import RESULTS

__all__ = ["main", "render"]

EXAMPLES = """\
examples:
  python benchmarks/render.py            write docs/performance.md
  python benchmarks/render.py --check    exit code 1 if the page is not what the results say
"""
ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "benchmarks" / "instructions.json"
Result = Mapping[str, Any]  # a JSON document; the README of the benchmarks has its keys

TITLE = """\
# Performance

Written by `python benchmarks/render.py` from the newest file of each kind in `benchmarks/results`; do not edit.
"""
KERNELS = """\
Cycles are those of the reference clock (constant rate), medians over the repetitions. An item is what the kernel makes one of:
a symbol, a position, a word, a pixel or square of pixels, a cache line. "Of the limit" is the time in which a plain copy within
the first cache moves the same bytes (for `stream_lines`: in which non-temporal stores clear as many lines of memory), over the
time taken. From a half on, moving bytes is what bounds the kernel; below, its instructions and their waiting for each other.
"""
LIMITS = """\
Jets per second in batches of 64, exact shuffle, page cache warm, a consumer that does nothing: medians over interleaved
rounds, with the least and the most. Dense output in GB/s counts every pixel of a batch; what memory has to take is less: the
lines that held something or do now. Ratios are paired round by round.
"""
MOVING = 0.5  # of the limit, from where on moving bytes is said to bound


def render(results: Path) -> str:
    """Make the page out of the newest result of each kind.

    Parameters
    ----------
    results
        Folder of folders `<date>-<kind>`, each with `<kind>.json`.
    """
    parts = [TITLE]
    for kind, (title, write) in SECTIONS.items():
        parts.append(f"\n## {title}\n\n")
        found = sorted(results.glob(f"*-{kind}/{kind}.json"))
        if not found:
            parts.append(f"No result yet: `python benchmarks/{kind}.py` makes one.\n")
            continue
        result = json.loads(found[-1].read_text(encoding="utf-8"))
        parts.append(f"{_origin(result)} Result: `{found[-1].parent.name}`.\n\n{write(result)}")
    parts.append(f"\n## Instructions of a jet, by stage\n\n{_write_instructions(FIGURES)}")
    return "".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; return the exit code."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--check", action="store_true", help="compare only")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE")
    told = parser.parse_args(arguments)
    text = render(told.results)
    if told.check:
        if told.page.exists() and told.page.read_text(encoding="utf-8") == text:
            return 0
        print(f"{told.page} is not what the results say; run benchmarks/render.py", file=sys.stderr)
        return 1
    told.page.write_text(text, encoding="utf-8")
    return 0


def _origin(result: Result) -> str:
    machine = result["environment"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, commit "
        f"{machine['commit']}, {str(machine['date'])[:10]}."
    )


def _write_kernels(result: Result) -> str:
    rows = result["rows"]
    memory = {f"{row['kernel']}/{row['input']}": row for row in rows if row["kernels"] == "memory"}
    table = ["| what memory does at best | cycles per byte | GB/s |", "|---|---:|---:|"]
    for name, row in memory.items():
        gigabytes = row["bytes_per_s"] / 1e9
        table.append(f"| {name} | {row['cycles_per_byte']:.3f} | {gigabytes:.1f} |")
    table += [
        "",
        "| kernel | input | set | items | bytes per item | cycles per item | of the limit | bound by |",
        "|---|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        if row["kernels"] == "memory":
            continue
        share = _share_of_limit(row, memory)
        bound = "" if share is None else "moving bytes" if share >= MOVING else "instructions"
        table.append(
            f"| `{row['kernel']}` | {row['input']} | {row['kernels']} | {row['items_per_call']:.0f} "
            f"| {row['bytes_per_item']:.1f} | {row['cycles_per_item']:.2f} "
            f"| {'' if share is None else f'{share:.0%}'} | {bound} |"
        )
    return KERNELS + "\n" + "\n".join(table) + "\n"


def _write_instructions(path: Path) -> str:
    parts = [
        "Counted by `python benchmarks/instructions.py`, which allows 10 % more; from "
        f"`benchmarks/{path.name}`. Instructions are not time: moving lines waits for memory.\n"
    ]
    for compiler, sets in json.loads(path.read_text(encoding="utf-8")).items():
        stages = sorted({stage for figure in sets.values() for stage in figure["stages"]})
        totals = {name: figure["total"] for name, figure in sets.items()}
        parts.append(f"\n| {compiler} | {' | '.join(sets)} |\n|---|{'---:|' * len(sets)}\n")
        parts.append(f"| all | {' | '.join(f'{n:,}' for n in totals.values())} |\n")
        for stage in stages:
            counts = {name: figure["stages"].get(stage, 0) for name, figure in sets.items()}
            cells = [f"{n:,} ({n / totals[name]:.0%})" if n else "" for name, n in counts.items()]
            parts.append(f"| `{stage}` | {' | '.join(cells)} |\n")
    return "".join(parts)


def _write_limits(result: Result) -> str:
    table = [
        "| what | jets/s | least - most | dense GB/s | e2eio is |",
        "|---|---:|---:|---:|---:|",
    ]
    ratios = {(each["peer"], each["resolution"]): each for each in result["ratios"]}
    for row in result["rows"]:
        edge = 125 * int(row["resolution"][1:])
        gigabytes = row["samples_per_s"] * 4 * row["channels"] * edge * edge / 1e9
        ratio = ratios.get((row["contender"], row["resolution"]))
        sparse = row["contender"] == "e2eio_wire"
        table.append(
            f"| {row['resolution']} {row['title']} | {row['samples_per_s']:,.0f} "
            f"| {row['samples_per_s_min']:,.0f} - {row['samples_per_s_max']:,.0f} "
            f"| {'' if sparse else f'{gigabytes:.0f}'} "
            f"| {_times(ratio)} |"
        )
    figures = ["| figure | value | least - most | target | |", "|---|---:|---:|---|---|"]
    for figure in result["figures"]:
        value = "" if figure["value"] is None else f"{figure['value']:.3g} {figure['unit']}"
        spread = " - ".join(f"{each:.3g}" for each in figure["spread"])
        reached = {True: "reached", False: "missed", None: ""}[figure["reached"]]
        note = f" ({figure['note']})" if figure["note"] else ""
        figures.append(
            f"| {figure['name']}{note} | {value} | {spread} | {figure['target']} | {reached} |"
        )
    sizes = []
    for label, formats in result["sizes"].items():
        known = sorted((size, name) for name, size in formats.items() if not isinstance(size, str))
        listed = ", ".join(f"{name} {size:,.0f}" for size, name in known)
        sizes.append(f"Bytes per jet at {label}: {listed}.\n")
    return "\n".join([LIMITS, *table, "", *figures, "", *sizes])


def _times(ratio: Result | None) -> str:
    return "" if ratio is None else f"{ratio['median']:.2f} x"


def _share_of_limit(row: Result, memory: Mapping[str, Result]) -> float | None:
    """Time that moving the bytes takes at best, over the time taken; None if not measured."""
    lines = row["kernel"] == "stream_lines"
    best = memory.get("clear_nontemporal/memory" if lines else "copy/first cache")
    if best is None:
        return None
    key = "cycles_per_item" if lines else "cycles_per_byte"
    return float(best[key]) / float(row[key])


# Kind of result: title of its section, and what writes it.
SECTIONS: dict[str, tuple[str, Callable[[Result], str]]] = {
    "limits": ("Batches, and the limits of the machine", _write_limits),
    "kernel_speed": ("Kernels, and what bounds them", _write_kernels),
}


if __name__ == "__main__":
    sys.exit(main())
