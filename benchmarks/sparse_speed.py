"""How fast are lists of pixels ready: the wire form for a GPU, and coo for sparse networks?

Jets per second of CPU time, on one thread, so that other load on the machine hardly matters.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import e2eio
from harness.command import fail
from harness.data import DataError, JetSource, ParquetJets, ToySource, derive
from harness.environment import describe

__all__ = ["TARGET", "main", "measure"]

TARGET = 120_000  # jets per second and core, wire form
FORMS = ("wire", "coo", "dense")
VERIFIED = 64


def measure(dataset: e2eio.Dataset, form: str, rounds: int, batch_size: int = 64) -> list[float]:
    """Run whole shuffled epochs on one thread and return jets per CPU second of each.

    The first jets are compared with the dense form, bit by bit, before anything is timed; the epoch before
    the first one that counts is thrown away.
    """
    speeds = []
    with _loader(dataset, form, batch_size) as loader:
        _verify(dataset, form)
        for _ in range(rounds + 1):
            begin = time.process_time()
            n = sum(1 for _ in loader) * batch_size
            speeds.append(n / (time.process_time() - begin))
    return speeds[1:]


def _loader(dataset: e2eio.Dataset, form: str, batch_size: int) -> e2eio.Loader:
    return e2eio.Loader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        fields=(dataset.schema.image.name, "sample_id"),
        form=form,  # type: ignore[arg-type]
        framework="numpy",
        threads=1,
    )


def _verify(dataset: e2eio.Dataset, form: str) -> None:
    with _loader(dataset, form, VERIFIED) as loader:
        images, ids = next(iter(loader))
        delivered = images if form == "dense" else images.to_dense()
        for image, number in zip(delivered, ids, strict=True):
            expected = dataset[int(number)][dataset.schema.image.name]
            if not np.array_equal(image.view(np.uint32), expected.view(np.uint32)):
                raise RuntimeError(f"form {form} delivers another sample {number}")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, action="append", help="Parquet file of jets (or more)")
    parser.add_argument("--jets", type=int, default=2048, help="jets per epoch (default: 2048)")
    parser.add_argument("--rounds", type=int, default=7, help="epochs timed (default: 7)")
    parser.add_argument("--check", action="store_true", help="exit code 1 if the target is missed")
    told = parser.parse_args(arguments)
    machine = describe()
    print(f"{machine['cpu']}, kernels {e2eio.kernels()[0]}, commit {machine['commit']}")
    reached = True
    try:
        sources: list[JetSource] = [ParquetJets(path) for path in told.data or []]
        for source in sources or [ToySource(1), ToySource(3)]:
            with tempfile.TemporaryDirectory() as folder:
                derived = derive(source, told.jets, Path(folder), {"e2eio"})
                dataset = e2eio.Dataset(derived.files["e2eio"])
                print(f"x{source.resolution}: {told.jets} jets, {source.description}")
                for form in FORMS:
                    speeds = measure(dataset, form, told.rounds)
                    median = statistics.median(speeds)
                    target = f"; target {TARGET:,}" if form == "wire" else ""
                    reached &= form != "wire" or median >= TARGET
                    print(
                        f"  {form:6}{median:10,.0f} jets/s per core "
                        f"({min(speeds):,.0f} to {max(speeds):,.0f}{target})"
                    )
    except DataError as error:
        return fail("sparse_speed", error)
    return int(told.check and not reached)


if __name__ == "__main__":
    sys.exit(main())
