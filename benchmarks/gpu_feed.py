"""How fast do jets come into a GPU's memory, and does the GPU wait for them?

Jets per second into device memory, x1 and x3, for e2eio (pixels over the bus, images filled on the card, into fresh and
recycled memory; dense and pinned; through DALI) and for what is used today: torch's DataLoader, DALI's numpy reader and
FFCV over uncompressed jets. Beside them, measured in the same run: the bandwidth of pinned copies, what filling the
images takes the card beside a memset of the same memory, and the share of the time in which the card has nothing to
do while a network trains. Everything that is delivered is compared before anything is timed.

Without a GPU: what the CPU has ready for the bus, and that the device's path delivers the right images; the rest is
not measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path

import torch

import e2eio
import sparse_speed
from e2eio.device import Moves, WireView
from e2eio.device.feed import scatter_for
from gpu import timing
from gpu.feeds import FIELDS, Feed, FeedError, check_feed, e2eio_feeds, loader_of
from gpu.network import ResNet15
from gpu.peers import PEERS, RawJets, check_peer, dali_of_nothing
from gpu.report import Report, Row, figure_of, print_report
from harness.command import fail, make_parser, work_folder
from harness.data import DataError, ToySource, derive, derive_shards
from harness.environment import count_cores, describe
from harness.progress import tell
from harness.results import Figure, save_result

__all__ = ["main", "run"]

EXAMPLES = """\
examples:
  python benchmarks/gpu_feed.py                          x1 and x3, some ten minutes and 10 GB of disk
  python benchmarks/gpu_feed.py --quick                  few jets, short rounds: what it does, not what it reaches
  python benchmarks/gpu_feed.py --resolution 3 --check   exit code 1 if a figure that was measured is not reached
  python benchmarks/gpu_feed.py --work /scratch/jets     where the jets are written
"""
BATCH = 64
NO_GPU = "not measured: there is no GPU"
LEAST = {1: 4.0, 3: 10.0}  # pixels over dense and pinned
TRAINED = (64, 128, 256, 512, 1024)


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What to measure; as on the command line."""

    resolutions: tuple[int, ...]
    jets: dict[int, int]
    raw_jets: dict[int, int]
    rounds: int
    seconds: float
    threads: int
    trained: tuple[int, ...]
    steps: int


def run(options: Options, work: Path) -> Report:
    """Measure everything that this machine has the parts for.

    Raises
    ------
    DataError
        The data cannot be had.
    FeedError
        A feed delivers wrong jets.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report = Report(describe(), dataclasses.asdict(options), device=_describe_device(device))
    for resolution in options.resolutions:
        folder = work / f"x{resolution}"
        folder.mkdir(parents=True, exist_ok=True)
        tell(f"x{resolution}: writing {options.jets[resolution]} jets")
        derived = derive_shards(ToySource(resolution), options.jets[resolution], folder)
        dataset = e2eio.Dataset(derived.files["e2eio"])
        report.figures += _measure_host(options, dataset, resolution)
        _measure_feeds(options, dataset, resolution, folder, device, report)
        report.figures += _measure_card(options, dataset, resolution, device)
    return report


def _describe_device(device: torch.device) -> dict[str, str]:
    if device.type == "cpu":
        return {"name": "none"}
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
        driver = done.stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        driver = "unknown"
    installed = {each.name: each.version for each in metadata.distributions()}
    wanted = ("triton", "ffcv", "nvidia-dali-cuda120", "nvidia-dali-cuda130")
    versions = {name: installed[name] for name in wanted if name in installed}
    return {
        "name": torch.cuda.get_device_name(device),
        "driver": driver,
        "cuda": str(torch.version.cuda),
        **versions,
    }


def _measure_host(options: Options, dataset: e2eio.Dataset, resolution: int) -> list[Figure]:
    """What a core has ready for the bus, and what DALI's executor takes of the plain Loader."""
    label = f"x{resolution}"
    tell(f"{label}: wire batches on one core")
    speeds = sparse_speed.measure(dataset, "wire", options.rounds, BATCH)
    return [
        figure_of(f"{label} ready for the bus, per core", speeds, "jets/s", least=120_000),
        *_dali_share(options, dataset, label),
    ]


def _dali_share(options: Options, dataset: e2eio.Dataset, label: str) -> list[Figure]:
    """What DALI's executor leaves of the Loader's rate, beside what it would if it cost what it costs without work."""
    name = f"{label} DALI without augmentation / Loader, on the CPU"
    host = torch.device("cpu")
    try:
        from e2eio import dali

        idle = dali_of_nothing(torch.zeros(BATCH))
        batches = dali.iterator(loader_of(dataset, BATCH, options.threads))
    except (ImportError, e2eio.errors.E2eioError) as error:
        return [Figure(name, None, "x", ">= 0.8", note=str(error))]
    with loader_of(dataset, BATCH, options.threads) as loader, batches:
        plain = Feed("loader", "Loader", 0, lambda: loader)
        through = Feed("dali", "DALI", 0, lambda: batches)
        feeds = [plain, through, idle]
        _rate_in_rounds(feeds, 1, options.seconds / 4, host)
        rates = _rate_in_rounds(feeds, options.rounds, options.seconds, host)
    ratios = [mine / its for its, mine in zip(rates["loader"], rates["dali"], strict=True)]
    # Batches per second, one after the other: the executor's own time comes on top of the Loader's.
    left = [
        1 / (1 + its / none) for its, none in zip(rates["loader"], rates[idle.name], strict=True)
    ]
    return [
        figure_of(name, ratios, "x", least=0.8),
        Figure(
            f"{label} the same for an executor without work",
            statistics.median(left),
            "x",
            spread=[min(left), max(left)],
        ),
    ]


