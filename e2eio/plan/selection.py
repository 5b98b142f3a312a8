"""Which samples of a dataset are loaded at all: cuts on scalar fields, and lists of samples to leave out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from e2eio.dataset import Dataset
from e2eio.errors import ConfigError, ShardNotFoundError
from e2eio.plan.expressions import condition

__all__ = ["holds_for", "selected_ids"]


def holds_for(dataset: Dataset, text: str, argument: str = "select") -> NDArray[np.bool_]:
    """Return for which samples of a dataset a condition on its scalar fields holds, bool [len(dataset)]."""
    names = [field.name for field in dataset.schema.scalars]
    return condition(text, names, dataset.scalars, argument)


def selected_ids(
    dataset: Dataset,
    select: str | None,
    exclude: ArrayLike | str | os.PathLike[str] | None,
) -> NDArray[np.int64] | None:
    """Return the numbers of the samples that are left, rising; None: all.

    Reads columns, and no byte of an image.

    Parameters
    ----------
    dataset : Dataset
        Whose samples.
    select : str or None
        A condition on scalar fields (:func:`e2eio.plan.expressions.condition`).
    exclude : sequence of int, path or None
        Numbers of samples, in any order, or a text file with one number a line; ``#`` begins a comment.

    Raises
    ------
    ConfigError
        The condition is wrong, a number is not that of a sample, or nothing is left.
    """
    if select is None and exclude is None:
        return None
    chosen = np.ones(len(dataset), dtype=np.bool_)
    if select is not None:
        chosen &= holds_for(dataset, select)
    n_selected = int(np.count_nonzero(chosen))
    if select is not None and n_selected == 0:
        raise ConfigError(
            f"nothing selected: select={select!r} holds for none of {len(dataset)} samples; "
            f"{_ranges(dataset)}"
        )
    if exclude is not None:
        chosen[_excluded(dataset, exclude)] = False
    ids = np.flatnonzero(chosen)
    if len(ids) == 0:
        raise ConfigError(f"nothing left: exclude names all {n_selected} samples")
    return ids


def _excluded(
    dataset: Dataset, exclude: ArrayLike | str | os.PathLike[str]
) -> NDArray[np.integer[Any]]:
    source = "exclude"
    if isinstance(exclude, str | os.PathLike):
        source = f"exclude: {os.fspath(exclude)}"
        exclude = _numbers_in(Path(exclude))
    ids = np.asarray(exclude)
    if ids.size == 0:
        return np.empty(0, dtype=np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ConfigError(
            f"{source}: found {ids.dtype} {list(ids.shape)}; expected a list of sample numbers"
        )
    wrong = ids[(ids < 0) | (ids >= len(dataset))]
    if len(wrong) > 0:
        raise ConfigError(f"{source}: sample {wrong[0]} of a dataset of {len(dataset)}")
    return ids


def _numbers_in(path: Path) -> Sequence[int]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ShardNotFoundError(f"exclude: no such file: {path}", path=str(path)) from None
    numbers = []
    for number, line in enumerate(lines, start=1):
        word = line.partition("#")[0].strip()
        if word and not (word.isascii() and word.isdigit()):
            raise ConfigError(
                f"exclude: {path}, line {number}: found {word!r}; expected a sample number"
            )
        if word:
            numbers.append(int(word))
    return numbers


def _ranges(dataset: Dataset) -> str:
    parts = []
    for field in dataset.schema.scalars:
        values = dataset.scalars(field.name)
        if len(values) > 0:
            parts.append(f"{field.name} is {values.min()} to {values.max()}")
    return "; ".join(parts)
