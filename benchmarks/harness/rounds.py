"""Interleaved rounds: contenders take turns, so that disturbances hit all alike."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from contenders import CONTENDERS
from harness.child import Child
from harness.contender import (
    ContenderError,
    Inputs,
    MissingError,
    Run,
    Setting,
    VerificationError,
)
from harness.peer_environments import explain_absence, find_python

__all__ = ["Result", "Status", "Timing", "Trial", "measure"]

# The contender whose ring the others that clear memory imitate.
RING_OWNER = "e2eio_dense"
WARM_UP_S = 0.2

Status = Literal["measured", "missing", "failed", "wrong", "not run"]


@dataclass(frozen=True, slots=True)
class Timing:
    """How to time: rounds (1 or more), and the least time of each contender in each (s).

    A contender that does not answer for `timeout_s` counts as hanging. With `all_settings`, each of
    a contender's settings is timed and the fastest reported, else the first that it lists. Where
    `is_tolerant`, a contender that fails or delivers wrong data is a result that says so.
    """

    rounds: int
    seconds: float
    timeout_s: float = 600.0
    all_settings: bool = True
    is_tolerant: bool = False


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
    status: Status = "measured"
    own_bytes: int = 0


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
    names: list[str], inputs: Inputs, timing: Timing, tell: Callable[[str], None]
) -> list[Result]:
    """Verify every contender in each of its settings, then time all of them in interleaved rounds.

    Parameters
    ----------
    names : list of str
        Keys of `CONTENDERS`.
    inputs : Inputs
        What to read, and how; contenders with files of their own write them below `inputs.folder`,
        once.
    timing : Timing
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
        If a contender delivers wrong data, unless that is tolerated: nothing is timed then.
    ContenderError
        If one fails while it is timed, unless that is tolerated.
    """
    results = [Result(name) for name in names]
    lanes: list[_Lane] = []
    try:
        for result in results:
            with _guard(result, timing):
                lanes.append(_Lane(result, _start(result.name, timing)))
        _open_settings(lanes, inputs, timing)
        for result in sorted(results, key=lambda each: each.name != RING_OWNER):
            tell(f"verifying {result.name}")
            for lane in [each for each in lanes if each.result is result]:
                inputs = _prepare(lane, inputs, timing)
        _time(lanes, timing, tell)
        for result in results:
            _conclude(result, [lane for lane in lanes if lane.result is result], timing)
    finally:
        for lane in lanes:
            lane.child.dismiss()
        for lane in lanes:
            lane.child.stop()
    return results


def _start(name: str, timing: Timing) -> Child:
    entry = CONTENDERS[name]
    python = find_python(entry.group)
    if python is None:
        raise MissingError(f"{name}: {explain_absence(entry.group)}")
    return Child(name, entry.module, python=python, timeout_s=timing.timeout_s)


def _open_settings(lanes: list[_Lane], inputs: Inputs, timing: Timing) -> None:
    """Add a lane for each further setting, and wait until all processes are ready."""
    for lane in list(lanes):
        with _guard(lane.result, timing):
            lane.child.wait_ready()
            lane.setting, *others = lane.child.settings(_own(lane.result.name, inputs))
            for setting in others if timing.all_settings else []:
                child = _start(lane.result.name, timing)
                lanes += [_Lane(lane.result, child, setting)]
    for lane in lanes:
        if lane.setting and not lane.child.is_ready and not lane.result.unavailable:
            with _guard(lane.result, timing):
                lane.child.wait_ready()


def _prepare(lane: _Lane, inputs: Inputs, timing: Timing) -> Inputs:
    """Prepare, verify and warm up; return the inputs, with the size of the ring from its owner."""
    if lane.result.unavailable:
        return inputs
    with _guard(lane.result, timing):
        setting = lane.setting
        if "ring_slots" in setting:
            setting = lane.setting = {**setting, "ring_slots": inputs.ring_slots}
        mine = _own(lane.result.name, inputs)
        lane.result.own_bytes = _write_files(lane.child, mine)
        lane.child.prepare(mine, setting)
        lane.n_verified = lane.child.verify()
        lane.child.run(WARM_UP_S)
    if lane.result.name == RING_OWNER and not lane.result.unavailable:
        slots = lane.child.report()[1].get("slots", inputs.ring_slots)
        return dataclasses.replace(inputs, ring_slots=int(slots))
    return inputs


def _own(name: str, inputs: Inputs) -> Inputs:
    """Give a contender with files of its own its folder; the others have none."""
    entry = CONTENDERS[name]
    folder = str(Path(inputs.folder) / entry.format) if entry.has_own_files else ""
    return dataclasses.replace(inputs, folder=folder)


def _write_files(child: Child, inputs: Inputs) -> int:
    """Have the files written, unless they are complete; return their bytes as they were written.

    Some peers inflate shards beside them when they read: that is not what is stored.
    """
    if not inputs.folder:
        return 0
    folder = Path(inputs.folder)
    complete = folder.with_name(f"{folder.name}.complete")  # written last
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        child.write(inputs)
        n_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        complete.write_text(str(n_bytes), encoding="ascii")
    return int(complete.read_text(encoding="ascii"))


def _time(lanes: list[_Lane], timing: Timing, tell: Callable[[str], None]) -> None:
    for k in range(timing.rounds):
        tell(f"round {k + 1} of {timing.rounds}")
        alive = [lane for lane in lanes if not lane.result.unavailable]
        first = k % max(1, len(alive))
        for lane in alive[first:] + alive[:first]:
            if lane.result.unavailable:  # another of its settings has failed in this round
                continue
            with _guard(lane.result, timing, is_timed=True):
                lane.runs.append(lane.child.run(timing.seconds))


def _conclude(result: Result, lanes: list[_Lane], timing: Timing) -> None:
    """Take over what the fastest setting has measured."""
    with _guard(result, timing, is_timed=True):
        if result.unavailable:
            return
        best = max(lanes, key=lambda lane: lane.samples_per_s)
        result.peak_rss_mb, result.details = best.child.report()
        result.runs, result.setting, result.n_verified = best.runs, best.setting, best.n_verified
        result.trials = [Trial(lane.setting, lane.samples_per_s) for lane in lanes]


@contextmanager
def _guard(result: Result, timing: Timing, *, is_timed: bool = False) -> Iterator[None]:
    """Turn failures into a result that says so, where they are tolerated."""
    try:
        yield
    except ContenderError as error:
        is_wrong = isinstance(error, VerificationError)
        if not timing.is_tolerant and (is_wrong or is_timed):
            raise
        result.unavailable = str(error)
        is_missing = isinstance(error, MissingError)
        result.status = "wrong" if is_wrong else "missing" if is_missing else "failed"
