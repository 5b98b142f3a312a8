"""How much like the published sets are simulated samples, and how many does a core make?

Simulates samples in this process, and prints occupancy per channel, means and deviations of pixels, bytes per sample in the
published Parquet layout, and samples per second of CPU, beside the figures that they should have.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import e2eio
from e2eio.errors import E2eioError
from e2eio.sim.plan import SimulationOptions, make_simulation_plan
from e2eio.sim.processes import PROCESSES, JetProcess, find_process
from e2eio.sim.production import write_simulated_shard
from harness.command import fail, make_parser, work_folder
from harness.environment import describe
from harness.results import Figure, describe_figure, save_result

__all__ = ["Occupancy", "main", "measure"]

EXAMPLES = """\
examples:
  python benchmarks/simulation.py --quick                  some seconds
  python benchmarks/simulation.py                          a minute
  python benchmarks/simulation.py --resolution 3
"""

# Pixels at x1, for each channel: from the real public set (tracks, towers) or the recipe's background, to the recipe's top
# jets or real full-simulation jets; a quarter more on both sides, as these differ from each other.
RANGES = {
    **dict.fromkeys(("track_pt", "d0", "dz"), (45, 66)),
    "ecal": (461, 549),
    "hcal": (29 * 25, 80 * 25),
    **dict.fromkeys(("bpix1", "bpix2", "bpix3"), (124, 159)),
}
SLACK = 0.25
PARQUET_BYTES = 11_100  # of a published boosted-top jet
JETS_PER_S = 40.0
# Means and deviations of all pixels by which public training code (`NormalizeTransform` over the files RHv1) normalises
# the 498,000 real images of electrons and photons; one in ten is what this detector, which has no gaps, may differ by.
REAL_PIXELS = {"ecal_energy": (0.00114013, 0.02360118), "ecal_time": (-0.00022465, 0.06654396)}


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Mean number of pixels that are not zero, by class; `expected`: at x1, or None."""

    channel: str
    background: float
    signal: float
    expected: tuple[float, float] | None


def measure(
    process: str, n: int, resolution: int, seed: int, folder: Path
) -> tuple[list[Occupancy], list[Figure]]:
    """Simulate samples into a folder and return what was found."""
    options = SimulationOptions(process, n, seed, resolution, shard_samples=max(2, n))
    (task,) = make_simulation_plan(options).tasks
    begin = time.process_time()
    ticks: list[float] = []

    def tick(n_made: int) -> None:
        if n_made:
            ticks.append(time.process_time())

    write_simulated_shard(task, options, folder, tick)
    rate = (n - 1) / (ticks[-1] - ticks[0])
    shard = folder / task.file
    report = e2eio.export(
        shard,
        folder / "samples.parquet",
        form="dense",
        compression="snappy",
        group_samples=1,
        progress=False,
    )
    rows, pixels = _look(shard, options)
    top = process == "top" and resolution == 1
    per_sample = report.n_bytes / n
    near = abs(per_sample / PARQUET_BYTES - 1) <= 0.2 if top else None
    text = f"{PARQUET_BYTES} +- 20 %" if top else ""
    jets = resolution == 1 and isinstance(find_process(process), JetProcess)
    aim, fast = (f">= {JETS_PER_S:g}", rate >= JETS_PER_S) if jets else ("", None)
    return rows, [
        *pixels,
        Figure("Parquet, published layout", per_sample, "bytes a sample", text, near),
        Figure("stored by e2eio", shard.stat().st_size / n, "bytes a sample"),
        Figure("until the first", ticks[0] - begin, "s of CPU a shard"),
        Figure("samples", rate, "a second of CPU", aim, fast),
    ]


def _look(shard: Path, options: SimulationOptions) -> tuple[list[Occupancy], list[Figure]]:
    """Return how full the channels of a shard are, and what their pixels are on average."""
    image = options.schema.image.name
    with e2eio.Loader(shard, batch_size=64, shuffle=False, drop_last=False) as loader:
        seen = [_sums(np.asarray(batch["y"]), np.asarray(batch[image])) for batch in loader]
    y, filled, sums, squares = (np.concatenate(column) for column in zip(*seen, strict=True))
    rows, pixels = [], []
    area = options.schema.image.height * options.schema.image.width
    for index, channel in enumerate(options.schema.channels):
        known = options.process == "top" and options.resolution == 1
        low, high = RANGES.get(channel, (0, 0))
        expected = ((1 - SLACK) * low, (1 + SLACK) * high) if known else None
        background, signal = (float(filled[y == label, index].mean()) for label in (0, 1))
        rows.append(Occupancy(channel, background, signal, expected))
        mean, square = (float(column[:, index].mean()) / area for column in (sums, squares))
        pixels += _compare(channel, mean, (square - mean**2) ** 0.5)
    return rows, pixels


Floats = NDArray[np.float64]


def _sums(y: Floats, images: NDArray[np.float32]) -> tuple[Floats, Floats, Floats, Floats]:
    """Return labels, pixels that are not zero, sums and sums of squares, by sample and channel."""
    values = images.astype(np.float64)
    filled = (images != 0).sum((2, 3)).astype(np.float64)
    return y, filled, values.sum((2, 3)), (values**2).sum((2, 3))


def _compare(channel: str, mean: float, deviation: float) -> list[Figure]:
    """Return mean and deviation of a channel's pixels, beside those of real images where they are known."""
    real = REAL_PIXELS.get(channel)
    unit = "as stored"
    if real is None:
        return [Figure(f"mean pixel of {channel}", mean, unit)]
    near = abs(deviation / real[1] - 1) <= 0.1
    return [
        Figure(f"mean pixel of {channel}", mean, unit, note=f"real images: {real[0]:.3g}"),
        Figure(f"deviation of {channel}", deviation, unit, f"{real[1]:.3g} +- 10 %", near),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--processes", nargs="+", default=list(PROCESSES), metavar="NAME")
    parser.add_argument("--jets", type=int, default=1000, help="samples of each process")
    parser.add_argument("--quick", action="store_true", help="100 samples")
    parser.add_argument("--resolution", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder that keeps the samples")
    parser.add_argument("--out", type=Path, help="folder of the result")
    options = parser.parse_args(arguments)
    n = 100 if options.quick else options.jets
    found: dict[str, object] = {}
    try:
        with work_folder(options.work) as work:
            for process in options.processes:
                folder = work / process
                folder.mkdir(exist_ok=True)
                rows, figures = measure(process, n, options.resolution, options.seed, folder)
                found[process] = {
                    "occupancy": [asdict(row) for row in rows],
                    "figures": [asdict(figure) for figure in figures],
                }
                _show(process, n, rows, figures)
    except E2eioError as error:
        return fail("simulation", error)
    settings = {"n": n, "resolution": options.resolution, "seed": options.seed}
    content = {
        "format": "e2eio-simulation",
        "version": 1,
        "environment": describe(),
        "options": settings,
        "processes": found,
    }
    print(f"written: {save_result('simulation', content, options.out)}")
    return 0


def _show(process: str, n: int, rows: Sequence[Occupancy], figures: Sequence[Figure]) -> None:
    print(f"{process}, {n} samples: mean pixels that are not zero")
    print("| channel | y = 0 | y = 1 | expected |\n|---|---|---|---|")
    for row in rows:
        expected = f"{row.expected[0]:.0f} to {row.expected[1]:.0f}" if row.expected else ""
        print(f"| {row.channel} | {row.background:.1f} | {row.signal:.1f} | {expected} |")
    for figure in figures:
        print(describe_figure(figure))


if __name__ == "__main__":
    sys.exit(main())
