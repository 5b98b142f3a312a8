"""What would a terabyte, or 10^9 jets, take? Measures rates here, and works out the rest; every number with its formula.

The tables of docs/scaling.md are written by this program from a result, and by nothing else.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from harness.command import make_parser
from harness.data import ToySource, write_parquet
from harness.environment import describe
from harness.results import RESULTS, save_result

__all__ = ["Row", "main", "render", "work_out"]

EXAMPLES = """\
examples:
  python benchmarks/scaling.py                      measure, write a result, print the tables
  python benchmarks/scaling.py --jets 512           a quick look
  python benchmarks/scaling.py --render             write them into docs/scaling.md, from the newest result
  python benchmarks/scaling.py --check              exit code 1 if docs/scaling.md is not what the result says
"""
ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "scaling.md"
BEGIN, END = "<!-- from benchmarks/scaling.py -->\n", "<!-- end -->\n"

# CERN Open Data record 12220, DOI 10.7483/OPENDATA.CMS.CHC3.5KPG.
EVENTS, NTUPLES, NTUPLE_BYTES = 9_430_509, 14_825, 12.83e12
# Assumptions, named in the tables.
JETS_PER_EVENT = 1.0
CORES = 1_000
STORE_BYTES_S = 1e9  # what a job of many nodes gets from a file system or an object store
SHARD_BYTES = 256 << 20  # e2eio convert --shard-bytes, the default
READ_BYTES = 1_000_000  # of one read of a window shuffle: e2eio/plan/order.py
OPEN_REQUESTS = 4  # header, trailer, footer, directory of a shard, at most
REQUESTS_PER_USD = 1_000 / 0.0004  # GETs, list price of a large object store
TRAIN_JETS_S = 10_000.0  # that a node of GPUs takes: the order of the published eight V100


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: a name, its formula, and the value with its unit."""

    name: str
    formula: str
    value: str


def _toy(path: Path, n: int) -> int:
    source = ToySource(1)
    chunks = ((source.chunk(b, min(b + 64, n))) for b in range(0, n, 64))
    write_parquet(path, chunks)
    return path.stat().st_size


def _convert_rate(source: Path, out: Path, n: int, rounds: int) -> Iterator[float]:
    from e2eio.conversion import convert

    for _ in range(rounds):
        begin = time.perf_counter()
        convert(source, out, preset="boosted-top", processes=1, overwrite=True, progress=False)
        yield n / (time.perf_counter() - begin)


def _load_rate(data: Path, n: int, rounds: int) -> Iterator[float]:
    import e2eio

    options: dict[str, Any] = {"framework": "numpy", "threads": 1, "shuffle": "window"}
    with e2eio.Loader(data, batch_size=64, **options) as loader:
        for _ in range(rounds + 1):
            begin = time.perf_counter()
            for _ in loader:
                pass
            yield n / (time.perf_counter() - begin)


def _shuffle_rate(data: Path, out: Path, n: int, rounds: int) -> Iterator[float]:
    from e2eio.reshard import shuffle

    for seed in range(rounds):
        begin = time.perf_counter()
        shuffle(data, out, seed=seed, threads=1, overwrite=True, progress=False)
        yield n / (time.perf_counter() - begin)


def _write_hits(path: Path, n: int) -> None:
    """Write events as an E2E ntuple has them: for each channel a jagged list of values and one of pixels, zlib 1."""
    uproot, ak = import_module("uproot"), import_module("awkward")
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        for begin in range(0, n, 256):
            images, _ = ToySource(1).chunk(begin, min(begin + 256, n))
            branches = {}
            for channel in range(images.shape[1]):
                pixels = images[:, channel].reshape(len(images), -1)
                event, place = np.nonzero(pixels)
                counts = np.bincount(event, minlength=len(images))
                branches[f"value_{channel}"] = ak.unflatten(pixels[event, place], counts)
                branches[f"pixel_{channel}"] = ak.unflatten(place.astype(np.int32), counts)
            if begin == 0:
                file.mktree("events", {name: each.type for name, each in branches.items()})
            file["events"].extend(branches)


def _root_rate(path: Path, rounds: int) -> Iterator[float]:
    """Compressed bytes per second at which uproot makes arrays of all branches, in one thread."""
    uproot = import_module("uproot")
    for _ in range(rounds):
        begin = time.perf_counter()
        with uproot.open(path) as file:
            branches = file["events"].branches
            for branch in branches:
                branch.array()
            n_bytes = sum(branch.compressed_bytes for branch in branches)
        yield n_bytes / (time.perf_counter() - begin)


def _open_seconds(data: Path, n_shards: int) -> Iterator[float]:
    """Seconds to open a shard: its frame is read and verified."""
    from e2eio.shards import open_shard

    paths = sorted(data.glob("*.e2e"))
    for _ in range(5):
        begin = time.perf_counter()
        for k in range(n_shards):
            open_shard(paths[k % len(paths)])
        yield (time.perf_counter() - begin) / n_shards


