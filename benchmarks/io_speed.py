"""How fast do batches of jet images come, in e2eio and in what is used today?

The same jets, in the same run, in interleaved rounds, through every contender; what each delivers
is compared with the source, bit by bit, before anything is timed. The consumer does nothing with a
batch. `make peers` installs the contenders that are not there; who is missing or fails has a line
that says so. The same --out again goes on after an interruption.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from harness.command import fail
from harness.contender import ContenderError
from harness.data import DataError
from harness.picture import draw
from harness.progress import tell
from harness.report import print_table
from harness.results import name_folder, save_result
from harness.talk import print_talk
from speed.measurement import Report, run
from speed.options import parse

__all__ = ["main", "print_report", "save"]


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


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    call = parse(arguments, __doc__ or "")
    folder = call.out or name_folder("io_speed")
    try:
        report = run(call.options, folder / "finished")
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
    if call.check:
        for item in report.checks:
            value = "not measured" if item.value is None else f"{item.value:.3g}"
            outcome = "reached" if item.passed else "MISSED"
            print(f"{outcome}: {item.name}: {value} (target {item.target})")
    return 1 if call.check and failed else 0


if __name__ == "__main__":
    sys.exit(main())
