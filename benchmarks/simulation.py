"""How much like the published sets are simulated jets, and how many does a core make?

Simulates jets in this process, and prints occupancy per channel, bytes per jet in the published Parquet layout, and jets
per second of CPU, beside the figures that they should have.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import e2eio
from e2eio.errors import E2eioError
from e2eio.sim.plan import SimulationOptions, make_simulation_plan
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
    """Simulate jets into a folder and return what was found."""
    options = SimulationOptions(process, n, seed, resolution, shard_samples=max(2, n))
    (task,) = make_simulation_plan(options).tasks
    begin = time.process_time()
    ticks: list[float] = []

    def tick(n_jets: int) -> None:
        if n_jets:
            ticks.append(time.process_time())

    write_simulated_shard(task, options, folder, tick)
    rate = (n - 1) / (ticks[-1] - ticks[0])
    shard = folder / task.file
    report = e2eio.export(
        shard,
        folder / "jets.parquet",
        form="dense",
        compression="snappy",
        group_samples=1,
        progress=False,
    )
    with e2eio.Loader(shard, batch_size=64, shuffle=False, drop_last=False) as loader:
        counts = [
            (np.asarray(batch["y"]), (np.asarray(batch["X_jets"]) != 0).sum((2, 3)))
            for batch in loader
        ]
    y, filled = (np.concatenate(column) for column in zip(*counts, strict=True))
    rows = []
    for index, channel in enumerate(options.schema.channels):
        low, high = RANGES[channel]
        known = process == "top" and resolution == 1
        expected = ((1 - SLACK) * low, (1 + SLACK) * high) if known else None
        background, signal = (float(filled[y == label, index].mean()) for label in (0, 1))
        rows.append(Occupancy(channel, background, signal, expected))
    per_jet = report.n_bytes / n
    target = process == "top" and resolution == 1
    near = abs(per_jet / PARQUET_BYTES - 1) <= 0.2 if target else None
    text = f"{PARQUET_BYTES} +- 20 %" if target else ""
    return rows, [
        Figure("Parquet, published layout", per_jet, "bytes a jet", text, near),
        Figure("stored by e2eio", shard.stat().st_size / n, "bytes a jet"),
        Figure("until the first jet", ticks[0] - begin, "s of CPU a shard"),
        Figure("jets", rate, "a second of CPU", f">= {JETS_PER_S:g} at x1", rate >= JETS_PER_S),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--processes", nargs="+", default=["top", "quark-gluon"], metavar="NAME")
    parser.add_argument("--jets", type=int, default=1000, help="of each process")
    parser.add_argument("--quick", action="store_true", help="100 jets")
    parser.add_argument("--resolution", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder that keeps the jets")
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
    print(f"{process}, {n} jets: mean pixels that are not zero")
    print("| channel | y = 0 | y = 1 | expected |\n|---|---|---|---|")
    for row in rows:
        expected = f"{row.expected[0]:.0f} to {row.expected[1]:.0f}" if row.expected else ""
        print(f"| {row.channel} | {row.background:.1f} | {row.signal:.1f} | {expected} |")
    for figure in figures:
        print(describe_figure(figure))


if __name__ == "__main__":
    sys.exit(main())
