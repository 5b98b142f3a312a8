"""torch's samplers: what they draw from, and the state of it that an epoch begins with."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler
from torch.utils.data.distributed import DistributedSampler
from torch.utils.data.sampler import WeightedRandomSampler

from e2eio.errors import StateError

__all__ = [
    "Samplers",
    "begin_of",
    "check_begin",
    "length_of",
    "n_batches_of",
    "replayed",
    "restore_epoch",
    "unobserved",
]

_WITHOUT_RANDOM = (SequentialSampler, DistributedSampler, range, list, tuple)
_KNOWN = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


@dataclass(frozen=True, slots=True)
class Samplers:
    """What a loader's order follows from: its attributes of the same names. Thread rule: any thread."""

    sampler: Any
    batch_sampler: Any
    generator: torch.Generator | None

    @property
    def index_sampler(self) -> Any:
        """What is iterated over."""
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    @property
    def leaf(self) -> Any:
        """What decides on the order: the sampler inside of torch's own BatchSampler."""
        sampler = self.index_sampler
        return sampler.sampler if type(sampler) is BatchSampler else sampler


def unobserved(samplers: Samplers) -> bool:
    """Say whether all draws after the first batch's leave no trace that anybody could notice."""
    leaf = samplers.leaf
    if type(leaf) is RandomSampler:
        return leaf.generator is None  # it makes one of its own
    return type(leaf) in (*_WITHOUT_RANDOM, *_KNOWN)


def _generators(samplers: Samplers) -> list[torch.Generator]:
    found: list[torch.Generator] = []
    for owner in (samplers, samplers.sampler, samplers.batch_sampler, samplers.leaf):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator) and all(generator is not each for each in found):
            found.append(generator)
    return found


def _draws_globally(samplers: Samplers) -> bool:
    leaf = samplers.leaf
    if type(leaf) in _WITHOUT_RANDOM or type(leaf) is RandomSampler:
        return False  # a RandomSampler draws one seed, which is kept instead
    return not isinstance(getattr(leaf, "generator", None), torch.Generator)


def begin_of(samplers: Samplers) -> dict[str, Any]:
    """Return what the order of the epoch that begins now follows from: JSON-able.

    The states of explicit generators, "global" (torch's, where the sampler may draw from it), "epoch" (of
    samplers that have one). A RandomSampler without a generator adds its "seed" when it has drawn it.
    """
    begin: dict[str, Any] = {}
    if generators := _generators(samplers):
        begin["generators"] = [_encoded(generator) for generator in generators]
    if _draws_globally(samplers):
        begin["global"] = _encoded(torch.default_generator)
    epoch = getattr(samplers.leaf, "epoch", None)
    if isinstance(epoch, int):
        begin["epoch"] = epoch
    return begin


@contextmanager
def replayed(samplers: Samplers, begin: dict[str, Any]) -> Iterator[None]:
    """Set the random numbers to those of `begin`; torch's global ones are put back afterwards."""
    for generator, state in zip(_generators(samplers), begin.get("generators", []), strict=False):
        generator.set_state(_decoded(state))
    before = torch.get_rng_state()
    try:
        if "global" in begin:
            torch.set_rng_state(_decoded(begin["global"]))
        yield
    finally:
        torch.set_rng_state(before)


def check_begin(samplers: Samplers, begin: object) -> None:
    """Check that an epoch of these samplers can begin with that.

    Raises
    ------
    StateError
        It cannot: it is damaged, or of other samplers.
    """
    expected = set(begin_of(samplers))
    leaf = samplers.leaf
    optional = {"seed"} if type(leaf) is RandomSampler and leaf.generator is None else set()
    if not isinstance(begin, dict) or not expected <= set(begin) <= expected | optional:
        found = sorted(map(str, begin)) if isinstance(begin, dict) else begin
        raise StateError(
            f"state of another loader, or damaged: its epoch begins with {found!r:.80}; expected {sorted(expected)} "
            f"for a {type(leaf).__qualname__} with the generators that were given here"
        )
    try:
        _try_out(_generators(samplers), begin)
    except (LookupError, TypeError, ValueError, RuntimeError, zlib.error) as error:
        raise StateError(
            f"damaged state: {error}; take another state, or begin the epoch anew"
        ) from error


def _try_out(generators: list[torch.Generator], begin: dict[str, Any]) -> None:
    states = begin.get("generators", [])
    if not isinstance(states, list) or len(states) != len(generators):
        raise ValueError(f"generators: found {states!r:.80}, expected {len(generators)}")
    for generator, state in zip(generators, states, strict=True):
        torch.Generator(generator.device).set_state(_decoded(state))
    if "global" in begin:
        torch.Generator().set_state(_decoded(begin["global"]))
    if "seed" in begin:
        torch.Generator().manual_seed(begin["seed"])
    epoch = begin.get("epoch", 0)
    if type(epoch) is not int or not 0 <= epoch < 2**62:
        raise ValueError(f"epoch: found {epoch!r:.80}, expected 0 or more")


def n_batches_of(samplers: Samplers) -> float:
    """Return how many batches an epoch has, if torch's own samplers say so; else infinity."""
    batching = samplers.batch_sampler
    known = type(samplers.leaf) in (*_WITHOUT_RANDOM, *_KNOWN)
    plain = batching is None or batching is samplers.leaf or type(batching) is BatchSampler
    return length_of(samplers.index_sampler) if known and plain else math.inf


def restore_epoch(samplers: Samplers, begin: dict[str, Any]) -> None:
    """Set the epoch of a sampler that has one."""
    if "epoch" in begin and callable(getattr(samplers.leaf, "set_epoch", None)):
        samplers.leaf.set_epoch(begin["epoch"])


def _encoded(generator: torch.Generator) -> dict[str, Any]:
    # A seed says it all while nothing was drawn; else 5 KB of Mersenne twister, of which half are zeros.
    state = generator.get_state()
    seed = generator.initial_seed()
    if torch.equal(torch.Generator(generator.device).manual_seed(seed).get_state(), state):
        return {"seed": seed}
    packed = zlib.compress(state.numpy().tobytes(), 9)
    return {"state": base64.b85encode(packed).decode()}


def _decoded(state: dict[str, Any]) -> torch.Tensor:
    if "seed" in state:
        return torch.Generator().manual_seed(state["seed"]).get_state()
    unpacked = zlib.decompress(base64.b85decode(state["state"]))
    return torch.frombuffer(bytearray(unpacked), dtype=torch.uint8)


def length_of(sampler: Any) -> float:
    """Return its length; infinity: it has none."""
    try:
        return len(sampler)
    except TypeError:
        return math.inf
