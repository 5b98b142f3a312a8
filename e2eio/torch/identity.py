"""What the order of a DataLoader follows from, besides random numbers: to be equal in states, and on all ranks."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import RandomSampler, SubsetRandomSampler
from torch.utils.data.distributed import DistributedSampler
from torch.utils.data.sampler import WeightedRandomSampler

from e2eio.distributed import check_agreement, detect_ranks
from e2eio.torch.samplers import length_of, n_batches_of

if TYPE_CHECKING:
    from e2eio.torch.draws import Draws
    from e2eio.torch.samplers import Samplers
    from e2eio.torch.sources import SampleSource

__all__ = ["RankComparison", "identity_of", "plan_of_ranks"]

# Not the rank: the position counts batches of each rank, so one rank's state is right on all of them.
_OPTIONS: dict[type, tuple[str, ...]] = {
    RandomSampler: ("replacement", "num_samples"),
    WeightedRandomSampler: ("replacement", "num_samples"),
    DistributedSampler: ("num_replicas", "seed", "shuffle", "drop_last"),
}
_CONTENTS: dict[type, str] = {SubsetRandomSampler: "indices", WeightedRandomSampler: "weights"}


def identity_of(samplers: Samplers, source: SampleSource | None, dataset: Any) -> dict[str, Any]:
    """Return what has to be equal where an epoch is gone on with: JSON-able."""
    batching = samplers.batch_sampler
    identity = {
        "n_samples": _plain(length_of(dataset if source is None else source.numbers)),
        "batch_size": _plain(getattr(batching, "batch_size", None)),
        "drop_last": _plain(getattr(batching, "drop_last", None)),
        "dataset": None if source is None else source.dataset.digest,
        "samples": None if source is None else source.numbers_digest,
        **_described("sampler", samplers.leaf),
    }
    inner = getattr(samplers.leaf, "sampler", None)
    return identity if inner is None else identity | _described("sampler.sampler", inner)


def plan_of_ranks(draws: Draws, source: SampleSource) -> tuple[int, dict[str, Any]] | None:
    """Return among how many ranks a DistributedSampler shares the epoch, and what they have to agree on.

    None: there is no such sampler.
    """
    leaf = draws.samplers.leaf
    for sampler in (leaf, getattr(leaf, "sampler", None)):
        if isinstance(sampler, DistributedSampler):
            plan = identity_of(draws.samplers, source, None)
            plan |= {"epoch": _plain(sampler.epoch), "position": draws.progress.n_yielded}
            n_batches = n_batches_of(draws.samplers)
            if n_batches < math.inf:  # samplers of other kinds may give ranks unequal shares
                plan["n_batches"] = n_batches
            return int(sampler.num_replicas), plan
    return None


class RankComparison:
    """Compares what the ranks of a job iterate over, before a loader's first batch.

    Thread rule: one thread at a time.
    """

    def __init__(self) -> None:
        self._done = False
        self._shared: tuple[int, dict[str, Any]] | None = None

    def prepare(self, draws: Draws, source: SampleSource) -> None:
        """Note what is about to be iterated over."""
        if not self._done:
            self._shared = plan_of_ranks(draws, source)

    def check(self) -> None:
        """Compare it with the other ranks', once, if the job has as many as the sampler.

        Raises
        ------
        PlanMismatchError, RankMissingError
            As :func:`e2eio.distributed.check_agreement`.
        """
        if self._done or self._shared is None:
            return
        n_ranks, plan = self._shared
        ranks = detect_ranks()
        if ranks.world_size == n_ranks:  # else a part of the ranks shares it, who knows which
            check_agreement(plan, rank=ranks.rank, world_size=n_ranks)
        self._done = True


def _described(name: str, sampler: Any) -> dict[str, Any]:
    kind = type(sampler)
    found: dict[str, Any] = {f"{name} type": kind.__qualname__}
    for each, options in _OPTIONS.items():
        if isinstance(sampler, each):
            found |= {f"{name}.{opt}": _plain(getattr(sampler, opt, None)) for opt in options}
    for each, content in _CONTENTS.items():
        if isinstance(sampler, each):
            found[f"{name}.{content}"] = _digest(getattr(sampler, content, None))
    if kind in (list, tuple, range):
        found[f"{name} content"] = _digest(sampler)
    return found


def _plain(value: Any) -> int | str | None:
    if value is None or isinstance(value, bool | int):
        return value
    if value == math.inf:
        return None  # of no length
    try:
        return int(value)  # of numpy, or a tensor
    except (TypeError, ValueError):
        return str(value)


def _digest(content: Any) -> str | None:
    """Return 16 hex digits of numbers, or of lists of numbers; None: they are something else."""
    try:
        values = np.asarray(content)
    except (TypeError, ValueError, RuntimeError):  # batches of several sizes
        values = np.empty(0, dtype=object)
    if values.dtype.kind in "iuf":
        stored = values.astype("<f8" if values.dtype.kind == "f" else "<i8").tobytes()
    else:
        try:
            stored = json.dumps(content).encode()
        except (TypeError, ValueError):
            return None
    return hashlib.blake2b(stored, digest_size=8).hexdigest()