def _measure_feeds(
    options: Options,
    dataset: e2eio.Dataset,
    resolution: int,
    folder: Path,
    device: torch.device,
    report: Report,
) -> None:
    label = f"x{resolution}"
    rows: dict[str, Row] = {}
    feeds = e2eio_feeds(dataset, BATCH, options.threads, device)
    for feed in feeds:
        tell(f"{label}: comparing {feed.title}")
        n = check_feed(feed, dataset, BATCH)
        rows[feed.name] = Row(feed.name, feed.title, label, feed.bytes_per_jet, n)
    if device.type == "cuda":
        feeds += _peers(options, dataset, resolution, folder, device, rows)
        _rate_in_rounds(feeds, 1, options.seconds / 4, device)  # pools, workers, first copies
        rates = _rate_in_rounds(feeds, options.rounds, options.seconds, device)
        for name, found in rates.items():
            rows[name].jets_per_s_rounds = found
    else:
        rows |= {name: Row(name, name, label) for name in ("e2eio_dali", *PEERS)}
        for row in rows.values():
            row.unavailable = NO_GPU
    for feed in feeds:
        feed.close()
    report.rows += rows.values()
    report.figures += _compare(rows, resolution)


def _peers(
    options: Options,
    dataset: e2eio.Dataset,
    resolution: int,
    folder: Path,
    device: torch.device,
    rows: dict[str, Row],
) -> list[Feed]:
    """Make and compare the feeds that other libraries have a part in; those that cannot be had get a row."""
    label = f"x{resolution}"
    tell(f"{label}: writing {options.raw_jets[resolution]} jets uncompressed")
    n = options.raw_jets[resolution]
    derived = derive(ToySource(resolution), n, folder, {"npy"})
    files = derived.files
    raw = RawJets(files["npy"], files["y"], folder, n, derived.shape, BATCH, options.threads)

    def through_dali() -> Feed:
        from e2eio import dali

        batches = dali.iterator(
            dataset,
            batch_size=BATCH,
            shuffle=True,
            fields=FIELDS,
            last_batch_policy="drop",
            num_threads=options.threads,
            device="gpu" if device.type == "cuda" else "cpu",
            pass_by=False,
        )
        n_bytes = raw.bytes_per_jet
        return Feed("e2eio_dali", "e2eio.dali, dense", n_bytes, lambda: batches, batches.close)

    makers: dict[str, Callable[[], Feed]] = {"e2eio_dali": through_dali}
    makers |= {name: partial(make, raw, device) for name, make in PEERS.items()}
    feeds = []
    for name, make in makers.items():
        tell(f"{label}: comparing {name}")
        row = rows[name] = Row(name, name, label)
        try:
            feed = make()
            ours = name == "e2eio_dali"
            row.n_verified = check_feed(feed, dataset, BATCH) if ours else check_peer(feed, raw)
        except FeedError:
            raise
        except Exception as error:  # whatever keeps another library from running here
            row.unavailable = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        row.title, row.bytes_per_jet = feed.title, feed.bytes_per_jet
        feeds.append(feed)
    return feeds


def _rate_in_rounds(
    feeds: list[Feed], rounds: int, seconds: float, device: torch.device
) -> dict[str, list[float]]:
    """Time all feeds in interleaved rounds, each begun by another one."""
    rates: dict[str, list[float]] = {feed.name: [] for feed in feeds}
    for k in range(rounds):
        tell(f"round {k + 1} of {rounds}")
        first = k % len(feeds)
        for feed in feeds[first:] + feeds[:first]:
            rates[feed.name].append(timing.jets_per_s(feed, seconds, device))
    return rates


def _compare(rows: dict[str, Row], resolution: int) -> list[Figure]:
    name, least = f"x{resolution} pixels / dense and pinned", LEAST[resolution]
    figures = [
        Figure(f"x{resolution} over the bus, {what}", rows[feed].bytes_per_jet, "bytes/jet")
        for feed, what in (("wire", "pixels"), ("dense_pinned", "dense"))
    ]
    wire, dense = rows["wire"].jets_per_s_rounds, rows["dense_pinned"].jets_per_s_rounds
    if not wire:
        return [*figures, Figure(name, None, "x", f">= {least:g}", note=NO_GPU)]
    ratios = [mine / its for mine, its in zip(wire, dense, strict=True)]
    return [*figures, figure_of(name, ratios, "x", least=least)]


