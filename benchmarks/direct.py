"""How much slower is an epoch over files of another format than over shards?

Prints jets/s of the first epoch over the files (shards are made meanwhile), of the second one, and of an epoch over
a cache that is complete, with the time to the first batch of each; conversion is timed beside them.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import e2eio
from harness.command import make_parser

__all__ = ["main"]

EXAMPLES = """\
examples:
  python benchmarks/direct.py jets.parquet            in file order
  python benchmarks/direct.py --shuffle a.h5 b.h5     exact shuffle: the first batch touches many shards
"""


def _epoch(name: str, loader: e2eio.Loader, opened_s: float) -> float:
    begin = time.perf_counter()
    first_s, n = 0.0, 0
    for batch in loader:
        if n == 0:
            first_s = time.perf_counter() - begin
        n += len(batch[0])
    rate = n / (time.perf_counter() - begin)
    print(f"{name:<24}{opened_s:>10.3f}{first_s:>16.3f}{rate:>12.0f}")
    return rate


def _open(paths: list[str], options: dict[str, Any]) -> tuple[e2eio.Loader, float]:
    begin = time.perf_counter()
    loader = e2eio.Loader(paths if len(paths) > 1 else paths[0], **options)
    return loader, time.perf_counter() - begin


def main() -> None:
    """Print the table."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("sources", nargs="+", help="files that e2eio convert reads")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--shuffle", action="store_true")
    asked = parser.parse_args()
    image = e2eio.Dataset(asked.sources).schema.image.name
    options: dict[str, Any] = {
        "batch_size": asked.batch_size,
        "shuffle": asked.shuffle,
        "fields": (image,),
        "framework": "numpy",
    }
    print(f"{'epoch over':<24}{'opened, s':>10}{'first batch, s':>16}{'jets/s':>12}")
    with tempfile.TemporaryDirectory() as directory:
        loader, opened_s = _open(asked.sources, options)
        first = _epoch("files, in memory: 1st", loader, opened_s)
        second = _epoch("files, in memory: 2nd", loader, 0.0)
        cached = {**options, "cache": str(Path(directory) / "cache")}
        for name in ("files, cache: 1st", "files, cache: complete"):
            loader, opened_s = _open(asked.sources, cached)
            _epoch(name, loader, opened_s)
            loader.close()
        begin = time.perf_counter()
        e2eio.convert(asked.sources, Path(directory) / "converted", progress=False)
        converted_s = time.perf_counter() - begin
        loader, opened_s = _open([str(Path(directory) / "converted")], options)
        _epoch("converted", loader, opened_s)
    print(
        f"conversion took {converted_s:.2f} s; the first epoch is {second / first:.1f} x slower than the second"
    )


if __name__ == "__main__":
    main()
