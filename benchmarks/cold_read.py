"""Do batches come at the rate of the storage when nothing is in the page cache?

The shards are dropped from the page cache before each cold pass. What a pass can reach is the slower of two:
the storage, as plain reads of 1 MiB through the whole files show it, and the loader on a warm page cache.
The consumer does nothing with a batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

import e2eio
from e2eio import _core
from e2eio.shards import open_shard, shard_paths
from e2eio.sim import ToyJets
from harness.command import fail, make_parser
from harness.environment import describe
from harness.results import write_json

__all__ = ["Row", "main", "measure"]

EXAMPLES = """\
examples:
  python benchmarks/cold_read.py                          toy jets in a temporary folder here
  python benchmarks/cold_read.py --data /mnt/disk/top     a dataset on the storage in question
  python benchmarks/cold_read.py --work /mnt/disk         toy jets, written there
  python benchmarks/cold_read.py --mb-per-s 20 --seek-ms 2   as if it were a slow disk
  E2EIO_IO=uring python benchmarks/cold_read.py           by io_uring
"""
CHUNK = 256  # toy jets that are made; the rest repeats them
PLAIN_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One order of the samples; rates are medians over the rounds, in record bytes per second."""

    order: str
    warm: float
    cold: float
    one_by_one: float  # each record by a pread of its own, cold, without decoding
    bound: float  # the slower of the storage and of `warm`
    io: dict[str, object]  # stats of the last cold pass

    @property
    def ratio(self) -> float:
        return self.cold / self.bound


def measure(
    readers: Sequence[_core.ShardReader], rounds: int, threads: int, mb_per_s: float
) -> tuple[float, list[Row]]:
    """Return the rate of the storage in bytes/s, and a row for each order."""
    n_bytes = int(sum(reader.record_sizes().sum(dtype=np.int64) for reader in readers))
    throttled = mb_per_s * 1e6
    plain = max(_rate(readers, n_bytes, partial(_read_plainly, readers)) for _ in range(rounds))
    storage = min(plain, throttled) if throttled else plain
    rows = []
    for order, shuffle in (("file", False), ("shuffled", True)):
        warm, cold, single = [], [], []
        for _ in range(rounds):
            with e2eio.Loader(
                e2eio.Dataset(readers),
                batch_size=64,
                shuffle=shuffle,
                framework="numpy",
                threads=threads,
            ) as loader:
                _exhaust(loader)  # fills the page cache and makes the ring
                begin = time.perf_counter()
                _exhaust(loader)
                warm.append(n_bytes / (time.perf_counter() - begin))
                cold.append(_rate(readers, n_bytes, partial(_exhaust, loader)))
                io = loader.stats()["io"]
            single.append(_rate(readers, n_bytes, partial(_read_one_by_one, readers, shuffle)))
        # A throttled source is as slow when warm: only the storage bounds it.
        bound = storage if throttled else min(storage, median(warm))
        rows.append(Row(order, median(warm), median(cold), median(single), bound, io))
    return storage, rows


def _rate(readers: Sequence[_core.ShardReader], n_bytes: int, run: Callable[[], None]) -> float:
    for reader in readers:
        reader.advise("dont_need")
    begin = time.perf_counter()
    run()
    return n_bytes / (time.perf_counter() - begin)


def _exhaust(loader: e2eio.Loader) -> None:
    for _ in loader:
        pass


def _read_plainly(readers: Sequence[_core.ShardReader]) -> None:
    buffer = memoryview(bytearray(PLAIN_BYTES))
    for reader in readers:
        with Path(reader.path).open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def _read_one_by_one(readers: Sequence[_core.ShardReader], shuffle: bool) -> None:
    rng = np.random.default_rng(0)
    for reader in readers:
        sizes = reader.record_sizes().astype(np.int64)
        offsets = np.cumsum(sizes) - sizes + 64  # the header
        order = rng.permutation(len(sizes)) if shuffle else np.arange(len(sizes))
        file = os.open(reader.path, os.O_RDONLY)
        try:
            for i in order.tolist():
                os.pread(file, int(sizes[i]), int(offsets[i]))
        finally:
            os.close(file)


@contextlib.contextmanager
def _dataset(data: Path | None, work: Path | None, n_jets: int) -> Iterator[list[Path]]:
    if data is not None:
        yield shard_paths(data) if data.is_dir() else [data]
        return
    with tempfile.TemporaryDirectory(prefix="e2eio-cold-", dir=work or Path.cwd()) as folder:
        images, scalars = ToyJets().chunk(0, min(CHUNK, n_jets))
        with e2eio.write(Path(folder) / "ds", ToyJets().schema) as writer:
            for begin in range(0, n_jets, CHUNK):
                n = min(CHUNK, n_jets - begin)
                writer.append(images[:n], {name: c[:n] for name, c in scalars.items()})
        yield shard_paths(Path(folder) / "ds")


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--data", type=Path, metavar="PATH", help="a dataset or shard (default: toy jets)")
    add("--work", type=Path, metavar="DIR", help="where toy jets are written (default: here)")
    add("--jets", type=int, default=16384, metavar="N", help="toy jets (default: 16384, 55 MB)")
    add("--threads", type=int, default=2, metavar="N", help="decoding threads (default: 2)")
    add("--rounds", type=int, default=5, metavar="N", help="passes of each kind (default: 5)")
    add("--mb-per-s", type=float, default=0, metavar="X", help="limit the storage to X MB/s")
    add("--seek-ms", type=float, default=0, metavar="X", help="add X ms to each seek")
    add("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    told = parser.parse_args(arguments)
    slow = (told.mb_per_s * 1e6, told.seek_ms / 1e3)
    try:
        with _dataset(told.data, told.work, told.jets) as paths:
            readers = [open_shard(path, throttle=slow if any(slow) else None) for path in paths]
            storage, rows = measure(readers, told.rounds, told.threads, told.mb_per_s)
    except (e2eio.E2eioError, OSError) as error:
        return fail("cold_read", error)
    _print(storage, rows)
    if told.json:
        report = {
            "environment": {**describe(), "page_cache": "cold"},
            "storage_bytes_per_s": storage,
            "rows": [{**dataclasses.asdict(row), "ratio": row.ratio} for row in rows],
        }
        write_json(told.json, report)
    return 0


def _print(storage: float, rows: list[Row]) -> None:
    print(f"storage, read plainly by 1 MiB: {storage / 1e6:,.0f} MB/s; in MB/s of records:")
    print(
        f"{'order':>10}{'warm':>9}{'cold':>9}{'of bound':>10}{'one by one':>12}  reads of the loader"
    )
    for row in rows:
        if not row.io["waits"]:
            print(f"{row.order:>10}  not cold: the file system keeps its pages in memory")
            continue
        print(
            f"{row.order:>10}{row.warm / 1e6:9,.0f}{row.cold / 1e6:9,.0f}{row.ratio:10.2f}"
            f"{row.one_by_one / 1e6:12,.0f}  {row.io['kind']}, {row.io['records_per_read']:.1f} "
            f"records per read, {row.io['readers']} readers"
        )


if __name__ == "__main__":
    sys.exit(main())
