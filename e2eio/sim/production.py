"""`simulate`: samples straight into shards, by as many processes as there are cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio import manifest
from e2eio.errors import ConfigError
from e2eio.manifest import Manifest, Provenance, ShardEntry
from e2eio.production import (
    Crew,
    FinishedShard,
    Job,
    ShardRange,
    Target,
    list_shards,
    start_progress,
)
from e2eio.progress import Progress, make_progress
from e2eio.remote import refuse_remote_target
from e2eio.shards import open_writer, slice_samples, written_statistics
from e2eio.sim.apparatus import CMS_RUN_1
from e2eio.sim.pileup import make_pileup
from e2eio.sim.plan import (
    SimulationOptions,
    SimulationPlan,
    make_simulation_plan,
    shard_seeds,
)
from e2eio.sim.processes import find_process
from e2eio.sim.samples import load_packages, make_samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.sim.processes import Sample

__all__ = ["simulate", "write_simulated_shard"]

_CHUNK: Final = 64  # samples appended at a time, unless they are large


def simulate(
    process: str,
    out: str | os.PathLike[str],
    *,
    n: int,
    seed: int = 0,
    resolution: int = 1,
    pileup: float | None = None,
    processes: int | None = None,
    shard_samples: int = 2048,
    compression_level: int = 3,
    overwrite: bool = False,
    resume: bool = True,
    progress: bool = True,
) -> Manifest:
    """Simulate samples of two classes, half of each, and write them as a dataset.

    Collisions are those of Pythia 8, jets those of FastJet; what a CMS-like detector sees of them with pile-up is
    in functions of numpy (docs/simulate.md). Single electrons and photons need neither package. All is simulated,
    nothing is CMS's.

    The same arguments give the same shards, byte for byte, whatever the number of processes. An interrupted
    or failed run goes on from the shards that are complete, as `convert` does.

    Parameters
    ----------
    process : {"top", "quark-gluon", "electron-photon", "h4gamma", "ttbar"}
        y = 1: jets of hadronic top quarks, of quarks, electrons' showers, whole events of H to a a to four
        photons, of top pairs; y = 0: jets of all other partons, of gluons, photons' showers, whole events of two
        photons, of other hard partons.
    out : path
        Directory of the dataset, made if it does not exist.
    n : int
        Number of samples, 1 to 10^9.
    seed : int
        0 to 2^63 - 1.
    resolution : {1, 3, 5}
        Pixels per crystal edge: images of jets have 125, 375 or 625 pixels. Events have 1 or 3, showers 1.
    pileup : float, optional
        Mean number of other collisions, 0 to 200; that of the process if not given: 21, 0 for showers.
    processes : int, optional
        As many as there are usable cores, if not given. One shard at a time is simulated by each.
    shard_samples : int
        Samples of a shard, at most, 2 to 10^6. With Pythia, each shard begins with some 3 s in which none is made.
    compression_level : int
        Of zstd, 1 to 19.
    overwrite, resume, progress : bool
        As of `e2eio.convert`.

    Returns
    -------
    Manifest
        The content of ``dataset.json``.

    Raises
    ------
    MissingDependencyError
        pythia8mc or fastjet is missing, and the process needs it.
    ConfigError
        An argument is out of its range.
    ShardExistsError
        `out` holds something else, and `overwrite` is False.
    ShardIOError
        The system refused to write.
    E2eioError
        The generator fails.

    Examples
    --------
    >>> simulate("top", "data/top", n=40_000, seed=1)  # doctest: +SKIP
    """
    if not os.fspath(out):
        raise ConfigError("no target: found an empty path, expected a directory; name it")
    refuse_remote_target(out)
    mean = None if pileup is None else float(pileup)
    options = SimulationOptions(
        process, n, seed, resolution, mean, shard_samples, compression_level
    )
    plan = make_simulation_plan(options)
    with make_progress(progress, verb="simulated") as shown, Crew(processes) as crew:
        load_packages(find_process(process), options.mean_pileup)
        return _simulate(plan, Path(out), crew, overwrite, resume, shown)


def _simulate(
    plan: SimulationPlan, out: Path, crew: Crew, overwrite: bool, resume: bool, progress: Progress
) -> Manifest:
    with Target(out) as target:
        found = target.begin(plan, overwrite=overwrite, resume=resume)
        if isinstance(found, Manifest):
            progress.note(f"{out}: already simulated")
            return found
        with target.filling(plan):
            content = _manifest(plan, _make_shards(plan, out, found, crew, progress))
            manifest.write(out, content)
        return content


def _make_shards(
    plan: SimulationPlan,
    out: Path,
    finished: list[FinishedShard],
    crew: Crew,
    progress: Progress,
) -> list[FinishedShard]:
    """Return all shards in order, those that there were and those that had to be simulated."""
    tasks, tick = start_progress(out, plan.tasks, finished, plan.options.n, progress)
    jobs = [_job(task, plan.options, out) for task in tasks]
    made = [shard for _, shard in crew.do(jobs, tick)]
    progress.close()
    return sorted([*finished, *made], key=lambda shard: shard.index)


def _job(task: ShardRange, options: SimulationOptions, out: Path) -> Job:
    noun = find_process(options.process).noun

    def place(n_done: int) -> tuple[str, str]:
        return (
            f"simulating {noun} {task.begin + n_done} of {options.n}",
            "run the same again to go on from the shards that are complete, or use another seed",
        )

    return Job(task.file, place, write_simulated_shard, (task, options, out), "simulation")


def write_simulated_shard(
    task: ShardRange, options: SimulationOptions, out: Path, tick: Callable[[int], None]
) -> FinishedShard:
    """Simulate and write one shard: all that a worker does.

    May be called again: the same task gives the same bytes, and the shard is there complete or not at all.

    Parameters
    ----------
    task : ShardRange
    options : SimulationOptions
    out : path
        Directory of the dataset; it exists.
    tick : callable
        Told the number of samples made since it was last told; what it raises ends the work.

    Raises
    ------
    E2eioError
        The generator fails.
    ShardIOError
        The system refused to write.
    """
    schema = options.schema
    size = min(_CHUNK, slice_samples(schema))
    writer = open_writer(
        out / task.file,
        schema,
        shard_id=task.shard_id,
        compression_level=options.compression_level,
        overwrite=True,  # what is there was found to be no finished shard
    )
    try:
        rows: list[tuple[int, Sample]] = []
        for row in _labelled(task, options, tick):
            rows.append(row)
            if len(rows) == size or writer.n_samples + len(rows) == task.n_samples:
                images = np.stack([sample.image for _, sample in rows])
                columns = zip(*((label, *sample.scalars) for label, sample in rows), strict=True)
                writer.append(images, [np.array(column, np.float32) for column in columns])
                rows.clear()
        writer.finish()
    except BaseException:
        writer.abort()
        raise
    return FinishedShard(
        task.index,
        ShardEntry(task.file, writer.n_samples, writer.n_bytes, writer.digest),
        written_statistics(writer),
        manifest.content_digest(writer.sample_digests()),
        0,
        0,
    )


def _labelled(
    task: ShardRange, options: SimulationOptions, tick: Callable[[int], None]
) -> Iterator[tuple[int, Sample]]:
    """Yield the samples of a shard with their labels: half of each class, in an order drawn at random."""
    tick(0)
    order, pool, *classes = shard_seeds(options.seed, task.index).spawn(4)
    labels: NDArray[np.int64] = np.arange(task.begin, task.end) % 2
    np.random.default_rng(order).shuffle(labels)
    process = find_process(options.process)
    pileup = make_pileup(options.mean_pileup, int(pool.generate_state(1)[0]), process.reach)
    streams = [
        make_samples(process, label, pileup, CMS_RUN_1, resolution=options.resolution, seeds=seeds)
        for label, seeds in enumerate(classes)
    ]
    for label in labels.tolist():
        yield label, next(streams[label])
        tick(1)


def _manifest(plan: SimulationPlan, shards: list[FinishedShard]) -> Manifest:
    provenance = Provenance(
        (), manifest.converter_name(), plan.options.to_json(), manifest.creation_time()
    )
    return list_shards(plan.options.schema, shards, provenance)
