"""Tables, and the areas under ROC curves that stand in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from learning.roc import mean_and_error

__all__ = ["Area", "Found", "Table", "areas_by", "write_table"]

Found = Mapping[str, Any]  # of a run: what it is and what it found


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, rows of text, and sentences that belong below."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Area:
    """ROC-AUC of equal trainings with several seeds."""

    runs: tuple[Found, ...]

    @property
    def values(self) -> tuple[float, float, float, float]:
        """Mean, error, and its parts: of the test jets, of the seeds."""
        return mean_and_error(
            [run["auc"] for run in self.runs], [run["replicas"] for run in self.runs]
        )

    def above(self, other: Area) -> tuple[float, float]:
        """Return by how much it is larger, and the error of that: seed by seed, on the same test jets."""
        pairs = list(zip(self.runs, other.runs, strict=False))
        areas = [a["auc"] - b["auc"] for a, b in pairs]
        resampled = [np.subtract(a["replicas"], b["replicas"]).tolist() for a, b in pairs]
        return mean_and_error(areas, resampled)[:2]

    def __str__(self) -> str:
        mean, error, of_jets, of_seeds = self.values
        spread = f", seeds {of_seeds:.4f}" if len(self.runs) > 1 else ", one seed"
        return f"{mean:.4f} +- {error:.4f} (jets {of_jets:.4f}{spread})"


def areas_by(runs: Sequence[Found], name: str) -> dict[Any, Area]:
    """Return the areas of trainings that differ in one thing: its value to all seeds, in the order met."""
    found: dict[Any, list[Found]] = {}
    for run in sorted(runs, key=lambda run: int(run["seed"])):
        value = run[name]
        found.setdefault(tuple(value) if isinstance(value, list) else value, []).append(run)
    return {value: Area(tuple(each)) for value, each in found.items()}


def write_table(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [table.header, ("---",) * len(table.header), *table.rows]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return text + "".join(f"\n{note}\n" for note in table.notes)
