"""e2eio: dense float32 [b, C, H, W], exact shuffle, all channels."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import e2eio
from harness.contender import Batch, Contender, Inputs, Setting, verify_epoch

__all__ = ["E2eioContender", "create"]


class E2eioContender:
    """Whole epochs of a Loader, each in an order of its own."""

    def __init__(self, threads: int | None = None, framework: str = "", **options: Any) -> None:
        self._loader: e2eio.Loader | None = None
        self._epoch = 0
        self._threads = threads
        self._framework = framework
        self._options = options

    def settings(self, inputs: Inputs) -> list[Setting]:
        framework = "torch" if importlib.util.find_spec("torch") else "numpy"
        return [
            {
                "threads": self._threads or inputs.threads,
                "shuffle": "exact",
                "framework": self._framework or framework,
                **self._options,
            }
        ]

    def prepare(self, inputs: Inputs, setting: Setting) -> None:
        self._loader = e2eio.Loader(
            e2eio.Dataset(inputs.files["e2eio"]),
            batch_size=inputs.batch_size,
            shuffle=True,
            fields=("X_jets", "y"),
            framework="torch" if setting["framework"] == "torch" else "numpy",
            threads=int(setting["threads"]),
            **self._options,
        )

    def verify(self, inputs: Inputs) -> int:
        return verify_epoch(self.batches(self.unit), inputs)

    @property
    def unit(self) -> int:
        return len(self._opened())

    def batches(self, n: int) -> Iterator[Batch]:
        loader = self._opened()
        for _ in range(n // len(loader)):
            loader.set_epoch(self._epoch)
            self._epoch += 1
            yield from loader

    def details(self) -> Setting:
        return {
            key: value
            for key, value in self._opened().stats().items()
            if isinstance(value, int | str)
        }

    def close(self) -> None:
        if self._loader is not None:
            self._loader.close()
            self._loader = None

    def _opened(self) -> e2eio.Loader:
        if self._loader is None:
            raise RuntimeError("not prepared")
        return self._loader


def create() -> Contender:
    return E2eioContender()
