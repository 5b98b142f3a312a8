"""How fast are foreign files converted, beside reading them with their own libraries?

The same jets as Parquet, HDF5, TFRecord, ROOT, Zarr and npy files. Each is read to numpy arrays by its own library at its
best settings, in as many processes as there are cores, and converted by e2eio with as many, in interleaved rounds: a ratio
of 1 would say that encoding and writing cost nothing. Every conversion is compared with the jets bit by bit before anything
is timed, its own comparison of what was written included in the time.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import e2eio
from harness.command import make_parser, work_folder
from harness.data import CHUNK, ToySource
from harness.environment import count_cores, describe
from harness.progress import tell
from harness.results import BenchmarkReport, save_result
from sources.formats import FORMATS

__all__ = ["Report", "Row", "main", "run"]

EXAMPLES = """\
examples:
  python benchmarks/convert.py                       every format, some fifteen minutes and 10 GB of disk
  python benchmarks/convert.py --quick               few jets, short rounds: what it does, not what it reaches
  python benchmarks/convert.py --formats parquet     one format (and to_pydict beside it)
  python benchmarks/convert.py --check               exit code 1 if a figure is not reached
"""
LEAST = 0.8  # of the rate at which the format's own library reads
LEAST_TO_PYDICT = 4.0


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One format: rates in jets per second, round by round, and what a conversion takes to start (not in its rate).

    `unavailable` says why there are none.
    """

    format: str
    title: str
    file_bytes: int = 0
    n_verified: int = 0
    read: list[float] = dataclasses.field(default_factory=list)
    converted: list[float] = dataclasses.field(default_factory=list)
    start_s: list[float] = dataclasses.field(default_factory=list)
    read_peak_mb: float = 0.0
    converted_peak_mb: float = 0.0
    unavailable: str = ""

    @property
    def ratios(self) -> list[float]:
        return [mine / its for its, mine in zip(self.read, self.converted, strict=True)]