def _entry_bytes() -> float:
    """Bytes that a shard takes in dataset.json."""
    from e2eio import manifest
    from e2eio.schema import Channel, ImageField, Schema

    def size(n_shards: int) -> int:
        entry = manifest.ShardEntry("shard-00000.e2e", 79_980, SHARD_BYTES, f"{'0' * 8}-{'0' * 32}")
        schema = Schema(ImageField("X", (Channel("a"),), 1, 1))
        statistics = (manifest.ChannelStatistics(),)
        provenance = manifest.Provenance((), "e2eio", {}, "1970-01-01T00:00:00Z")
        shards = tuple(entry for _ in range(n_shards))
        contents = tuple("0" * 32 for _ in range(n_shards))
        listed = manifest.Manifest(schema, shards, statistics, provenance, contents)
        return len(json.dumps(listed.to_json(), indent=1))

    return (size(1_001) - size(1)) / 1_000


def measure(n: int, rounds: int) -> dict[str, float]:
    """Measure what the tables are worked out from, each with one thread, page cache warm.

    Returns
    -------
    dict
        Rates in jets/s per core: ``convert`` (Parquet as published), ``load`` (window shuffle, batches of 64) and
        ``shuffle``; bytes per jet: ``source_bytes`` and ``stored_bytes``; ``root``: compressed bytes/s per core;
        ``open_s`` per shard; ``entry_bytes`` per shard in dataset.json.
    """
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        source_bytes = _toy(work / "jets.parquet", n)
        convert_rate = max(_convert_rate(work / "jets.parquet", work / "data", n, rounds))
        _write_hits(work / "hits.root", n)
        stored = sum(path.stat().st_size for path in (work / "data").glob("*.e2e"))
        return {
            "jets": n,
            "convert": convert_rate,
            "load": max(_load_rate(work / "data", n, rounds)),
            "shuffle": max(_shuffle_rate(work / "data", work / "shuffled", n, rounds)),
            "source_bytes": source_bytes / n,
            "stored_bytes": stored / n,
            "root": max(_root_rate(work / "hits.root", rounds)),
            "open_s": min(_open_seconds(work / "data", 50)),
            "entry_bytes": _entry_bytes(),
        }


def _bytes(n: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:,.3g} {unit}" if n < 1000 * size else f"{n / size:,.0f} {unit}"
    return f"{n:,.0f} bytes"


def _time(seconds: float) -> str:
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:,.3g} s"


def _rates(m: Mapping[str, Any]) -> list[Row]:
    jets = f"{m['jets']:,} toy jets at x1"
    rows = [
        Row("`convert`", f"Parquet as published to shards, {jets}", f"{m['convert']:,.0f} jets/s"),
        Row("`load`", "window shuffle, batches of 64", f"{m['load']:,.0f} jets/s"),
        Row("`shuffle`", "`e2eio shuffle`, read back", f"{m['shuffle']:,.0f} jets/s"),
        Row("`source`", "Parquet, snappy, a jet a row group", _bytes(m["source_bytes"]) + " a jet"),
        Row("`stored`", "shards", _bytes(m["stored_bytes"]) + " a jet"),
        Row("`open`", "a shard: its frame read and verified", f"{m['open_s'] * 1e3:.3g} ms"),
        Row("`entry`", "a shard in dataset.json", f"{m['entry_bytes']:.0f} bytes"),
    ]
    text = "uproot: lists of hits, zlib 1, to arrays; compressed bytes"
    return [*rows, Row("`root`", text, _bytes(m["root"]) + "/s")]


def _stored_rows(m: Mapping[str, Any], jets: float) -> list[Row]:
    n_bytes = jets * m["stored_bytes"]
    shards = int(np.ceil(n_bytes / SHARD_BYTES))
    reads = int(np.ceil(n_bytes / READ_BYTES))
    opening = shards * OPEN_REQUESTS + 1
    feed = TRAIN_JETS_S * m["stored_bytes"]
    return [
        Row("stored", "jets x `stored`", _bytes(n_bytes)),
        Row("decoded float32, never written", "jets x 8 x 125 x 125 x 4", _bytes(jets * 5e5)),
        Row("shards", f"stored / {SHARD_BYTES >> 20} MiB", f"{shards:,} files"),
        Row("dataset.json", "shards x `entry`", _bytes(shards * m["entry_bytes"])),
        Row("opening, one thread", "shards x `open`", _time(shards * m["open_s"])),
        Row("requests to open", f"{OPEN_REQUESTS} a shard, and the manifest", f"{opening:,}"),
        Row(
            "requests of an epoch", f"stored / {READ_BYTES:,} bytes (window shuffle)", f"{reads:,}"
        ),
        Row("price of these", "0.0004 USD for 1,000", f"{reads / REQUESTS_PER_USD:,.2f} USD"),
        Row("requests of an epoch, exact shuffle", "one a jet", f"{jets:,.0f}"),
        Row("decoding an epoch", "jets / `load`", f"{jets / m['load'] / 3600:,.3g} core hours"),
        Row(
            "an epoch at the rate of training",
            f"jets / ({TRAIN_JETS_S:,.0f} jets/s)",
            f"{_time(jets / TRAIN_JETS_S)}; {TRAIN_JETS_S / m['load']:.2g} cores, {_bytes(feed)}/s",
        ),
        Row(
            "shuffled on disk", "jets / `shuffle`", f"{jets / m['shuffle'] / 3600:,.3g} core hours"
        ),
    ]


