"""What a sampler draws, in torch's order, and where in it one is: the state of a DataLoader.

torch's samplers have no state. Their order is a function of the random numbers at the epoch's begin; so that is
what is remembered, and the epoch is drawn again and passed over to where it was left.
"""

from __future__ import annotations

import copy
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import BatchSampler, RandomSampler

from e2eio.errors import StateError
from e2eio.torch.samplers import Samplers, begin_of, length_of

__all__ = ["Draws", "Progress", "check_sampler_states", "draws_of"]


@dataclass(slots=True)
class Progress:
    """How far one epoch has come. Thread rule: one thread at a time.

    Attributes
    ----------
    begin : dict
        What its draws follow from, as of :func:`begin_of`.
    n_yielded : int
        Batches that were handed out, or replaced by an error.
    finished : bool
        StopIteration was raised.
    base_seed : int or None
        That torch's iterator drew, and that random transforms follow from; None: it has not drawn yet.
    sampler : dict or None
        State of samplers with a state of their own, as of `since` batches ago.
    workers_drew : bool
        collate_fn has drawn random numbers of workers, which are not kept.
    """

    begin: dict[str, Any]
    n_yielded: int = 0
    finished: bool = False
    base_seed: int | None = None
    sampler: dict[str, Any] | None = None
    since: int = 0
    workers_drew: bool = False


@dataclass(slots=True)
class Draws:
    """The loader's sampler or batch sampler, counted: what torch's iterators see as the index sampler.

    Thread rule: one thread at a time.
    """

    samplers: Samplers
    sampler: Any  # the index sampler, or its twin
    progress: Progress
    every: int  # steps between snapshots of samplers with a state
    skip: int = 0  # batches to pass over
    loaded: bool = False  # a sampler's state was loaded that may be that of an epoch's end
    over: bool = False  # all batches were handed out, and StopIteration was not
    _n_drawn: int = 0
    _held: deque[Any] = field(default_factory=deque)
    _snapshots: deque[Any] = field(default_factory=deque)
    _iterator: Any = None
    _begun: bool = False

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Draws:
        self._iterator = iter(self.sampler)
        if self.progress.sampler is not None and "iterator" in self.progress.sampler:
            _put_back(self._iterator, self.progress.sampler["iterator"])
        self._begun = False
        self._n_drawn = 0
        self._held.clear()
        self._snapshots.clear()
        return self

    def __next__(self) -> Any:
        if not self._begun:
            self._begin()
        return self._held.popleft() if self._held else self._draw()

    def prime(self) -> None:
        """Draw the first batch now, if that has not been done, and keep it."""
        if self._begun:
            return
        self._begin()
        with suppress(StopIteration):
            self._held.append(self._held.popleft() if self._held else self._draw())

    def yielded(self) -> None:
        """Note that the earliest batch drawn has reached the consumer."""
        progress = self.progress
        progress.n_yielded += 1
        if self._snapshots:
            snapshot = self._snapshots.popleft()
            progress.since += 1
            if snapshot is not None:
                progress.sampler, progress.since = snapshot, 0

    def settle(self, base_seed: int) -> int:
        """Return the base seed of the epoch: the one that was drawn, unless another is gone on with."""
        if self.progress.base_seed is None:
            self.progress.base_seed = base_seed
        return self.progress.base_seed

    def finish(self) -> None:
        """Note the epoch's end; what the next one follows from is what is there now."""
        progress = self.progress
        progress.finished = True
        progress.begin = begin_of(self.samplers)
        if progress.sampler is not None:
            progress.sampler, progress.since = self._snapshot(), 0

    def restart(self) -> None:
        """Begin another epoch: to be called before iter()."""
        before = self.progress
        following = None if before.base_seed is None else before.base_seed + 1  # other transforms
        self.progress = Progress(
            begin_of(self.samplers), base_seed=following, workers_drew=before.workers_drew
        )
        self.sampler = self.samplers.index_sampler
        self.skip = 0
        self.loaded = self.over = False

    def _begin(self) -> None:
        self._begun = True
        leaf = self.samplers.leaf
        begin = self.progress.begin
        if type(leaf) is RandomSampler and leaf.generator is None and "seed" not in begin:
            begin["seed"] = _next_seed()
        if self.progress.sampler is None:
            self.progress.sampler = self._snapshot()
        if self.loaded:
            self._begin_again()
        self._pass_over()
        if self.over:
            self._end_again()

    def _pass_over(self) -> None:
        n_passed = 0
        try:
            while n_passed < self.skip:
                self._held.popleft() if self._held else self._draw(passed=True)
                n_passed += 1
        except StopIteration:
            raise StateError(
                f"damaged state, or of another loader: {self.skip} batches are to be passed over, and "
                f"{type(self.samplers.leaf).__qualname__} has {n_passed}; take another state, or begin the "
                "epoch anew"
            ) from None

    def _begin_again(self) -> None:
        # A sampler that was left at an epoch's end says so once more before it begins the next.
        try:
            self._held.append(self._draw(passed=self.skip > 0))
        except StopIteration:
            self._iterator = iter(self.sampler)

    def _end_again(self) -> None:
        # All batches were drawn before; the sampler may know that, or be at the next epoch's begin already.
        if next(self._iterator, None) is not None:
            _load(self.samplers, self.progress.sampler)
        self._iterator = iter(())

    def _draw(self, *, passed: bool = False) -> Any:
        index = next(self._iterator)
        if self.progress.sampler is not None and not passed:
            self._n_drawn += 1
            due = self._n_drawn % self.every == 0
            self._snapshots.append(self._snapshot() if due else None)
        return index

    def _snapshot(self) -> dict[str, Any] | None:
        found = {name: each.state_dict() for name, each in _stateful(self.samplers).items()}
        if _has_state(self._iterator):
            found["iterator"] = self._iterator.state_dict()
        return copy.deepcopy(found) or None


