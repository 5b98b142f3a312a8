"""What each rank of a job does, and sees: started by a launcher, writes OUT/<rank>.json.

python two_ranks.py torch|mpi|jax DATASET OUT
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import e2eio
from e2eio.errors import ConfigError, E2eioError, PlanMismatchError, RankMissingError

PAIRS = ("RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_PROCID")


def ids_of(loader: e2eio.Loader) -> list[list[int]]:
    return [ids.tolist() for _, ids in loader]


def open_loader(dataset: e2eio.Dataset, **options: Any) -> e2eio.Loader:
    options = {"batch_size": 8, "shuffle": True, **options}
    return e2eio.Loader(dataset, fields=("X", "sample_id"), framework="numpy", threads=1, **options)


def lengths(dataset: e2eio.Dataset, n: int) -> list[int]:
    draw = random.Random(5)
    found = []
    for _ in range(n):
        batch_size, drop_last = draw.randint(1, 70), draw.random() < 0.5
        with open_loader(dataset, batch_size=batch_size, drop_last=drop_last) as loader:
            found.append(len(loader))
    return found


def disagree(dataset: e2eio.Dataset, rank: int) -> list[Any]:
    try:
        next(iter(open_loader(dataset, seed=rank, batch_size=8 + rank)))
    except PlanMismatchError as error:
        return [str(error), error.differences]
    return []


def come_alone(dataset: e2eio.Dataset, rank: int) -> list[Any]:
    """Rank 0 has given up when the other rank comes."""
    done = Path(sys.argv[3]) / "given-up"
    while rank and not done.exists():
        time.sleep(0.01)
    try:
        open_loader(dataset).check_ranks(timeout=0.3)
    except RankMissingError as error:
        return [str(error), error.missing]
    finally:
        done.touch()
    return []


def refusal(kind: type[E2eioError], act: Callable[[], Any]) -> str:
    try:
        act()
    except kind as error:
        return str(error)
    return ""


def differ(dataset: e2eio.Dataset, rank: int, mode: str) -> dict[str, str]:
    """What else is found: other images, and ranks that were given, under other numbers than the group's."""
    given = {"rank": 1 - rank, "world_size": 2, "seed": rank}
    log = [e2eio.transforms.Log1p()] * rank
    options: Any = {
        "dtype": ("float32", "float16")[rank],
        "transforms": log,
        "channels": ["a", "b"][rank:],
    }
    acts: dict[str, Callable[[], Any]] = {
        "images": lambda: next(iter(open_loader(dataset, **options))),
        "by hand": lambda: open_loader(dataset, **given).check_ranks(),
        "processes": lambda: open_loader(dataset, **given).check_processes(),
    }
    if mode == "torch":
        loader = open_loader(dataset, **given)
        acts["xla"] = lambda: next(iter(e2eio.xla.DeviceLoader(loader, "cpu", None, {})))
    found = {name: refusal(PlanMismatchError, act) for name, act in acts.items()}
    early = open_loader(dataset)
    os.environ.update(E2EIO_RANK=str(1 - rank), E2EIO_WORLD_SIZE="2")
    found["variables"] = refusal(ConfigError, lambda: open_loader(dataset))
    os.environ.update(E2EIO_RANK="0", E2EIO_WORLD_SIZE="1")
    assert sum(map(len, ids_of(open_loader(dataset)))) == len(dataset)  # all samples for each rank
    del os.environ["E2EIO_RANK"], os.environ["E2EIO_WORLD_SIZE"]
    assert early.check_ranks()
    return found


def resume(dataset: e2eio.Dataset, rank: int) -> dict[str, Any]:
    """Both go on from a state; from different ones; one from a state and the other from the start."""
    loader = open_loader(dataset)
    batches = iter(loader)
    states = [loader.state_dict()]
    for _ in range(2):
        next(batches)
        states.append(loader.state_dict())
    batches.close()
    loader.load_state_dict(states[1])
    found: dict[str, Any] = {"same": len(list(loader))}
    late = iter(loader)  # compared though the iterator is there
    loader.load_state_dict(states[1 + rank])
    found["other"] = refusal(PlanMismatchError, lambda: next(late))
    late.close()
    loader.load_state_dict(states[1])
    found["again"] = len(list(loader))
    os.environ["E2EIO_CHECK_TIMEOUT"] = "0.5"
    done = Path(sys.argv[3]) / "not-loaded"
    if rank == 0:
        loader.load_state_dict(states[1])
        found["alone"] = refusal(RankMissingError, lambda: next(iter(loader)))
        done.touch()
    else:
        loader.set_epoch(0)
        found["alone"] = len(list(loader))
        while not done.exists():
            time.sleep(0.01)
        refusal(RankMissingError, loader.check_ranks)  # as many rounds as the other
    del os.environ["E2EIO_CHECK_TIMEOUT"]
    return found


def older_loader(dataset: e2eio.Dataset) -> e2eio.Loader:
    """A loader made before anybody says that there are several ranks."""
    said = {name: os.environ.pop(name) for name in list(os.environ) if name in PAIRS}
    loader = open_loader(dataset)
    assert (loader.rank, loader.world_size, len(loader)) == (0, 1, -(-len(dataset) // 8))
    os.environ.update(said)
    return loader


def started(mode: str) -> dict[str, Any]:
    if mode == "torch":
        world = e2eio.distributed.init(timeout=60)
        assert e2eio.distributed.init() is world
        place = [world.rank, world.world_size, world.local_rank, world.local_world_size]
        return {"world": repr(world), "place": place}
    if mode == "mpi":
        from mpi4py import MPI

        return {"place": [MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size]}
    import jax

    jax.distributed.initialize(os.environ["COORDINATOR"], 2, int(os.environ["NUMBER"]))
    return {"place": [jax.process_index(), jax.process_count()]}


def main() -> None:
    mode, path, out = sys.argv[1:]
    dataset = e2eio.Dataset(path)
    loader = older_loader(dataset)
    report = started(mode)
    ranks = e2eio.distributed.detect_ranks()
    report |= {
        "loader": [loader.rank, loader.world_size, len(loader)],
        "epochs": [ids_of(loader), ids_of(loader)],
        "source": ranks.source,
        "lengths": lengths(dataset, 200),
        "disagree": disagree(dataset, ranks.rank),
        "compared": open_loader(dataset).check_ranks(),
        "alone": come_alone(dataset, ranks.rank),
        "differ": differ(dataset, ranks.rank, mode),
        "resume": resume(dataset, ranks.rank),
        "torch": "torch" in sys.modules,
    }
    (Path(out) / f"{ranks.rank}.json").write_text(json.dumps(report))
    if mode == "torch":
        e2eio.distributed.shutdown()
        e2eio.distributed.shutdown()


if __name__ == "__main__":
    main()
