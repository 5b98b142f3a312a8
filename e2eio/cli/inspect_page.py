"""The page of ``e2eio inspect --html``: one pass for its pictures and its checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["write_page"]

_SAMPLES: Final = 2
_CHANNELS: Final = 64  # in pictures; all are in the tables


def write_page(
    target: Path,
    content: Mapping[str, Any],
    shards: list[tuple[str, int, int, str]],
    *,
    limit: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Look at the dataset and write the page.

    Parameters
    ----------
    target : Path
    content : mapping
        What ``inspect --json`` prints.
    shards : list of tuple
        File, samples, bytes and digest of each.
    limit : int or None
        Samples to look at.
    overwrite, quiet : bool
    """
    import e2eio
    from e2eio.cli.view import even_samples
    from e2eio.dataset import Dataset
    from e2eio.physics import Checks
    from e2eio.plots import render, sample_figures, whole_figures
    from e2eio.plots.files import refuse_existing, write_file
    from e2eio.plots.page import Page, Picture, make_page
    from e2eio.progress import make_progress
    from e2eio.summary import make_classes, run_pass

    refuse_existing([target], overwrite=overwrite)
    import e2eio.plots.binding  # missing packages are told before the pass

    dataset = Dataset(content["path"])
    checks = Checks(dataset.schema, make_classes(dataset))
    channels = range(min(len(dataset.channels), _CHANNELS))
    with make_progress(not quiet, verb="seen") as progress:
        n_seen = run_pass(
            dataset,
            checks.accumulators,
            classes=checks.classes,
            limit=limit,
            progress=progress,
        )
    samples = even_samples(len(dataset), _SAMPLES)
    figures = [
        *sample_figures(dataset, samples, channels),
        *whole_figures(dataset, checks.classes, checks.content, checks.maps, channels),
    ]
    pictures = [Picture(figure.title, render(figure, "png")) for figure in figures]
    page = Page(content, shards, n_seen, checks.findings(), pictures, e2eio.__version__)
    write_file(target, make_page(page).encode("utf-8", "backslashreplace"))
