"""What DataLoader.state_dict returns: Progress as JSON-able values, and back."""

from __future__ import annotations

import copy
from typing import Any, NoReturn

from e2eio.errors import StateError
from e2eio.options import at_least
from e2eio.torch.draws import Progress, check_sampler_states
from e2eio.torch.samplers import Samplers, check_begin, n_batches_of

__all__ = ["checked_steps", "progress_from", "state_of"]

_VERSION = 2

# Names as in torchdata's state, for whoever looks into one.
_N_YIELDED = "_num_yielded"
_FINISHED = "_iterator_finished"
_SEEDS = 2**63  # torch draws base seeds below


def checked_steps(snapshot_every_n_steps: int | None) -> int:
    """Return a number of steps of at least 1; None: 1."""
    if snapshot_every_n_steps is None:
        return 1
    return at_least(1, "snapshot_every_n_steps", snapshot_every_n_steps)


def state_of(progress: Progress, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an epoch of the loader with that identity."""
    state = {
        "version": _VERSION,
        _N_YIELDED: progress.n_yielded,
        _FINISHED: progress.finished,
        "base_seed": progress.base_seed,
        "begin": progress.begin,
        **identity,
    }
    if progress.workers_drew:
        state["workers_drew"] = True
    if progress.sampler is not None:
        state.update(sampler=progress.sampler, since=progress.since)
    return copy.deepcopy(state)


def progress_from(state: Any, identity: dict[str, Any], samplers: Samplers) -> Progress:
    """Return what the state says, if it is of a loader with that identity.

    Raises
    ------
    StateError
        It is not, or it is damaged.
    """
    if not isinstance(state, dict) or state.get("version") != _VERSION or "begin" not in state:
        raise StateError(
            f"not a state of this version of e2eio.DataLoader: found {state!r:.100}; expected what its "
            "state_dict() returned"
        )
    names = {**identity, **{name: 0 for name in state if name.startswith("sampler")}}
    names.pop("sampler", None)
    differing = [
        f"{name} is {state.get(name)!r} in the state and {identity.get(name)!r} here"
        for name in names
        if state.get(name) != identity.get(name)
    ]
    if differing:
        raise StateError(
            f"state of another loader: {'; '.join(differing)}; make the DataLoader as it was, or begin the "
            "epoch anew"
        )
    state = copy.deepcopy(state)
    progress = Progress(
        state["begin"],
        n_yielded=_count(state, _N_YIELDED),
        finished=_flag(state, _FINISHED),
        base_seed=None if state.get("base_seed") is None else _count(state, "base_seed", _SEEDS),
        sampler=state.get("sampler"),
        workers_drew=_flag({"workers_drew": False, **state}, "workers_drew"),
    )
    if progress.sampler is not None:
        progress.since = _count(state, "since", progress.n_yielded)
    if progress.n_yielded > n_batches_of(samplers):
        _damaged(_N_YIELDED, progress.n_yielded, f"at most {n_batches_of(samplers)}")
    check_begin(samplers, progress.begin)
    check_sampler_states(samplers, progress.sampler)
    return progress


def _count(state: dict[str, Any], name: str, most: int | None = None) -> int:
    value = state.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        _damaged(name, value, "a number of at least 0")
    if most is not None and value > most:
        _damaged(name, value, f"at most {most}")
    return value


def _flag(state: dict[str, Any], name: str) -> bool:
    value = state.get(name)
    if not isinstance(value, bool):
        _damaged(name, value, "True or False")
    return value


def _damaged(name: str, found: object, expected: str) -> NoReturn:
    raise StateError(
        f"damaged state: {name} is {found!r:.80}; expected {expected}; take another state, or begin the "
        "epoch anew"
    )
