"""See on this machine what e2eio does: jets in, a dataset out, and how fast it comes back."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np

import e2eio
from e2eio.sim import toy_jets
from harness.command import fail
from harness.contender import ContenderError
from harness.data import DataError, ParquetJets, write_parquet
from io_speed import print_report, save
from speed.measurement import run
from speed.options import parse

__all__ = ["main"]

N_TOY_JETS = 512
SHOWN = (
    "e2eio_dense",
    "torch_parquet",
    "torch_hdf5",
    "torch_npy",
    "torch_npy_batched",
    "clear_memset",
    "clear_nontemporal",
)
N_COUNTED = 128


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="Parquet file of jets in the published layout (default: toy jets are made)",
    )
    told = parser.parse_args(arguments)
    folder = Path(__file__).resolve().parent.parent / "build" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        source = told.data or _make_toys(folder / "toy_jets.snappy.parquet")
        ParquetJets(source)  # says what is wrong with it, before anything is converted
        print(f"== converting {source.name}")
        e2eio.convert([source], folder / "dataset", progress=True, overwrite=True)
        _print_facts(source, folder / "dataset")
        print("== measuring: the same jets through e2eio and what is used today")
        options = parse(["--quick", "--rounds", "5", "--contenders", ",".join(SHOWN)]).options
        options = dataclasses.replace(options, data=source)
        report = run(options)
    except (ContenderError, DataError, e2eio.E2eioError) as error:
        return fail("demo", error)
    print_report(report)
    files = ", ".join(str(file) for file in save(report, folder))
    print(f"The dataset is in {folder / 'dataset'}; numbers and picture: {files}")
    return 0


def _make_toys(path: Path) -> Path:
    print(f"== making {N_TOY_JETS} toy jets in the published layout (a toy, not a simulation)")
    write_parquet(path, toy_jets(N_TOY_JETS))
    return path


def _print_facts(source: Path, folder: Path) -> None:
    """Say what is in the dataset and what it takes."""
    dataset = e2eio.Dataset(folder)
    n = len(dataset)
    images = np.stack([dataset[k]["X_jets"] for k in range(min(n, N_COUNTED))])
    stored = sum(file.stat().st_size for file in folder.iterdir()) / n
    print(
        f"{n} jets of {' x '.join(map(str, images.shape[1:]))} float32; bytes per jet: "
        f"{stored:,.0f} stored, {source.stat().st_size / n:,.0f} in the Parquet file, "
        f"{images[0].nbytes:,} in memory"
    )
    shares = (images != 0).mean(axis=(0, 2, 3))
    filled = ", ".join(
        f"{name} {share:.2%}" for name, share in zip(dataset.channels, shares, strict=True)
    )
    print(f"filled pixels: {filled}; in any channel {(images != 0).any(1).mean():.1%}")


if __name__ == "__main__":
    sys.exit(main())