def _next_seed() -> int:
    before = torch.get_rng_state()
    seed = int(torch.empty((), dtype=torch.int64).random_().item())  # as RandomSampler does
    torch.set_rng_state(before)
    return seed


def _has_state(thing: object) -> bool:
    return callable(getattr(thing, "state_dict", None)) and callable(
        getattr(thing, "load_state_dict", None)
    )


def _stateful(samplers: Samplers) -> dict[str, Any]:
    named = {"batch_sampler": samplers.batch_sampler, "sampler": samplers.leaf}
    return {name: each for name, each in named.items() if _has_state(each)}


def check_sampler_states(samplers: Samplers, states: object) -> None:
    """Check that these are states of the samplers that have one.

    Raises
    ------
    StateError
        They are not.
    """
    expected = set(_stateful(samplers))
    found = set(states) - {"iterator"} if isinstance(states, dict) else set()
    if found != expected or not (states is None or isinstance(states, dict)):
        raise StateError(
            f"state of another loader, or damaged: sampler is {states!r:.80}; expected states of "
            f"{sorted(expected) or 'none'}"
        )


def draws_of(samplers: Samplers, resume: Progress | None, every: int) -> Draws:
    """Return the draws of an epoch that begins now, or goes on where it was left.

    Requires: what `resume` begins with is :func:`replayed` meanwhile, unless it is finished.
    """
    index_sampler = samplers.index_sampler
    if resume is not None:
        _load(samplers, resume.sampler)
    if resume is None or resume.finished:
        fresh = Progress(begin_of(samplers))
        return Draws(samplers, index_sampler, fresh, every, loaded=resume is not None)
    if resume.sampler is not None:
        draws = Draws(samplers, index_sampler, resume, every, skip=resume.since)
        draws.loaded = resume.since == resume.n_yielded  # it is the one of the begin
        draws.over = resume.n_yielded >= length_of(index_sampler)
        return draws
    if "seed" in resume.begin:
        index_sampler = _seeded(index_sampler, resume.begin["seed"])
    return Draws(samplers, index_sampler, resume, every, skip=resume.n_yielded)


def _load(samplers: Samplers, states: dict[str, Any] | None) -> None:
    for name, each in _stateful(samplers).items():
        if states is not None and name in states:
            _put_back(each, states[name])


def _put_back(owner: Any, state: Any) -> None:
    try:
        owner.load_state_dict(copy.deepcopy(state))
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise StateError(
            f"the state of {type(owner).__qualname__} was not taken by its load_state_dict: "
            f"{type(error).__name__}: {error}; take another state, or begin the epoch anew"
        ) from error


def _seeded(sampler: Any, seed: int) -> Any:
    """Return a sampler that draws what this one drew when that was the seed that it made up."""
    twin = copy.copy(sampler)
    if type(sampler) is BatchSampler:
        twin.sampler = _seeded(sampler.sampler, seed)
    elif type(sampler) is RandomSampler:
        twin.generator = torch.Generator().manual_seed(seed)
    return twin