@dataclasses.dataclass(slots=True)
class Report(BenchmarkReport):
    """What was measured."""

    format: str = "e2eio-convert"
    rows: list[Row] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What to measure; as on the command line."""

    formats: tuple[str, ...]
    jets: int
    rounds: int
    processes: int


def run(options: Options, work: Path) -> Report:
    """Measure each format in turn; its files are removed before the next."""
    report = Report(describe(), dataclasses.asdict(options))
    for name in options.formats:
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        try:
            report.rows.append(_measure(name, options, folder))
        except (ImportError, e2eio.errors.MissingDependencyError) as error:
            report.rows.append(Row(name, FORMATS[name].title, unavailable=str(error)))
        finally:
            shutil.rmtree(folder)
    return report


def _measure(name: str, options: Options, folder: Path) -> Row:
    tell(f"{name}: writing {options.jets} jets")
    files = _write(name, options, folder)
    out = folder / "dataset"
    few = _write(name, dataclasses.replace(options, jets=options.processes), folder / "few")
    read: list[float] = []
    converted: list[float] = []
    started: list[float] = []
    peaks = {id(read): 0.0, id(converted): 0.0}
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(options.processes, context) as readers,
        ProcessPoolExecutor(1, context) as converter,
    ):
        read_all = partial(_read, readers, name, files, options.processes)
        convert_all = partial(_convert, converter, files, out, options.processes)
        tell(f"{name}: comparing")
        convert_all()
        n_verified = _check(files, out, options)
        read_all()
        for k in range(options.rounds):
            tell(f"{name}: round {k + 1} of {options.rounds}")
            # The readers' processes run already; what a conversion takes to start its own, a jet each shows.
            start_s, _ = _timed(partial(_convert, converter, few, out, options.processes))
            started.append(start_s)
            actions: list[tuple[list[float], Callable[[], tuple[int, float]], float]] = [
                (read, read_all, 0.0),
                (converted, convert_all, start_s),
            ]
            for rates, action, before_s in actions if k % 2 == 0 else actions[::-1]:
                taken_s, (n, peak) = _timed(action)
                rates.append(_rate(n, taken_s, before_s))
                peaks[id(rates)] = max(peaks[id(rates)], peak)
    return Row(
        name,
        FORMATS[name].title,
        sum(_size(path) for path in files),
        n_verified,
        read,
        converted,
        started,
        peaks[id(read)],
        peaks[id(converted)],
    )


def _rate(n: int, taken_s: float, start_s: float) -> float:
    """Jets per second without the start, unless that is most of it: then the difference would be noise, and all counts."""
    return n / (taken_s - start_s if 2 * start_s < taken_s else taken_s)


def _write(name: str, options: Options, folder: Path) -> list[Path]:
    """Write as many files as there are processes: some formats can be read in parallel in no other way."""
    form, source = FORMATS[name], ToySource(1)
    folder.mkdir(exist_ok=True)
    files = []
    for part in range(options.processes):
        begin = part * options.jets // options.processes
        end = (part + 1) * options.jets // options.processes
        path = folder / f"jets_{part}{form.suffix}"
        bounds = range(begin, end, CHUNK)
        form.write(
            path, end - begin, (source.chunk(first, min(first + CHUNK, end)) for first in bounds)
        )
        files.append(path)
    return files


def _timed(action: Callable[[], tuple[int, float]]) -> tuple[float, tuple[int, float]]:
    begin = time.perf_counter()
    result = action()
    return time.perf_counter() - begin, result


def _convert(
    converter: ProcessPoolExecutor, files: list[Path], out: Path, processes: int
) -> tuple[int, float]:
    """Convert in a process that does nothing else; return samples, and MB of its largest child."""
    return converter.submit(_convert_here, files, out, processes).result()


def _convert_here(files: list[Path], out: Path, processes: int) -> tuple[int, float]:
    import resource

    given: dict[str, Any] = {"layout": "HWC"} if files[0].suffix == ".root" else {}
    content = e2eio.convert(
        files,
        out,
        preset="boosted-top",
        image=None if files[0].suffix == ".npy" else "X_jets",
        processes=processes,
        overwrite=True,
        progress=False,
        **given,
    )
    return content.n_samples, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _read(
    readers: ProcessPoolExecutor, name: str, files: list[Path], parts: int
) -> tuple[int, float]:
    done = [readers.submit(_read_part, name, files, part, parts) for part in range(parts)]
    counts = [future.result() for future in done]
    return sum(n for n, _ in counts), max(peak for _, peak in counts)


def _read_part(name: str, files: list[Path], part: int, parts: int) -> tuple[int, float]:
    import resource

    n_numbers = 0
    for images in FORMATS[name].read(files, part, parts):
        n_numbers += images.size
    return n_numbers // 125_000, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _check(files: list[Path], out: Path, options: Options) -> int:
    """Compare all samples with the jets that were written; return their number."""
    dataset = e2eio.Dataset(out)
    if len(dataset) != options.jets:
        raise RuntimeError(f"{files[0]}: {len(dataset)} samples, expected {options.jets}")
    source, image = ToySource(1), dataset.schema.image.name
    for begin in range(0, options.jets, CHUNK):
        ids = range(begin, min(begin + CHUNK, options.jets))
        images, scalars = source.chunk(ids[0], ids[-1] + 1)
        for k, sample in enumerate(dataset.__getitems__(ids)):
            same = np.array_equal(sample[image].view(np.uint32), images[k].view(np.uint32))
            known = [key for key in scalars if key in sample]
            if not same or any(sample[key] != scalars[key][k] for key in known):
                raise RuntimeError(f"{files[0]}: sample {ids[k]} is not the jet that was written")
    return options.jets


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def print_report(report: Report) -> None:
    """Print a line per format."""
    machine = report.environment
    print(f"\n{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB\n")
    head = f"{'':8}{'format, and how its library reads it':52}{'read':>10}{'converted':>11}{'of it':>8}"
    print(f"{head}{'least':>8}{'most':>7}{'MB/s':>8}{'peak MB':>16}")
    for row in report.rows:
        if row.unavailable:
            print(f"        {row.title:52}not measured: {row.unavailable}")
            continue
        reached = "reached" if statistics.median(row.ratios) >= least_of(row) else "MISSED "
        read, converted = statistics.median(row.read), statistics.median(row.converted)
        mb = converted * row.file_bytes / row.n_verified / 1e6
        print(
            f"{reached} {row.title:52}{read:10,.0f}{converted:11,.0f}{statistics.median(row.ratios):8.2f}"
            f"{min(row.ratios):8.2f}{max(row.ratios):7.2f}{mb:8.1f}"
            f"{row.read_peak_mb:9,.0f} /{row.converted_peak_mb:5,.0f}"
        )
    print(
        "\nJets per second, medians over the rounds; MB/s of the file as it is converted; peak memory of the largest process: "
        "reading / converting. Rates are those of running processes: a conversion takes "
        f"{statistics.median([t for row in report.rows for t in row.start_s] or [0]):.2g} s besides to start its own."
    )


def least_of(row: Row) -> float:
    """Return the ratio to reach."""
    return LEAST_TO_PYDICT if row.format == "to_pydict" else LEAST


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    cores = count_cores()
    add("--formats", metavar="NAMES", default=",".join(FORMATS), help="of: " + ", ".join(FORMATS))
    add("--jets", type=int, default=8192, metavar="N", help="in all (default: 8192)")
    add("--rounds", type=int, default=5, metavar="N", help="interleaved rounds (default: 5)")
    add("--processes", type=int, default=cores, metavar="N", help="of each (default: all cores)")
    add("--quick", action="store_true", help="512 jets, 2 rounds")
    add("--work", type=Path, metavar="DIR", help="write the files here")
    add("--out", type=Path, metavar="DIR", help="where convert.json goes")
    add("--check", action="store_true", help="exit with 1 if a figure is not reached")
    told = parser.parse_args(arguments)
    unknown = [name for name in told.formats.split(",") if name not in FORMATS]
    if unknown:
        parser.error(f"unknown format {unknown[0]!r}; expected some of {', '.join(FORMATS)}")
    if min(told.jets, told.rounds, told.processes) < 1:
        parser.error("--jets, --rounds and --processes are at least 1")
    return told


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    told = parse(arguments)
    formats = tuple(told.formats.split(","))
    jets, rounds = (512, 2) if told.quick else (told.jets, told.rounds)
    options = Options(formats, jets, rounds, told.processes)
    with work_folder(told.work) as folder:
        report = run(options, folder)
    tell("")
    print_report(report)
    print(f"written: {save_result('convert', dataclasses.asdict(report), told.out)}")
    measured = [row for row in report.rows if not row.unavailable]
    missed = [row for row in measured if statistics.median(row.ratios) < least_of(row)]
    return 1 if told.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
