"""``e2eio build-dali-op``: the native operator for the DALI that is installed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

__all__ = ["add_parser", "run"]

_EXAMPLES: Final = """\
examples:
  e2eio build-dali-op
  e2eio build-dali-op --output /opt/e2eio    (then: export E2EIO_DALI_OPERATOR=/opt/e2eio)
  CXX='ccache g++-13' e2eio build-dali-op --force

Needs a C++20 compiler (CXX, or c++, g++, clang++), zstd.h and CUDA's headers, but no GPU and no nvcc. Once per version
of e2eio and of DALI; without it e2eio.dali.reader reads through Python.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "build-dali-op",
        help="build the native operator for NVIDIA DALI",
        description="Build fn.e2eio.reader against the headers of the DALI that is installed.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="where it goes (default: the user's cache)"
    )
    parser.add_argument("--force", action="store_true", help="build it although it is there")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build the operator unless it is there, load it to be sure of it, and print where it is.

    Raises
    ------
    MissingDependencyError
        DALI, a compiler or headers are missing, or it does not build.
    """
    from e2eio.dali.operator import load_operator
    from e2eio.dali.plugin import FILE_NAME, cached_operator, identity, read_identity

    place = cached_operator() if args.output is None else args.output / FILE_NAME
    there = place.exists() and read_identity(place) == identity()
    begin = time.monotonic()
    if args.force or not there:
        _build(args.output, quiet=args.quiet)
    load_operator(place)
    built = args.force or not there
    if args.json:
        result = {"path": str(place), "built": built, "seconds": round(time.monotonic() - begin, 1)}
        print(json.dumps({**result, **asdict(identity())}))
    else:
        print(f"{'built' if built else 'already built'}: {place}")
    return 0


def _build(output: Path | None, *, quiet: bool) -> None:
    from e2eio.dali.plugin import build_operator

    def show(name: str, done: int, total: int) -> None:
        print(f"compiled {done} of {total}: {name}", file=sys.stderr, flush=True)

    build_operator(output, report=None if quiet else show)
