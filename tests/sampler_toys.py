"""Samplers of all kinds, and loaders over them, for the tests of e2eio.DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

import e2eio
from torch_toys import N

BatchSampler: Any = torch.utils.data.BatchSampler
RandomSampler: Any = torch.utils.data.RandomSampler
Sampler: Any = torch.utils.data.Sampler
SubsetRandomSampler: Any = torch.utils.data.SubsetRandomSampler
WeightedRandomSampler: Any = torch.utils.data.WeightedRandomSampler
DistributedSampler: Any = torch.utils.data.distributed.DistributedSampler


class Eager(Sampler):  # type: ignore[misc]
    """Draws from torch's global random numbers when it is asked for an iterator, and not as a generator."""

    def __len__(self) -> int:
        return N

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(N).tolist())


class Uneven(Eager):
    """A batch sampler of that kind."""

    def __len__(self) -> int:
        return 8

    def __iter__(self) -> Iterator[Any]:
        order = torch.randperm(N).tolist()
        for begin in range(0, N, 8):
            yield order[begin : begin + 8 - begin // 16]


Make = Callable[[Any, Any], dict[str, Any]]
CASES: dict[str, Make] = {
    "sequential": lambda ds, g: {"batch_size": 8},
    "shuffle": lambda ds, g: {"batch_size": 8, "shuffle": True},
    "generator": lambda ds, g: {"batch_size": 8, "shuffle": True, "generator": g},
    "sampler_generator": lambda ds, g: {"batch_size": 8, "sampler": RandomSampler(ds, generator=g)},
    "replacement": lambda ds, g: {
        "batch_size": 8,
        "sampler": RandomSampler(ds, replacement=True, num_samples=70, generator=g),
    },
    "replacement_global": lambda ds, g: {
        "batch_size": 8,
        "sampler": RandomSampler(ds, replacement=True, num_samples=70),
    },
    "subset": lambda ds, g: {"batch_size": 8, "sampler": SubsetRandomSampler(range(50))},
    "weighted": lambda ds, g: {
        "batch_size": 8,
        "drop_last": True,
        "sampler": WeightedRandomSampler([1.0] * N, 60, generator=g),
    },
    "distributed": lambda ds, g: {
        "batch_size": 3,
        "sampler": DistributedSampler(ds, num_replicas=2, rank=0),
    },
    "batch_sampler": lambda ds, g: {"batch_sampler": BatchSampler(RandomSampler(ds), 8, False)},
    "eager": lambda ds, g: {"batch_size": 8, "sampler": Eager()},
    "uneven": lambda ds, g: {"batch_sampler": Uneven()},
    "no_batches": lambda ds, g: {"batch_size": None, "sampler": SubsetRandomSampler(range(9))},
}


class Foreign(torch.utils.data.Dataset[Any]):
    """Left to torch."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        return {"i": index}


def made(dataset: Any, case: str, seed: int, **options: Any) -> e2eio.DataLoader:
    generator = torch.Generator().manual_seed(seed)
    torch.empty(3).random_(generator=generator)
    if seed % 2:
        generator.manual_seed(seed)  # and nothing drawn since
    return e2eio.DataLoader(dataset, **CASES[case](dataset, generator), **options)


class Stately(Sampler):  # type: ignore[misc]
    """Continues where it was, and counts its epochs."""

    def __init__(self) -> None:
        self.epoch_number = self.at = 0

    def __len__(self) -> int:
        return N

    def __iter__(self) -> Iterator[int]:
        while self.at < N:
            self.at += 1
            yield (self.at * 7 + self.epoch_number) % N
        self.at = 0
        self.epoch_number += 1

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at, "epoch_number": self.epoch_number}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at, self.epoch_number = state["at"], state["epoch_number"]


Ordered = Callable[[Any], e2eio.DataLoader]


def sharing(n: int = 2, rank: int = 0, **options: Any) -> Ordered:
    return lambda ds: e2eio.DataLoader(
        ds, 4, sampler=DistributedSampler(ds, num_replicas=n, rank=rank, **options)
    )
