"""Interleaved rounds: contenders take turns, so that disturbances hit all alike."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.contender import Child, ContenderError, Inputs, Run, Setting, VerificationError

__all__ = ["Result", "Trial", "measure"]

# The contender whose ring the others that clear memory imitate.
RING_OWNER = "e2eio_dense"
WARM_UP_S = 0.2


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting, and its median over the rounds."""

    setting: Setting
    samples_per_s: float


@dataclass(slots=True)
class Result:
    """All that is known of one contender; `unavailable` says why there are no runs."""

    name: str
    runs: list[Run] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    setting: Setting = field(default_factory=dict)
    n_verified: int = 0
    peak_rss_mb: float = 0.0
    details: Setting = field(default_factory=dict)
    unavailable: str = ""


@dataclass(slots=True)
class _Lane:
    """One setting of one contender, in a process of its own."""

    result: Result
    child: Child
    setting: Setting = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    n_verified: int = 0

    @property
    def samples_per_s(self) -> float:
        return statistics.median(run.samples_per_s for run in self.runs)


def measure(
    names: list[str],
    inputs: Inputs,
    *,
    n_rounds: int,
    seconds: float,
    tell: Callable[[str], None],
) -> list[Result]:
    """Verify every contender in each of its settings, then time all of them in interleaved rounds.

    Parameters
    ----------
    names : list of str
        Modules of `contenders`.
    inputs : Inputs
        What to read, and how.
    n_rounds, seconds
        Rounds (1 or more), and the least time of each contender in each (s).
    tell : callable
        Takes lines on the progress.

    Returns
    -------
    list of Result
        In the order of `names`, with the runs of the setting whose median is the fastest. A
        contender that cannot be prepared (a missing package) is marked as unavailable.

    Raises
    ------
    VerificationError
        If a contender delivers wrong data: nothing is timed then.
    ContenderError
        If one fails while it is timed.
    """
    results = [Result(name) for name in names]
    lanes: list[_Lane] = []
    try:
        for result in results:  # one by one: those that have started are stopped if one cannot
            lanes.append(_Lane(result, Child(result.name)))  # noqa: PERF401
        _open_settings(lanes, inputs)
        for result in sorted(results, key=lambda each: each.name != RING_OWNER):
            tell(f"verifying {result.name}")
            for lane in lanes:
                if lane.result is result:
                    inputs = _prepare(lane, inputs)
        alive = [lane for lane in lanes if not lane.result.unavailable]
        for k in range(n_rounds):
            tell(f"round {k + 1} of {n_rounds}")
            first = k % max(1, len(alive))
            for lane in alive[first:] + alive[:first]:
                lane.runs.append(lane.child.run(seconds))
        for result in results:
            _conclude(result, [lane for lane in alive if lane.result is result])
    finally:
        for lane in lanes:
            lane.child.dismiss()
        for lane in lanes:
            lane.child.stop()
    return results


def _open_settings(lanes: list[_Lane], inputs: Inputs) -> None:
    """Add a lane for each further setting, and wait until all processes are ready."""
    for lane in list(lanes):

        def open_all(lane: _Lane = lane) -> None:
            lane.child.wait_ready()
            lane.setting, *others = lane.child.settings(inputs)
            for setting in others:
                lanes.append(_Lane(lane.result, Child(lane.result.name), setting))  # noqa: PERF401

        _try(lane.result, open_all)
    for lane in lanes:
        if lane.setting and not lane.child.is_ready:
            _try(lane.result, lane.child.wait_ready)


def _prepare(lane: _Lane, inputs: Inputs) -> Inputs:
    """Prepare, verify and warm up; return the inputs, with the size of the ring from its owner."""

    def verify() -> None:
        setting = lane.setting
        if "ring_slots" in setting:
            setting = lane.setting = {**setting, "ring_slots": inputs.ring_slots}
        lane.child.prepare(inputs, setting)
        lane.n_verified = lane.child.verify()
        lane.child.run(WARM_UP_S)

    if not lane.result.unavailable:
        _try(lane.result, verify)
    if lane.result.name == RING_OWNER and not lane.result.unavailable:
        slots = lane.child.report()[1].get("slots", inputs.ring_slots)
        return dataclasses.replace(inputs, ring_slots=int(slots))
    return inputs


def _conclude(result: Result, lanes: list[_Lane]) -> None:
    """Take over what the fastest setting has measured."""
    if not lanes:
        return
    best = max(lanes, key=lambda lane: lane.samples_per_s)
    result.runs, result.setting, result.n_verified = best.runs, best.setting, best.n_verified
    result.trials = [Trial(lane.setting, lane.samples_per_s) for lane in lanes]
    result.peak_rss_mb, result.details = best.child.report()


def _try(result: Result, step: Callable[[], None]) -> None:
    try:
        step()
    except VerificationError:
        raise
    except ContenderError as error:
        result.unavailable = str(error)
