"""How well does shuffle="window" mix, and what does it save the storage?

Prints, for data that is sorted by class (the worst case), how far the class fractions of batches spread, in units of the exact
shuffle's spread, and how far apart neighbours in a batch are in the file; then reads of the storage per record, where nothing
is in a page cache. No claim of speed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import e2eio
from e2eio import _core, shards
from e2eio.schema import Channel, ImageField, ScalarField, Schema

__all__ = ["main"]

EXTENT_BYTES = 1_000_000  # as in docs/plan.md


def spread(ids: NDArray[np.int64], labels: NDArray[np.int64], batch_size: int) -> float:
    """Standard deviation of the fraction of class 1 over batches."""
    n = len(ids) // batch_size * batch_size
    return float(labels[ids[:n]].reshape(-1, batch_size).mean(axis=1).std())


def distance(ids: NDArray[np.int64]) -> float:
    """Mean distance of neighbours in the order, in parts of the dataset; 1/3 for the exact shuffle."""
    return float(np.abs(np.diff(ids)).mean() / len(ids))


def mixing(n: int, record_bytes: int, batch_sizes: Sequence[int], n_epochs: int) -> None:
    extent = max(16, EXTENT_BYTES // record_bytes)
    print(f"{n} samples of {record_bytes} B, sorted by class; extents of {extent}, 16 a window")
    print(
        "| batch | order | halves | tenths | mean distance of neighbours |\n|---|---|---|---|---|"
    )
    half = (np.arange(n) >= n // 2).astype(np.int64)
    tenth = (np.arange(n) >= n - n // 10).astype(np.int64)
    for batch_size in batch_sizes:
        spreads: dict[str, list[float]] = {}
        for name, order in (
            ("exact", _core.Order.shuffled(n, 1)),
            ("window", _core.Order.windowed(n, 1, extent)),
        ):
            epochs = [order.ids(epoch, 0, n) for epoch in range(n_epochs)]
            spreads[name] = [
                float(np.mean([spread(ids, labels, batch_size) for ids in epochs]))
                for labels in (half, tenth)
            ]
            relative = [a / b for a, b in zip(spreads[name], spreads["exact"], strict=True)]
            apart = np.mean([distance(ids) for ids in epochs])
            print(
                f"| {batch_size} | {name} | {relative[0]:.2f} | {relative[1]:.2f} | {apart:.3f} |"
            )


def reading(n: int, directory: Path) -> None:
    rng = np.random.default_rng(0)
    schema = Schema(
        ImageField("X", (Channel("a", "GeV"),), 64, 64), (ScalarField("y", "int64", ""),)
    )
    with e2eio.write(directory / "ds", schema) as writer:
        for begin in range(0, n, 1000):
            size = min(1000, n - begin)
            x = rng.exponential(size=(size, 1, 64, 64)) * (rng.random((size, 1, 64, 64)) < 0.25)
            writer.append(x.astype(np.float32), {"y": np.arange(begin, begin + size)})
    (path,) = (directory / "ds").glob("*.e2e")
    print(f"\n{n} samples of {path.stat().st_size // n} B, every read waits")
    print("| order | reads per 1,000 records | bytes read / bytes of records |\n|---|---|---|")
    for name, shuffle in (("exact", True), ("window", "window"), ("file order", False)):
        reader = shards.open_shard(path, throttle=(0, 1e-4))
        dataset = e2eio.Dataset(reader)
        with e2eio.Loader(dataset, batch_size=64, shuffle=shuffle, framework="numpy") as loader:  # type: ignore[arg-type]
            for _ in loader:
                pass
            stats = loader.stats()
        reads = 1000 * stats["io"]["reads"] / stats["io"]["records"]
        print(f"| {name} | {reads:.1f} | {stats['io']['bytes'] / stats['record_bytes']:.2f} |")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000, help="for the mixing")
    parser.add_argument("--record-bytes", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--read-samples", type=int, default=20_000, help="for the reading")
    options = parser.parse_args(arguments)
    mixing(options.samples, options.record_bytes, options.batch_sizes, options.epochs)
    with tempfile.TemporaryDirectory() as directory:
        reading(options.read_samples, Path(directory))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
