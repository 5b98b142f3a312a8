"""A torch DataLoader as contender: shuffled, workers that live on, as many batches as asked for."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from harness.contender import Batch, Inputs, Setting, verify_epoch

__all__ = ["TorchContender"]

PREFETCH_PER_WORKER = 2  # torch's default


class _Batches(Sampler[list[int]]):
    """Sample ids, in batches: one exact epoch, or endless shuffled epochs cut after `n_batches`."""

    def __init__(self, n_samples: int, batch_size: int) -> None:
        self._n_samples = n_samples
        self._batch_size = batch_size
        self._random = np.random.default_rng(0)
        self.n_batches: int | None = None

    def __iter__(self) -> Iterator[list[int]]:
        size = self._batch_size
        if self.n_batches is None:
            ids = self._random.permutation(self._n_samples)
        else:
            n = self.n_batches * size
            epochs = -(-n // self._n_samples)
            ids = np.concatenate(
                [self._random.permutation(self._n_samples) for _ in range(epochs)]
            )[:n]
        return iter([ids[begin : begin + size].tolist() for begin in range(0, len(ids), size)])


class TorchContender:
    """Delivers batches of a map-style dataset.

    Parameters
    ----------
    open_dataset : callable
        Makes the dataset; called in the contender's process.
    in_process, in_workers : bool
        Whether to try the loader without workers, and with.
    collate : callable, optional
        As for DataLoader.
    """

    def __init__(
        self,
        open_dataset: Callable[[Inputs], Dataset[Any]],
        *,
        in_process: bool = False,
        in_workers: bool = True,
        collate: Callable[[Any], Any] | None = None,
    ) -> None:
        self._open_dataset = open_dataset
        self._in_process = in_process
        self._in_workers = in_workers
        self._collate = collate
        self._loader: DataLoader[Any] | None = None
        self._workers = 0

    def settings(self, inputs: Inputs) -> list[Setting]:
        # torch stacks the samples of a batch on several threads, which may help, but suffers badly
        # from any other load on the machine; one thread does not.
        threads = [1] if self._collate or inputs.threads == 1 else [1, inputs.threads]
        in_process: list[Setting] = [{"workers": 0, "torch_threads": n} for n in threads]
        if not self._in_workers:
            return in_process
        # Workers hand batches over in shared memory; where it is small (containers), they die.
        queue = (PREFETCH_PER_WORKER * inputs.threads + 2) * inputs.batch_bytes
        shared = Path("/dev/shm")
        if shared.exists() and shutil.disk_usage(shared).free < queue:
            note = "no workers: too little shared memory"
            return [{**setting, "note": note} for setting in in_process]
        workers: Setting = {"workers": inputs.threads, "prefetch_factor": PREFETCH_PER_WORKER}
        return [*in_process, workers] if self._in_process else [workers]

    def prepare(self, inputs: Inputs, setting: Setting) -> None:
        self._workers = int(setting["workers"])
        if "torch_threads" in setting:
            torch.set_num_threads(int(setting["torch_threads"]))
        self._sampler = _Batches(inputs.n_samples, inputs.batch_size)
        self._loader = DataLoader(
            self._open_dataset(inputs),
            batch_sampler=self._sampler,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            prefetch_factor=PREFETCH_PER_WORKER if self._workers else None,
            collate_fn=self._collate,
        )

    def verify(self, inputs: Inputs) -> int:
        self._sampler.n_batches = None
        return verify_epoch(self._iterate(), inputs)

    @property
    def unit(self) -> int:
        return max(1, self._workers)

    def batches(self, n: int) -> Iterator[Batch]:
        self._sampler.n_batches = n
        return self._iterate()

    def details(self) -> Setting:
        return {}

    def close(self) -> None:
        self._loader = None
        gc.collect()  # the loader's workers end with it

    def _iterate(self) -> Iterator[Any]:
        if self._loader is None:
            raise RuntimeError("not prepared")
        return iter(self._loader)
