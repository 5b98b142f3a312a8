"""Tables of areas under ROC curves, beside the talk's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from harness.talk import EPOCH_JETS
from learning import talk
from learning.curve import LearningCurve, fit_curve
from learning.runs import LAYERS
from learning.tables import Area, Found, Table, areas_by

__all__ = ["TABLES", "learning_curve"]

_TARGET = 0.93  # of all layers, with 40,000 jets or more
_FURTHER = (163_840, 640_000, EPOCH_JETS)  # jets that a curve is continued to


def _about(runs: Sequence[Found], *varied: str) -> str:
    """Return what all trainings of a table have in common."""
    run = runs[0]
    parts = {
        "process": f"{run['process']} jets, simulated",
        "jets": f"{run['jets']:,} to train on",
        "test": f"{run['valid']:,} to choose the epoch by, {run['test']:,} to test",
        "epochs": f"{run['epochs']} epochs, the learning rate of {run['learning_rate']:g} halved every "
        f"{run['halve_every']} (talk: 10)",
        "batch_size": f"batches of {run['batch_size']} on {run['ranks']} rank(s)",
        "precision": str(run["precision"]),
        "seeds": f"{len({each['seed'] for each in runs})} seed(s)",
    }
    return "; ".join(text for name, text in parts.items() if name not in varied) + "."


def _gain(area: Area, before: Area | None) -> str:
    if before is None:
        return ""
    gain, error = area.above(before)
    return f"{gain:+.4f} +- {error:.4f}"


def _rate(area: Area) -> str:
    """Jets per second of training, over all epochs."""
    epochs = [epoch for run in area.runs for epoch in run["history"]]
    return f"{median(epoch['jets'] / epoch['seconds'] for epoch in epochs):,.0f}"


def layers(runs: Sequence[Found]) -> Table:
    areas = areas_by(runs, "channels")
    rows, before = [], None
    for name, channels in LAYERS.items():
        if (area := areas.get(channels)) is None:
            continue
        published = f"{talk.AUC_BY_LAYERS[name]:.3f}" if name in talk.AUC_BY_LAYERS else ""
        if name == "all":
            published = "{:.4f} +- {:.4f} (paper)".format(*talk.PAPER_AUC)
        rows.append((name, str(area), _gain(area, before), published))
        before = area
    text = "The error of a step is that of the difference, on the same test jets, seed by seed."
    return Table(("layers", "ROC-AUC", "step", "talk"), rows, [_about(runs), text])


def batch(runs: Sequence[Found]) -> Table:
    areas = areas_by(runs, "batch_size")
    smallest = areas[min(areas)]
    rows = [
        (
            str(size), str(area), "" if area is smallest else _gain(area, smallest),
            f"{_steps(area):,}", _rate(area), f"{talk.AUC_BY_BATCH.get(size, 0):.3f}",
        )
        for size, area in sorted(areas.items())
    ]  # fmt: skip
    header = (
        "batch size of a rank", "ROC-AUC", "beside the smallest", "steps of an epoch", "jets/s",
        "talk",
    )  # fmt: skip
    text = (
        "The learning rate grows with the number of ranks (Horovod) and with the root of the batch size (Adam: "
        "arXiv:2006.09092), and is warmed up over up to 5 epochs."
    )
    return Table(header, rows, [_about(runs, "batch_size"), text])


def _steps(area: Area) -> int:
    run = area.runs[0]
    return int(run["history"][0]["jets"]) // (int(run["batch_size"]) * int(run["ranks"]))


def _compared(varied: str, heading: str, shown: Callable[[Any], str]) -> Callable[..., Table]:
    """Return the table of trainings that differ in one thing, beside the first of them."""

    def compare(runs: Sequence[Found]) -> Table:
        areas = areas_by(runs, varied)
        first = next(iter(areas.values()))
        rows = [
            (shown(value), str(area), "" if area is first else _gain(area, first), _rate(area))
            for value, area in areas.items()
        ]
        return Table(
            (heading, "ROC-AUC", "beside the first", "jets/s"), rows, [_about(runs, varied)]
        )

    return compare


def particles(runs: Sequence[Found]) -> Table:
    rows = [(process, str(area)) for process, area in areas_by(runs, "process").items()]
    return Table(("process", "ROC-AUC"), rows, [_about(runs)])


def learning_curve(runs: Sequence[Found]) -> tuple[dict[int, Area], LearningCurve | None]:
    """Return the areas by number of jets, and the power law through them."""
    areas = dict(sorted(areas_by(runs, "jets").items()))
    values = [area.values for area in areas.values()]
    errors = [value[1] for value in values]
    return areas, fit_curve(list(areas), [value[0] for value in values], errors)


def learning(runs: Sequence[Found]) -> Table:
    areas, curve = learning_curve(runs)
    rows = [(f"{n:,}", str(area), "measured") for n, area in areas.items()]
    notes = [_about(runs, "jets")]
    if curve is not None:
        for n in _FURTHER:
            if n > max(areas):
                best, low, high = curve.area(n)
                rows.append((f"{n:,}", f"{best:.4f} ({low:.4f} to {high:.4f})", "extrapolated"))
        notes.append(
            f"1 - AUC = {curve.floor:.4f} + {curve.scale:.3g} n^-{curve.exponent:.2f}, chi2 {curve.chi2:.1f} for "
            f"{curve.n_points - 3} degree(s) of freedom. In brackets: 68 % of fits to points moved by their errors. "
            "Points share test jets, and each has as many epochs: few jets have few steps."
        )
    reached = [n for n, area in areas.items() if area.values[0] >= _TARGET]
    told = f"from {min(reached):,} jets on" if reached else "not reached"
    notes.append(f"All layers at {_TARGET} or above: {told}.")
    return Table(("jets to train on", "ROC-AUC", ""), rows, notes)


#: Part -> what makes its table of its runs.
TABLES: Mapping[str, Callable[[Sequence[Found]], Table]] = {
    "layers": layers,
    "batch": batch,
    "precision": _compared("precision", "precision", str),
    "resolution": _compared("resolution", "resolution", lambda value: f"x{value}"),
    "learning": learning,
    "quark-gluon": particles,
    "electron-photon": particles,
}
