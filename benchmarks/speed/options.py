"""What io_speed measures: its command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from contenders import CONTENDERS
from harness.command import make_parser

__all__ = ["Call", "Options", "parse"]

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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Call:
    """The command line: what to measure, `out` (folder for the results), and whether to `check` the figures."""

    options: Options
    out: Path | None
    check: bool


def parse(arguments: list[str] | None = None, description: str = "") -> Call:
    """Read the command line."""
    parser = _make_parser(description)
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
    return Call(options, told.out, told.check)


def _make_parser(description: str) -> argparse.ArgumentParser:
    parser = make_parser(description, EXAMPLES)
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


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_positive(word) for word in text.split(",")))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {value}, expected 1 or more")
    return value
