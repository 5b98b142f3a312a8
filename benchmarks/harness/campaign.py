"""Many contenders in one table: groups that take turns, e2eio in each, finished ones kept.

So many processes with their batches do not fit into memory at once. Contenders are timed in groups,
in interleaved rounds, and e2eio takes part in every group: ratios pair its rounds with those of the
same group. What is finished is written down, and not measured again.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contenders import CONTENDERS
from harness.contender import Inputs
from harness.peer_environments import find_versions
from harness.report import OURS, Ratio, Row, compare, summarise
from harness.results import write_json
from harness.rounds import Result, Timing, measure

__all__ = ["GROUP", "Budget", "Finished", "Kept", "measure_cell"]

GROUP = 6  # contenders that take turns with e2eio


@dataclass(frozen=True, slots=True)
class Finished:
    """What is known of a contender: its row, and e2eio's and the ratio of the same group, if any."""

    row: Row
    ours: Row | None = None
    ratio: Ratio | None = None


class Kept:
    """Finished contenders in a folder, a file each; without a folder nothing is kept.

    Parameters
    ----------
    folder : Path or None
    conditions : dict
        What the figures hold for (JSON values); what was measured under others is not taken.
    """

    def __init__(self, folder: Path | None, conditions: dict[str, Any]) -> None:
        self._folder = folder
        self._conditions = json.loads(json.dumps(conditions, default=str))

    def load(self, cell: str, name: str) -> Finished | None:
        """Return a contender that was measured before, under the same conditions."""
        if self._folder is None:
            return None
        try:
            told = json.loads(self._path(cell, name).read_text(encoding="utf-8"))
            if (
                told["conditions"] != self._conditions_of(name)
                or told["row"]["status"] != "measured"
            ):
                return None
            ours, ratio = told["ours"], told["ratio"]
            return Finished(
                Row(**told["row"]), Row(**ours) if ours else None, Ratio(**ratio) if ratio else None
            )
        except (OSError, ValueError, KeyError, TypeError):  # not there, or cut short
            return None

    def save(self, cell: str, finished: Finished) -> None:
        """Write a contender down."""
        if self._folder is not None:
            name = finished.row.contender
            content = {"conditions": self._conditions_of(name), **dataclasses.asdict(finished)}
            write_json(self._path(cell, name), content)

    def _conditions_of(self, name: str) -> dict[str, Any]:
        """Return the conditions, the versions of the contender's own packages among them."""
        return {**self._conditions, "peer": find_versions(CONTENDERS[name].group)}

    def _path(self, cell: str, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{cell}-{name}.json"


class Budget:
    """How long all may take; no further group is begun that would not end in time.

    Parameters
    ----------
    seconds : float or None
        None: as long as it takes.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._start = time.monotonic()
        self._longest = 0.0

    def has_room(self) -> bool:
        """Whether a group that takes as long as the longest until now would still end in time."""
        spent = time.monotonic() - self._start
        return self._seconds is None or spent + self._longest <= self._seconds

    def note(self, seconds: float) -> None:
        """Note what a group has taken."""
        self._longest = max(self._longest, seconds)

    def __str__(self) -> str:
        return "" if self._seconds is None else f"{self._seconds:g} s"


@dataclass(frozen=True, slots=True)
class _Group:
    """What one group of contenders found."""

    others: list[Finished]
    ours: Row | None


def measure_cell(
    names: Sequence[str],
    inputs: Inputs,
    sizes: dict[str, float],
    resolution: str,
    timing: Timing,
    *,
    kept: Kept,
    budget: Budget,
    tell: Callable[[str], None],
) -> tuple[list[Row], list[Ratio]]:
    """Measure contenders at one resolution and batch size, group by group.

    Returns
    -------
    rows : list of Row
        In the order of `names`; e2eio's has the rounds of all groups.
    ratios : list of Ratio
        Each paired within its group.
    """
    cell = f"{resolution}-b{inputs.batch_size}"
    done = {name: found for name in names if (found := kept.load(cell, name))}
    others = [name for name in names if name != OURS and name not in done]
    groups = [others[k : k + GROUP] for k in range(0, len(others), GROUP)]
    has_ours = OURS in names
    if has_ours and not others and not done:
        groups = [[]]
    ours: list[Row] = [found.ours for found in _one_per_group(done.values()) if found.ours]
    for group in groups:
        if not budget.has_room():
            new = _Group(_give_up(group, inputs, resolution, budget), None)
        else:
            start = time.monotonic()
            members = [OURS, *group] if has_ours else group
            rows = summarise(measure(members, inputs, timing, tell), inputs, sizes, resolution)
            budget.note(time.monotonic() - start)
            new = _pair(rows)
        done |= {each.row.contender: each for each in new.others}
        for each in new.others:
            kept.save(cell, each)
        ours += [new.ours] if new.ours else []
    if has_ours and ours:
        done[OURS] = Finished(_merge(ours))
    finished = [done[name] for name in names if name in done]
    return [each.row for each in finished], [each.ratio for each in finished if each.ratio]


def _pair(rows: list[Row]) -> _Group:
    ours = next((row for row in rows if row.contender == OURS), None)
    ratios = {ratio.peer: ratio for ratio in compare(rows)}
    others = [Finished(row, ours, ratios.get(row.contender)) for row in rows if row is not ours]
    return _Group(others, ours)


def _give_up(
    names: Iterable[str], inputs: Inputs, resolution: str, budget: Budget
) -> list[Finished]:
    why = f"no time left of {budget}"
    results = [Result(name, unavailable=why, status="not run") for name in names]
    return [Finished(row) for row in summarise(results, inputs, {}, resolution)]


def _one_per_group(finished: Iterable[Finished]) -> list[Finished]:
    """Leave out all but one of those that were measured beside the same rounds of e2eio."""
    groups: dict[tuple[float, ...], Finished] = {}
    for each in finished:
        if each.ours is not None:
            groups.setdefault(tuple(each.ours.samples_per_s_rounds), each)
    return list(groups.values())


def _merge(rows: Sequence[Row]) -> Row:
    """Make one row of e2eio's in several groups."""
    measured = [row for row in rows if row.samples_per_s_rounds]
    if not measured or any(row.status == "wrong" for row in rows):
        return next((row for row in rows if row.status == "wrong"), rows[0])
    speeds = [speed for row in measured for speed in row.samples_per_s_rounds]
    median = statistics.median(speeds)
    first = measured[0]
    return dataclasses.replace(
        first,
        samples_per_s=median,
        samples_per_s_min=min(speeds),
        samples_per_s_max=max(speeds),
        samples_per_s_rounds=speeds,
        ms_per_batch=1000 * first.batch_size / median,
        peak_rss_mb=max(row.peak_rss_mb for row in measured),
    )
