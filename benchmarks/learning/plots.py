"""Pictures: ROC curves with bands over seeds, losses, areas by the number of jets, rates by the number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.talk import EPOCH_JETS
from learning import talk
from learning.accuracy import learning_curve
from learning.rates import MODELLED_RANKS, scaling_model
from learning.roc import FALSE_POSITIVE_RATES
from learning.runs import LAYERS
from learning.tables import Found, areas_by

__all__ = ["PICTURES", "draw"]

_COLOURS = ("#2f6690", "#c8102e", "#3a7d44", "#8a5a9e", "#d98e04")
#: Part -> the value that its trainings differ in.
VARIED = {
    "layers": "channels",
    "batch": "batch_size",
    "resolution": "resolution",
    "quark-gluon": "process",
    "electron-photon": "process",
    "learning": "jets",
}


def draw(part: str, runs: Sequence[Found], folder: Path) -> list[Path]:
    """Draw what there is to see of a part into a folder; return the files, none without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        return []
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    files: list[Path] = []
    if not runs:
        return files
    for name, picture in PICTURES.get(part, {}).items():
        axis: Any
        figure, axis = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
        picture(axis, runs, VARIED.get(part, ""))
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(loc=_EMPTY_CORNERS[name], frameon=False, fontsize=8)
        path = folder / f"{part}-{name}.png"
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
        plt.close(figure)
        files.append(path)
    return files


def _label(value: Any) -> str:
    if isinstance(value, tuple):
        return next((name for name, chosen in LAYERS.items() if chosen == value), "+".join(value))
    return str(value)


def _roc(axis: Any, runs: Sequence[Found], varied: str) -> None:
    """Background rejection: a curve for each kind, with the spread over seeds."""
    for colour, (value, area) in zip(_COLOURS, areas_by(runs, varied).items(), strict=False):
        rates = np.array([run["true_positive_rates"] for run in area.runs])
        mean = rates.mean(0)
        seen = FALSE_POSITIVE_RATES > 0
        text = f"{_label(value)}: {area.values[0]:.4f} +- {area.values[1]:.4f}"
        axis.plot(mean[seen], FALSE_POSITIVE_RATES[seen], color=colour, lw=1.4, label=text)
        low, high = rates.min(0), rates.max(0)
        axis.fill_betweenx(
            FALSE_POSITIVE_RATES[seen], low[seen], high[seen], color=colour, alpha=0.25, lw=0
        )
    axis.set_yscale("log")
    axis.set_xlabel("share of class 1 that is kept")
    axis.set_ylabel("share of class 0 that passes")
    axis.set_title("ROC on simulated jets; bands: least to most over seeds", fontsize=9)


def _loss(axis: Any, runs: Sequence[Found], varied: str) -> None:
    """Training loss and validation area by epoch."""
    for colour, (value, area) in zip(_COLOURS, areas_by(runs, varied).items(), strict=False):
        for seed, run in enumerate(area.runs):
            epochs = [epoch["epoch"] + 1 for epoch in run["history"]]
            label = _label(value) if seed == 0 else None
            losses = [epoch["loss"] for epoch in run["history"]]
            axis.plot(epochs, losses, color=colour, lw=1.2, label=label)
            missed = [1 - epoch["valid_auc"] for epoch in run["history"]]
            axis.plot(epochs, missed, color=colour, lw=1, ls=":")
    axis.set_yscale("log")
    axis.set_xlabel("epoch")
    axis.set_ylabel("training loss (lines), 1 - ROC-AUC of validation jets (dots)")


def _learning(axis: Any, runs: Sequence[Found], _: str) -> None:
    """Area by the number of jets, and the power law through it."""
    areas, curve = learning_curve(runs)
    values = [area.values for area in areas.values()]
    missed, errors = [1 - value[0] for value in values], [value[1] for value in values]
    style = {"fmt": "o", "color": _COLOURS[0], "capsize": 3}
    axis.errorbar(list(areas), missed, errors, label="measured", **style)
    if curve is not None:
        n = np.geomspace(min(areas), EPOCH_JETS, 80)
        fits = np.array([curve.area(each) for each in n])
        text = f"{curve.floor:.4f} + {curve.scale:.3g} n^-{curve.exponent:.2f}"
        axis.plot(n, 1 - fits[:, 0], color=_COLOURS[1], lw=1.2, label=text)
        axis.fill_between(n, 1 - fits[:, 2], 1 - fits[:, 1], color=_COLOURS[1], alpha=0.2, lw=0)
    axis.axhline(1 - talk.PAPER_AUC[0], color="black", lw=1, ls="--", label="paper, CMS open data")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("jets to train on")
    axis.set_ylabel("1 - ROC-AUC, all layers")


def _scaling(axis: Any, runs: Sequence[Found], _: str) -> None:
    """Jets per second by the number of ranks: measured, and modelled."""
    model = scaling_model(runs)
    if model is None:
        return
    measured, modelled = (1, 2), (2, *MODELLED_RANKS)
    rates = [model.jets_per_s(n) for n in measured]
    axis.plot(measured, rates, "o-", color=_COLOURS[0], label="measured")
    rates = [model.jets_per_s(n) for n in modelled]
    axis.plot(modelled, rates, "s:", color=_COLOURS[1], mfc="none", label="modelled")
    ideal = [n * model.jets_per_s(1) for n in (1, MODELLED_RANKS[-1])]
    axis.plot(
        (1, MODELLED_RANKS[-1]), ideal, color="black", lw=1, ls="--", label="n times one rank"
    )
    axis.set_xlabel("ranks, a core each")
    axis.set_ylabel("jets/s, training")


Picture = Callable[[Any, Sequence[Found], str], None]
_CURVES: Mapping[str, Picture] = {"roc": _roc, "loss": _loss}
# Name of a picture -> where no curve goes; matplotlib's search for it takes seconds on a busy machine.
_EMPTY_CORNERS = {
    "roc": "upper left", "loss": "upper right", "curve": "upper right", "ranks": "upper left"
}  # fmt: skip
#: Part -> name of a picture -> what draws it.
PICTURES: dict[str, Mapping[str, Picture]] = {
    **dict.fromkeys(("layers", "batch", "resolution", "quark-gluon", "electron-photon"), _CURVES),
    "learning": {"curve": _learning},
    "scaling": {"ranks": _scaling},
}
