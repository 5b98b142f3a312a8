"""Whether all ranks of a job mean the same epoch, found out before the first batch."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from e2eio.distributed.exchange import Exchange, open_exchange
from e2eio.distributed.waiting import wait_until
from e2eio.errors import ConfigError, PlanMismatchError, RankMissingError

__all__ = [
    "CHECK_TIMEOUT_S",
    "LOADED",
    "START",
    "check_agreement",
    "check_timeout_s",
    "compare",
    "ranks_text",
]

#: Seconds that ranks wait for each other, unless E2EIO_CHECK_TIMEOUT says otherwise.
CHECK_TIMEOUT_S = 300.0

_SAY_S = 30.0  # after which a rank that waits says so
_ANSWER_S = 10.0  # that the others wait longer than rank 0, whose answer is the better one
_GONE = ""  # the report of a rank that has stopped waiting

_ALONE = (
    "a loader that not all ranks iterate, as for validation on rank 0, takes rank=0, world_size=1"
)

#: Why ranks are compared: a loader's first batch, or the first after a state was loaded.
START, LOADED = "start", "loaded"

_WHEN = {START: "before the first batch", LOADED: "before the first batch after load_state_dict"}
_WHY = {
    START: _ALONE,
    LOADED: "load_state_dict was called on this rank, and has to be called on all ranks, with the same state, before "
    "the same iteration: a rank that has not loaded it does not come, and would get other batches, and another number "
    "of them",
}


def check_timeout_s() -> float:
    """Return ``E2EIO_CHECK_TIMEOUT`` in seconds, else :data:`CHECK_TIMEOUT_S`; 0: ranks are not compared.

    Raises
    ------
    ConfigError
        The variable is no number of at least 0.
    """
    text = os.environ.get("E2EIO_CHECK_TIMEOUT", str(CHECK_TIMEOUT_S))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise ConfigError(f"E2EIO_CHECK_TIMEOUT is {text!r}; expected seconds, or 0 for no check")
    return value


def check_agreement(
    description: Mapping[str, Any],
    *,
    rank: int,
    world_size: int,
    timeout_s: float | None = None,
    occasion: str = START,
) -> bool:
    """Compare what all ranks are about to do; all ranks call it, in the same order.

    Rank 0 collects the descriptions and answers all ranks with the differences, so each rank gets the same
    error. Two short messages per rank, through what connects the ranks already: the store of
    torch.distributed, MPI, or the store of jax.distributed. No GPU is touched.

    Parameters
    ----------
    description : mapping of str to JSON values
        What has to be equal on all ranks.
    rank, world_size : int
        The ranks to compare; those of the group, MPI world or JAX job that connects them.
    timeout_s : float or None
        How long to wait for the other ranks; None: :func:`check_timeout_s`; 0: do not compare.
    occasion : {"start", "loaded"}
        Why the ranks are compared, for what is said of ranks that do not come.

    Returns
    -------
    bool
        Whether the ranks were compared. False: there is one rank only, or nothing connects the ranks (as under
        a launcher without torch.distributed, mpi4py or JAX in use), or the time is 0.

    Raises
    ------
    PlanMismatchError
        The descriptions differ; the message lists the ranks by item and value.
    RankMissingError
        Some ranks did not come in time; the message names them.

    Examples
    --------
    >>> check_agreement({"seed": 1}, rank=0, world_size=1)
    False
    """
    timeout_s = check_timeout_s() if timeout_s is None else timeout_s
    if world_size == 1 or timeout_s == 0:
        return False
    exchange = open_exchange(rank, world_size)
    if exchange is None:
        return False
    compare(
        exchange,
        description,
        rank=rank,
        world_size=world_size,
        timeout_s=timeout_s,
        occasion=occasion,
    )
    return True


def compare(
    exchange: Exchange,
    description: Mapping[str, Any],
    *,
    rank: int,
    world_size: int,
    timeout_s: float,
    occasion: str = START,
) -> None:
    """Do what :func:`check_agreement` does, through this exchange."""
    text = json.dumps(dict(description), sort_keys=True)
    try:
        if rank == 0:
            verdict = _collect(exchange, text, world_size, timeout_s, occasion)
            exchange.answer(json.dumps(verdict))
        else:
            verdict = _ask(exchange, text, rank, timeout_s, occasion)
    except RuntimeError as error:  # of torch's store, of MPI and of JAX alike
        raise RankMissingError(
            f"rank {rank} lost the other ranks while they compared what they load: {error}; look for the first "
            "error among the messages of all ranks"
        ) from error
    _raise_unless_agreed(verdict, timeout_s, occasion)


def _collect(
    exchange: Exchange, own: str, world_size: int, timeout_s: float, occasion: str
) -> dict[str, Any]:
    def missing() -> list[int]:
        reports = exchange.reports()
        return [rank for rank in range(1, world_size) if reports.get(rank, _GONE) == _GONE]

    _wait(
        lambda: not missing(),
        timeout_s,
        lambda: f"rank 0 waits for {ranks_text(missing())}",
        occasion,
    )
    absent = missing()
    if absent:
        return {"missing": absent}
    texts = {0: own, **exchange.reports()}
    return {"differences": _differences({rank: json.loads(t) for rank, t in texts.items()})}


def _ask(
    exchange: Exchange, text: str, rank: int, timeout_s: float, occasion: str
) -> dict[str, Any]:
    answers: list[str] = []

    def answered() -> bool:
        answer = exchange.answered()
        if answer is not None:
            answers.append(answer)
        return bool(answers)

    exchange.report(text)
    who = f"rank {rank} waits for rank 0"
    if not _wait(answered, timeout_s + _ANSWER_S, lambda: who, occasion):
        exchange.report(_GONE)
        return {"missing": [0]}
    verdict: dict[str, Any] = json.loads(answers[0])
    return verdict


def _wait(done: Any, timeout_s: float, who: Any, occasion: str) -> bool:
    if wait_until(done, min(_SAY_S, timeout_s)):
        return True
    if timeout_s <= _SAY_S:
        return False
    warnings.warn(
        f"{who()} since {_SAY_S:.0f} s, to compare what they load {_WHEN[occasion]}; {_WHY[occasion]}",
        stacklevel=5,
    )
    return wait_until(done, timeout_s - _SAY_S)


def _differences(descriptions: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """Return for each item that differs its values, as JSON, each with the ranks that have it."""
    found: dict[str, dict[str, list[int]]] = {}
    for item in dict.fromkeys(key for rank in sorted(descriptions) for key in descriptions[rank]):
        values: dict[str, list[int]] = {}
        for rank in sorted(descriptions):
            known = item in descriptions[rank]
            value = json.dumps(descriptions[rank][item], sort_keys=True) if known else "(none)"
            values.setdefault(value, []).append(rank)
        if len(values) > 1:
            found[item] = values
    return found


def _raise_unless_agreed(verdict: Mapping[str, Any], timeout_s: float, occasion: str) -> None:
    missing = verdict.get("missing", [])
    if missing:
        raise RankMissingError(
            f"{ranks_text(missing)} did not come within {timeout_s:g} s to compare what is loaded, "
            f"{_WHEN[occasion]}; {_WHY[occasion]}; for slow ranks raise E2EIO_CHECK_TIMEOUT (seconds)",
            missing,
        )
    differences = verdict.get("differences", {})
    if differences:
        lines = [
            f"  {item}: " + "; ".join(f"{value} on {ranks_text(r)}" for value, r in values.items())
            for item, values in differences.items()
        ]
        raise PlanMismatchError(
            "the ranks would load different things, and their batches would not fit together:\n"
            + "\n".join(lines)
            + "\nexpected the same on all ranks: give all of them the same dataset, seed, epoch, state and options; "
            + _ALONE,
            differences,
        )


def ranks_text(ranks: Sequence[int]) -> str:
    """Return "rank 3" or "ranks 0-2, 5"."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], rank]
        else:
            runs.append([rank, rank])
    spans = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"rank {spans}" if len(ranks) == 1 else f"ranks {spans}"