def _measure_card(
    options: Options, dataset: e2eio.Dataset, resolution: int, device: torch.device
) -> list[Figure]:
    """Bandwidth of copies, filling beside a memset, and idle time in training."""
    label = f"x{resolution}"
    filling = f"{label} filling fresh images / memset"
    idle = f"{label} card idle while it trains, batch "
    if device.type == "cpu":
        missing = [(filling, "x", "<= 1.3")]
        missing += [(f"{idle}{n}", "%", "< 2") for n in options.trained]
        return [Figure(name, None, unit, target, note=NO_GPU) for name, unit, target in missing]
    tell(f"{label}: copies and filling")
    figures = [
        Figure(f"{label} pinned copies", 1e-9 * timing.copy_bytes_per_s(device), "GB/s"),
        *_measure_filling(dataset, label, filling, device),
    ]
    for n in options.trained:
        tell(f"{label}: training with batch {n}")
        if n > len(dataset):
            figures.append(Figure(f"{idle}{n}", None, "%", "< 2", note="too few jets"))
            continue
        fed, resident = _train(options, dataset, resolution, n, device)
        share, base = 100 * fed.share, 100 * resident.share
        note = f"{base:.2g} % on one resident batch; a step takes {fed.step_ms:.3g} ms, {resident.step_ms:.3g} ms there"
        figures.append(Figure(f"{idle}{n}", share, "%", "< 2", share < 2, note=note))
    return figures


def _measure_filling(
    dataset: e2eio.Dataset, label: str, name: str, device: torch.device
) -> list[Figure]:
    with loader_of(dataset, BATCH, 1, form="wire") as loader:
        wire = next(iter(loader))[0]
    view = WireView.of(wire, torch.from_numpy(wire.buffer).to(device))
    out = torch.zeros(view.shape, device=device)
    scatter = scatter_for(device)

    def fresh() -> None:
        out.zero_()
        scatter(view, out, Moves())

    def recycled() -> None:
        scatter(view, out, Moves(), clear=True)
        scatter(view, out, Moves())

    triton = scatter.__module__.endswith("triton")
    memset = timing.kernel_ms(out.zero_)
    filled, again = (timing.kernel_ms(each, as_graph=triton) for each in (fresh, recycled))
    note = "" if triton else "by torch operations, the host's part included"
    return [
        Figure(f"{label} memset of the images", 1e-6 * out.nbytes / memset, "GB/s"),
        Figure(name, filled / memset, "x", "<= 1.3", filled <= 1.3 * memset, note=note),
        Figure(f"{label} filling recycled images / memset", again / memset, "x", note=note),
    ]


def _train(
    options: Options, dataset: e2eio.Dataset, resolution: int, batch_size: int, device: torch.device
) -> tuple[timing.Stall, timing.Stall]:
    """Train on fresh batches, then on one resident batch."""
    with loader_of(dataset, batch_size, options.threads, device=device) as loader:
        epochs = itertools.chain.from_iterable(iter(loader) for _ in itertools.count())
        torch.manual_seed(0)
        network = ResNet15(len(dataset.channels), resolution).to(device)
        fed = timing.train(network, epochs, options.steps)
        batch = next(iter(loader))
        resident = timing.train(network, itertools.repeat(batch), options.steps)
    return fed, resident


def parse(arguments: list[str] | None = None) -> tuple[Options, argparse.Namespace]:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--resolution", type=int, choices=(1, 3), help="only x1 or only x3")
    add("--rounds", type=int, default=7, metavar="N", help="interleaved rounds (default: 7)")
    add("--threads", type=int, default=count_cores(), metavar="N", help="or workers, of each (all)")
    add("--quick", action="store_true", help="few jets and short rounds")
    add("--work", type=Path, metavar="DIR", help="keep the derived files here")
    add("--out", type=Path, metavar="DIR", help="where gpu_feed.json goes")
    add("--check", action="store_true", help="exit with 1 if a figure that was measured is missed")
    told = parser.parse_args(arguments)
    if told.rounds < 1 or told.threads < 1:
        parser.error("--rounds and --threads are at least 1")
    quick = told.quick
    options = Options(
        resolutions=(told.resolution,) if told.resolution else (1, 3),
        jets={1: 256, 3: 128} if quick else {1: 8192, 3: 4096},
        raw_jets={1: 128, 3: 64} if quick else {1: 2048, 3: 512},
        rounds=min(told.rounds, 2) if quick else told.rounds,
        seconds=0.2 if quick else 2.0,
        threads=told.threads,
        trained=(64,) if quick else TRAINED,
        steps=20 if quick else 200,
    )
    return options, told


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    options, told = parse(arguments)
    try:
        with work_folder(told.work) as folder:
            report = run(options, folder)
    except (DataError, FeedError) as error:
        return fail("gpu_feed", error)
    tell("")
    print_report(report)
    print(f"written: {save_result('gpu_feed', dataclasses.asdict(report), told.out)}")
    missed = [figure for figure in report.figures if figure.reached is False]
    return 1 if told.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
