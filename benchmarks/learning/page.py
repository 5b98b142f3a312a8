"""docs/benchmarks.md: the tables and pictures of a result, each beside what agrees with the talk and what does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.talk import EPOCH_JETS, PUBLISHED
from learning import accuracy, rates, talk
from learning.parts import PARTS
from learning.runs import LAYERS
from learning.store import Results
from learning.tables import Found, areas_by, write_table

__all__ = ["PAGE", "TABLES", "insert", "render"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- from benchmarks/training.py -->\n", "<!-- end -->\n"
TABLES = {**rates.TABLES, **accuracy.TABLES}
_V100 = next(node for node in PUBLISHED if node.name == "V100")
_BEYOND = 2.0  # errors, from where on a difference is called one


def render(results: Results | None, page: Path = PAGE) -> str:
    """Return what a result says, as Markdown; without one, how to get it.

    Parameters
    ----------
    results : Results or None
    page : Path
        That it is for: links to pictures lead from there.
    """
    if results is None:
        return "No result yet: `python benchmarks/training.py` makes one.\n"
    machine: Mapping[str, Any] = results.content["environment"]
    text = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['kernel']}, torch "
        f"{machine['versions']['torch']}, commit {machine['commit']}, {str(machine['date'])[:10]}. Result: "
        f"`{results.path.parent.name}`.{_say_commits(results)}\n"
    )
    for name, part in PARTS.items():
        runs = results.of_part(name)
        if not runs:
            text += f"\n## {part.title}\n\nNot run yet: `python benchmarks/training.py --only {name}`.\n"
            continue
        told = _TOLD[name](runs) if name in _TOLD else ""
        planned = len(results.content["parts"][name])
        unfinished = f"{len(runs)} of {planned} runs are done.\n\n" if len(runs) < planned else ""
        text += f"\n## {part.title}\n\n{unfinished}{told}{write_table(TABLES[name](runs))}"
        text += "".join(_picture(path, page) for path in _pictures(results, name))
    return text


def insert(text: str, page: Path = PAGE) -> str:
    """Return the page with the text between its marks; ValueError if it has none."""
    before, mark, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    if not mark:
        raise ValueError(
            f"{page} has no line {BEGIN.strip()!r}, after which tables are written: add it"
        )
    return f"{before}{BEGIN}{text}{END}{rest.partition(END)[2]}"


def _say_commits(results: Results) -> str:
    """Name the commits of the runs, which may be spread over several; older runs do not know theirs."""
    known = {found["commit"] for found in results.content["runs"].values() if "commit" in found}
    others = sorted(known - {results.content["environment"]["commit"]})
    return f" Some of its runs are of commit {', '.join(others)}." if others else ""


def _pictures(results: Results, part: str) -> list[Path]:
    return sorted(results.path.parent.glob(f"{part}-*.png"))


def _picture(path: Path, page: Path) -> str:
    place = Path(os.path.relpath(path, page.parent)).as_posix()
    return f"\n![{path.stem}]({place})\n"


def _layers(runs: Sequence[Found]) -> str:
    """Whether the order is the talk's, and each step beyond its error."""
    areas = areas_by(runs, "channels")
    known = [areas[channels] for channels in LAYERS.values() if channels in areas]
    steps = [after.above(before) for before, after in pairwise(known)]
    if len(known) < len(LAYERS):
        return ""
    grown = sum(gain > 0 for gain, _ in steps)
    beyond = sum(gain > _BEYOND * error for gain, error in steps)
    text = (
        f"Of the {len(steps)} steps of the talk's order, {grown} raise the area, {beyond} of them by more than "
        f"{_BEYOND:g} of its errors. "
    )
    best = known[-1].values[0]
    return (
        f"{text}All layers reach {best:.4f}, {best - talk.PAPER_AUC[0]:+.4f} beside the paper's, which has other jets, "
        f"real pile-up and detector response, and {_times_more(runs)} times as many to train on.\n\n"
    )


def _times_more(runs: Sequence[Found]) -> str:
    return f"{EPOCH_JETS / runs[0]['jets']:.0f}"


def _io(runs: Sequence[Found]) -> str:
    """How much of an epoch is I/O, beside the talk's."""
    shares = [
        f"{rates.waiting(run, 'train'):.2%} at x{run['stored']}, batch {run['batch_size']}, {run['device']}"
        for run in runs
    ]
    return (
        f"Of training, waiting for batches takes {'; '.join(shares)}. In the talk I/O was about half of the epoch of the "
        "P100, and what the TPU waited for. Here computing is slow (a CPU) and reading fast: the share would be larger "
        "with a GPU, for which jets/s of I/O alone count.\n\n"
    )


def _batch(runs: Sequence[Found]) -> str:
    areas = dict(sorted(areas_by(runs, "batch_size").items()))
    if len(areas) < len(talk.AUC_BY_BATCH):
        return ""
    (_, smallest), *_, (size, largest) = areas.items()
    loss, error = largest.above(smallest)
    published = talk.AUC_BY_BATCH[1024] - talk.AUC_BY_BATCH[64]
    return (
        f"Batches of {size} change the area by {loss:+.4f} +- {error:.4f}; in the talk 1024 beside 64 by {published:+.3f}, "
        f"with {_times_more(runs)} times as many steps an epoch: with few jets large batches leave few steps to learn in."
        "\n\n"
    )


def _scaling(runs: Sequence[Found]) -> str:
    """How much faster two ranks are, here and in the talk."""
    if (model := rates.scaling_model(runs)) is None:
        return ""
    published = _V100.epoch_min["x1"] / talk.MINUTES_BY_BATCH[64]
    return (
        f"Two ranks with a core each are {model.speed_up(2):.2f} times as fast as one; the talk's two V100 "
        f"{published:.2f} times. Its GPUs computed so fast that reading held them back, every rank reading all files; here each "
        "rank reads its own jets and computes for most of the time.\n\n"
    )


def _resolution(runs: Sequence[Found]) -> str:
    """What finer pixels bring."""
    areas = areas_by(runs, "resolution")
    if set(areas) != {1, 3}:
        return ""
    gain, error = areas[3].above(areas[1])
    found = "more" if gain > _BEYOND * error else "less" if gain < -_BEYOND * error else "the same"
    return (
        f"The same jets: images of x3 files, and those summed to x1 by the loader. x3 reaches {gain:+.4f} +- {error:.4f}, "
        f"{found} within {_BEYOND:g} errors. The talk gives times at x3, no areas.\n\n"
    )


#: Part -> what is said above its table.
_TOLD: dict[str, Callable[[Sequence[Found]], str]] = {
    "layers": _layers,
    "io": _io,
    "batch": _batch,
    "scaling": _scaling,
    "resolution": _resolution,
}
