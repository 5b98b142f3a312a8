"""Training with Lightning: the only module that imports it.

A :class:`e2eio.Loader` works in a Lightning trainer as it is: each rank loads its own part, every epoch has an order of
its own, and checkpoints hold the loader's state, so that training goes on in the middle of an epoch. A
:class:`DataModule` makes the loaders when the ranks are there, splits one dataset into several, and closes the loaders.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2eio import _core
from e2eio.dataset import Dataset
from e2eio.errors import ConfigError, MissingDependencyError
from e2eio.loader import Loader
from e2eio.options import at_least
from e2eio.plan.selection import selected_ids

try:
    from lightning.pytorch import LightningDataModule
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "lightning is missing: needed for e2eio.lightning; install it with 'pip install e2eio[lightning]'"
    ) from error

__all__ = ["DataModule"]

Source = Dataset | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class DataModule(LightningDataModule):
    """Loaders for training, validation, test and prediction.

    Thread rule: the trainer's thread.

    Parameters
    ----------
    train, val, test, predict : Dataset or path, or None
        What :class:`e2eio.Loader` takes. None: no such loader. A number for `val` or `test` is a part of the
        training dataset: 0.1 draws a tenth of its samples, which training leaves out. Neither changes the other.
    batch_size : int
        Samples per batch and rank.
    split_seed : int
        Of the draw: with the same dataset it draws the same samples, whatever the other arguments are.
    train_options : mapping or None
        Arguments of the training loader alone: ``{"transforms": [FlipEta()], "drop_last": True}``.
    **loader_options
        Arguments of all the loaders. ``shuffle`` is True for training and False for the others, unless
        these say otherwise.

    Raises
    ------
    ConfigError
        There is no dataset, or no way to split it. Options are checked when a loader is made.
    MissingDependencyError
        Lightning is not installed; on import.

    Notes
    -----
    The ranks share the samples as the trainer's strategy has it; ``use_distributed_sampler`` does not matter. Where
    the samples do not divide by the ranks, validation and test see a few of them twice, so that all ranks
    have equally many, as with torch's DistributedSampler.

    Examples
    --------
    >>> from e2eio.lightning import DataModule  # doctest: +SKIP
    >>> data = DataModule(train="data/top", val=0.1, batch_size=64,
    ...                   fields=("X_jets", "y"))  # doctest: +SKIP
    >>> lightning.Trainer(devices=2, strategy="ddp").fit(model, data)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        train: Source | None = None,
        val: Source | float | None = None,
        test: Source | float | None = None,
        predict: Source | None = None,
        batch_size: int,
        split_seed: int = 0,
        train_options: Mapping[str, Any] | None = None,
        **loader_options: Any,
    ) -> None:
        super().__init__()
        given = {"train": train, "val": val, "test": test, "predict": predict}
        self._sources = {stage: source for stage, source in given.items() if source is not None}
        self._fractions = _checked_fractions(self._sources)
        self._split_seed = at_least(0, "split_seed", split_seed)
        self._options: dict[str, Any] = {"batch_size": batch_size, **loader_options}
        self._train_options = {"shuffle": True, **self._options, **(train_options or {})}
        self._loaders: weakref.WeakSet[Loader] = weakref.WeakSet()
        self._training: weakref.ref[Loader] | None = None
        self._state: dict[str, Any] | None = None  # waits for the training loader

    def __repr__(self) -> str:
        stages = ", ".join(f"{stage}={source!r}" for stage, source in self._sources.items())
        return f"DataModule({stages}, batch_size={self._options['batch_size']})"

    __str__ = __repr__  # Lightning's own makes all the loaders

    def train_dataloader(self) -> Loader:
        """Return a new training loader, at the trainer's epoch or where :meth:`load_state_dict` says."""
        loader = self._loader("train", self._train_options)
        if self.trainer is not None:
            loader.set_epoch(self.trainer.current_epoch)
        state, self._state = self._state, None
        if state is not None:
            loader.load_state_dict(state)
        self._training = weakref.ref(loader)
        return loader

    def val_dataloader(self) -> Loader | list[Loader]:
        """Return a new loader for validation; without a dataset for it none, and Lightning goes without."""
        return self._loader("val", self._options) if "val" in self._sources else []

    def test_dataloader(self) -> Loader:
        """Return a new loader for the test."""
        return self._loader("test", self._options)

    def predict_dataloader(self) -> Loader:
        """Return a new loader for prediction."""
        return self._loader("predict", self._options)

    def state_dict(self) -> dict[str, Any]:
        """Return the training loader's state, under ``"train"``, if there is one."""
        loader = None if self._training is None else self._training()
        return {} if loader is None else {"train": loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training loader go on from the state."""
        self._state = state_dict.get("train")

    def on_exception(self, exception: BaseException) -> None:
        """Stop the loaders' threads: a notebook lives on after an interrupt."""
        self.close()

    def teardown(self, stage: str) -> None:
        """Stop the loaders' threads; the next stage makes loaders of its own."""
        self.close()

    def close(self) -> None:
        """Close all loaders that were made; idempotent."""
        for loader in list(self._loaders):
            loader.close()
        self._loaders.clear()

    def _loader(self, stage: str, options: Mapping[str, Any]) -> Loader:
        if stage not in self._sources:
            raise ConfigError(
                f"no dataset for {stage}: pass {stage}= to e2eio.lightning.DataModule"
            )
        source: Any = self._sources["train" if stage in self._fractions else stage]
        if self._fractions and stage in ("train", *self._fractions):
            source = source if isinstance(source, Dataset) else Dataset(source)
            part = _parts(source, self._fractions, self._split_seed)[stage]
            options = {**options, "exclude": _all_but(source, part, options.get("exclude"))}
        loader = Loader(source, **options)
        # Where several ranks share a model, they share its data, too: the trainer knows how many parts there are.
        share = None if self.trainer is None else self.trainer.distributed_sampler_kwargs
        if share is not None and "rank" not in options:
            place = (share["rank"], share["num_replicas"])
            if place != (loader.rank, loader.world_size):
                loader = Loader(source, **options, rank=place[0], world_size=place[1])
        self._loaders.add(loader)
        return loader


def _checked_fractions(sources: Mapping[str, Any]) -> dict[str, float]:
    """Return the stages that are parts of the training dataset, and how much of it."""
    if not sources:
        raise ConfigError("no dataset: expected at least one of train=, val=, test=, predict=")
    fractions = {stage: float(part) for stage, part in sources.items() if isinstance(part, Real)}
    wrong = [stage for stage in fractions if stage not in ("val", "test")]
    if (
        wrong
        or any(not 0 < part < 1 for part in fractions.values())
        or sum(fractions.values()) >= 1
    ):
        found = ", ".join(f"{stage}={part!r}" for stage, part in fractions.items())
        raise ConfigError(
            f"no way to split: found {found}; expected val= and test= between 0 and 1, and less than 1 together"
        )
    if fractions and "train" not in sources:
        raise ConfigError(
            f"nothing to split: found {', '.join(fractions)} as numbers, and no train="
        )
    return fractions


def _parts(
    dataset: Dataset, fractions: Mapping[str, float], seed: int
) -> dict[str, NDArray[np.int64]]:
    """Return the sample numbers of each part of a random split, and of what it leaves for training.

    Validation is drawn from the front and the test from the end, so that neither changes with the other's size.
    """
    n = len(dataset)
    sizes = {stage: round(fractions.get(stage, 0.0) * n) for stage in ("val", "test")}
    sizes["train"] = n - sum(sizes.values())
    for stage in (*fractions, "train"):
        if sizes[stage] <= 0:
            asked = ", ".join(f"{name}={part:g}" for name, part in fractions.items())
            raise ConfigError(
                f"no samples for {stage}: {asked} of the {n} samples of train=; expected at least one sample in "
                "each part"
            )
    text = f"e2eio-split-1\n{seed}\n"
    key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    drawn = _core.Order.shuffled(n, key).ids(0, 0, n)
    val, train, test = np.split(drawn, [sizes["val"], n - sizes["test"]])
    return {"val": val, "train": train, "test": test}


def _all_but(dataset: Dataset, part: NDArray[np.int64], exclude: Any) -> NDArray[np.int64]:
    """Return the samples that are not in a part, or are excluded from it."""
    kept = np.zeros(len(dataset), dtype=np.bool_)
    kept[part] = True
    others = selected_ids(dataset, None, exclude)
    if others is not None:
        kept &= np.isin(np.arange(len(dataset)), others, assume_unique=True)
    return np.flatnonzero(~kept)