def _conversion_rows(m: Mapping[str, Any], jets: float) -> list[Row]:
    hours = jets / m["convert"] / 3600
    n_bytes = jets * m["source_bytes"]
    n_tasks = max(1.0, jets * m["stored_bytes"] / SHARD_BYTES)
    return [
        Row("source", "jets x `source`", _bytes(n_bytes)),
        Row("conversion", "jets / `convert`", f"{hours:,.3g} core hours"),
        Row(f"on {CORES:,} cores", "conversion / cores", _time(hours * 3600 / CORES)),
        Row(
            "reading the source by all of these", f"source / {_bytes(STORE_BYTES_S)}/s",
            _time(n_bytes / STORE_BYTES_S),
        ),
        Row("a task", "conversion / shards", _time(hours * 3600 / n_tasks)),
    ]  # fmt: skip


def _ntuple_rows(m: Mapping[str, Any]) -> list[Row]:
    rows = [
        Row("an ntuple", f"12.83 TB / {NTUPLES:,}", _bytes(NTUPLE_BYTES / NTUPLES)),
        Row("an event", f"12.83 TB / {EVENTS:,}", _bytes(NTUPLE_BYTES / EVENTS)),
        Row(
            "reading all", f"12.83 TB / {_bytes(STORE_BYTES_S)}/s",
            _time(NTUPLE_BYTES / STORE_BYTES_S),
        ),
    ]  # fmt: skip
    hours = NTUPLE_BYTES / m["root"] / 3600
    rows.append(Row("inflating all", "12.83 TB / `root`", f"{hours:,.3g} core hours"))
    rows.append(Row(f"on {CORES:,} cores", "inflating / cores", _time(hours * 3600 / CORES)))
    jets = EVENTS * JETS_PER_EVENT
    hours = jets / m["convert"] / 3600
    rows.append(
        Row(
            "images to shards", f"events x {JETS_PER_EVENT:g} jet / `convert`, which reads Parquet",
            f"{hours:,.3g} core hours",
        )
    )  # fmt: skip
    return rows


def work_out(result: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Return the tables of a result: title to rows."""
    m = result["measured"]
    jets = EVENTS * JETS_PER_EVENT
    return {
        "Measured, one core": _rates(m),
        f"Record 12220: {EVENTS:,} events in {NTUPLES:,} ROOT ntuples, 12.83 TB": [
            *_ntuple_rows(m), *_stored_rows(m, jets),
        ],
        "10^9 jets in published Parquet": [*_conversion_rows(m, 1e9), *_stored_rows(m, 1e9)],
    }  # fmt: skip


def render(result: Mapping[str, Any]) -> str:
    """Return the tables as Markdown."""
    where = result["environment"]
    text = f"{where['cpu']}, {where['kernel']}, commit {where['commit']}, {where['date'][:10]}.\n"
    for title, rows in work_out(result).items():
        text += f"\n### {title}\n\n| what | formula | value |\n|---|---|---:|\n"
        text += "".join(f"| {row.name} | {row.formula} | {row.value} |\n" for row in rows)
    return text


def _page(result: Mapping[str, Any]) -> str:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}{render(result)}{END}{after}"


def _newest() -> dict[str, Any]:
    found = sorted(RESULTS.glob("*-scaling/scaling.json"))
    if not found:
        sys.exit("no result yet: run 'python benchmarks/scaling.py' first")
    result: dict[str, Any] = json.loads(found[-1].read_text(encoding="utf-8"))
    return result


def main(words: list[str] | None = None) -> int:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--jets", type=int, default=4096, help="toy jets to measure with")
    parser.add_argument("--rounds", type=int, default=3, help="the best one counts")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write into")
    parser.add_argument("--render", action="store_true", help="write docs/scaling.md")
    parser.add_argument("--check", action="store_true", help="compare docs/scaling.md")
    args = parser.parse_args(words)
    if args.render or args.check:
        page = _page(_newest())
        if args.check:
            return int(page != PAGE.read_text(encoding="utf-8"))
        PAGE.write_text(page, encoding="utf-8")
        return 0
    result = {
        "environment": describe(),
        "measured": measure(args.jets, args.rounds),
    }
    save_result("scaling", result, results=args.results)
    print(render(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
