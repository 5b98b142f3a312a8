"""What DataLoader.state_dict returns: Progress as JSON-able values, and back."""

from __future__ import annotations

import copy
from typing import Any

from e2eio.errors import ConfigError
from e2eio.options import at_least
from e2eio.torch.draws import Progress

__all__ = ["checked_steps", "progress_from", "state_of"]

_VERSION = 1

# Names as in torchdata's state, for whoever looks into one.
_N_YIELDED = "_num_yielded"
_FINISHED = "_iterator_finished"


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
    if progress.sampler is not None:
        state.update(sampler=progress.sampler, since=progress.since)
    return copy.deepcopy(state)


def progress_from(state: dict[str, Any], identity: dict[str, Any]) -> Progress:
    """Return what the state says, if it is of a loader with that identity.

    Raises
    ------
    ConfigError
        It is not.
    """
    if state.get("version") != _VERSION or "begin" not in state:
        raise ConfigError(
            "not a state of this version of e2eio.DataLoader; expected what its state_dict() returned"
        )
    for name, expected in identity.items():
        if state.get(name) != expected:
            raise ConfigError(
                f"state of another loader: {name} is {state.get(name)!r} in the state and {expected!r} here; "
                "make the DataLoader as it was, or begin the epoch anew"
            )
    state = copy.deepcopy(state)
    return Progress(
        state["begin"],
        n_yielded=at_least(0, _N_YIELDED, state[_N_YIELDED]),
        finished=bool(state[_FINISHED]),
        base_seed=state["base_seed"],
        sampler=state.get("sampler"),
        since=state.get("since", 0),
    )
