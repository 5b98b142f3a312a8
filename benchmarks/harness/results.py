"""What a benchmark found: reports, figures with targets, and the files they are kept in."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.environment import Environment

__all__ = [
    "RESULTS",
    "BenchmarkReport",
    "Figure",
    "describe_figure",
    "name_folder",
    "save_result",
    "write_json",
]

RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclasses.dataclass(slots=True)
class BenchmarkReport:
    """All that was measured; written as JSON with these keys and those that a benchmark adds."""

    environment: Environment
    options: dict[str, Any]
    format: str = ""
    version: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One figure; `reached` is None without a target, or where it was not measured.

    `spread` is [min, max] over the rounds where there are several.
    """

    name: str
    value: float | None
    unit: str
    target: str = ""
    reached: bool | None = None
    spread: list[float] = dataclasses.field(default_factory=list)
    note: str = ""


def describe_figure(figure: Figure) -> str:
    """Return a line: whether the target was reached, value, spread, target and note."""
    outcome = {True: "reached", False: "MISSED ", None: "       "}[figure.reached]
    if figure.value is None:
        return f"{outcome} {figure.name}: {figure.note}"
    text = f"{outcome} {figure.name}: {_say(figure.value)} {figure.unit}"
    if figure.spread:
        text += f" ({_say(figure.spread[0])} to {_say(figure.spread[1])})"
    text += f", target {figure.target}" if figure.target else ""
    return text + (f"; {figure.note}" if figure.note else "")


def _say(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def save_result(
    name: str, content: Mapping[str, Any], folder: Path | None = None, *, results: Path = RESULTS
) -> Path:
    """Write `<name>.json` into a folder, without one into `<date>-<name>` below `results`; return its path."""
    folder = folder or name_folder(name, results)
    path = folder / f"{name}.json"
    write_json(path, content)
    return path


def name_folder(name: str, results: Path = RESULTS) -> Path:
    """Return the folder of a result of now: `<date>-<name>` below `results`."""
    return results / f"{time.strftime('%Y-%m-%d-%H%M%S', time.gmtime())}-{name}"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a result; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
