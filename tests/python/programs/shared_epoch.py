"""A DataLoader whose DistributedSampler shares an epoch among two ranks; writes OUT/<rank>.json.

python shared_epoch.py DATASET OTHER OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data.distributed import DistributedSampler

import e2eio
from e2eio.errors import PlanMismatchError

Subset: Any = torch.utils.data.Subset


def loader(dataset: Any, batching: bool = False, workers: int = 0, **options: Any) -> Any:
    sampler: Any = DistributedSampler(dataset, **options)
    if batching:
        batches: Any = torch.utils.data.BatchSampler(sampler, 4, False)
        return e2eio.DataLoader(dataset, batch_sampler=batches, num_workers=workers)
    return e2eio.DataLoader(dataset, 4, sampler=sampler, num_workers=workers)


def said(made: e2eio.DataLoader) -> Any:
    """What differs; else the numbers of two epochs."""
    try:
        return [torch.cat([batch["i"] for batch in made]).tolist() for _ in range(2)]
    except PlanMismatchError as error:
        return sorted(error.differences)


def main() -> None:
    dataset, other, out = sys.argv[1:]
    rank = e2eio.distributed.init(timeout=60).rank
    mine, same = e2eio.Dataset(other if rank else dataset), e2eio.Dataset(dataset)
    if rank == 0:
        loader(same).state_dict()  # looked at by one rank alone: nobody is waited for
    ahead = loader(same)
    at = loader(same)
    iterator = iter(at)
    for _ in range(rank + 1):
        next(iterator)
    ahead.load_state_dict(at.state_dict())
    epoch = loader(same)
    epoch.sampler.set_epoch(rank)
    report = {
        "datasets": said(loader(mine)),
        "seeds": said(loader(same, seed=rank, workers=1)),
        "batches": said(loader(same, batching=True, shuffle=not rank)),
        "subsets": said(loader(Subset(same, range(rank, rank + 20)))),
        "epochs": said(epoch),
        "positions": said(ahead),
        "equal": said(loader(same)),
        "a part": said(loader(mine, num_replicas=3, rank=0)),
    }
    (Path(out) / f"{rank}.json").write_text(json.dumps(report))
    e2eio.distributed.shutdown()


if __name__ == "__main__":
    main()
