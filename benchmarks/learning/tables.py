"""What the runs of each part add up to: tables, with the talk's figures beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from learning import talk
from learning.roc import mean_and_error
from learning.runs import LAYERS

__all__ = ["TABLES", "Area", "Table", "areas_by", "write_table"]

Found = Mapping[str, Any]  # of a run: what it is and what it found


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, rows of text, and sentences that belong below."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
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


def _about(runs: Sequence[Found]) -> str:
    run = runs[0]
    seeds = len({each["seed"] for each in runs})
    return (
        f"{run['process']} jets, simulated; {run['jets']:,} to train on, {run['valid']:,} to choose the epoch by, "
        f"{run['test']:,} to test; {run['epochs']} epochs, the learning rate of {run['learning_rate']:g} halved every "
        f"{run['halve_every']}, batches of {run['batch_size']}, {run['precision']}; {seeds} seed(s)."
    )


def layers(runs: Sequence[Found]) -> Table:
    areas = areas_by(runs, "channels")
    rows, before = [], None
    for name, channels in LAYERS.items():
        if (area := areas.get(channels)) is None:
            continue
        step = ""
        if before is not None:
            gain, error = area.above(before)
            step = f"{gain:+.4f} +- {error:.4f} ({gain / error:.1f} of its errors)"
        published = f"{talk.AUC_BY_LAYERS[name]:.3f}" if name in talk.AUC_BY_LAYERS else ""
        if name == "all":
            published = "{:.4f} +- {:.4f} (paper)".format(*talk.PAPER_AUC)
        rows.append((name, str(area), step, published))
        before = area
    return Table(("layers", "ROC-AUC", "gained by the step", "talk"), rows, [_about(runs)])


def _median(run: Found, action: str) -> float:
    return float(median(run["seconds_per_step"][action]))


def _share(run: Found) -> float:
    """Of the time of training that is spent waiting for batches."""
    return float(median(run["stall_per_step"]["train"])) / _median(run, "train")


def io(runs: Sequence[Found]) -> Table:
    header = (
        "processor", "resolution", "batch size", "I/O, 1 batch", "training, 1 batch", "jets/s",
        "epoch of 2.56 M jets (extrapolated)", "waiting for batches", "I/O if nothing overlapped",
    )  # fmt: skip
    rows = []
    for run in runs:
        io_s, train_s, step_s = (_median(run, name) for name in ("io", "train", "resident"))
        size = int(run["batch_size"])
        rows.append((
            f"{run['device']}, {run['threads']} thread(s)", f"x{run['stored']}", str(size),
            f"{io_s * 1e3:.3g} ms", f"{train_s * 1e3:.4g} ms", f"{size / train_s:,.0f}",
            f"{talk.JETS / size * train_s / 60:,.0f} min", f"{_share(run):.3%}",
            f"{io_s / (io_s + step_s):.2%}",
        ))  # fmt: skip
    for name, (size, by_resolution) in talk.PROCESSORS.items():
        for resolution, (io_s, minutes) in by_resolution.items():
            train_s = minutes * 60 / (talk.JETS / size)
            rows.append((
                f"{name} (talk)", f"x{resolution}", str(size), f"{io_s * 1e3:.3g} ms",
                f"{train_s * 1e3:.4g} ms", f"{size / train_s:,.0f}", f"{minutes:,.0f} min", "",
                f"{io_s / train_s:.0%} of the epoch",
            ))  # fmt: skip
    note = (
        "I/O: a consumer that does nothing, as the talk measures it. Waiting: the share of training in which the loop "
        "waits for its next batch, reading ahead meanwhile; if nothing overlapped: I/O over the sum of I/O and a step on a "
        "batch that is there. Epochs of 2.56 M jets are extrapolated from seconds of training."
    )
    return Table(header, rows, [note])


#: Part -> what makes its table of its runs.
TABLES: dict[str, Callable[[Sequence[Found]], Table]] = {"io": io, "layers": layers}
