"""What the command lines of benchmarks share. Imports nothing but Python's own."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.progress import tell

__all__ = ["fail", "make_parser", "work_folder"]


def make_parser(description: str | None, examples: str) -> argparse.ArgumentParser:
    """Return a parser whose help shows both texts line by line, and that takes no abbreviations."""
    return argparse.ArgumentParser(
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


@contextlib.contextmanager
def work_folder(work: Path | None) -> Iterator[Path]:
    """Make the folder that is asked for, which stays, or a temporary one."""
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    with tempfile.TemporaryDirectory(prefix="e2eio-bench-") as folder:
        yield Path(folder)


def fail(name: str, error: Exception) -> int:
    """Say why a benchmark ends early; return its exit code."""
    tell("")
    print(f"{name}: {error}", file=sys.stderr)
    return 1
