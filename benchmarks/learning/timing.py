"""How fast batches come, are trained on, and are scored; in interleaved rounds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.distributed import ReduceOp, all_reduce

from learning.datasets import Jets
from learning.runs import Timing, Training
from learning.trainer import Splits, Trainer

__all__ = ["measure"]

N_ROUNDS = 5
_WARM_UP = 2  # steps, not timed
# What is timed of each kind.
ACTIONS = {
    "io": ("io", "train", "resident"),
    "step": ("train", "resident", "agree"),
    "inference": ("inference",),
}


class _Stage:
    """A network, its batches, and what can be done with them, each a step."""

    def __init__(self, run: Timing, jets: Jets, device: torch.device) -> None:
        training = Training(
            run.process, (), jets.n, 0, 0, 1, stored=run.stored, resolution=run.stored,
            batch_size=run.batch_size, ranks=run.ranks, precision=run.precision, device=run.device,
        )  # fmt: skip
        self.device, self.ranks = device, run.ranks
        self.trainer = Trainer(training, Splits(jets, jets, jets), device, run.threads)
        self.n_parameters = sum(each.numel() for each in self.trainer.network.parameters())
        self._batches = self._endless()
        images, labels, _ = next(self._batches)
        self._kept = images.clone(), labels.clone()
        self._flat = torch.zeros(self.n_parameters, device=device)
        self.stall_s = 0.0

    def _endless(self) -> Iterator[Any]:
        while True:
            yield from self.trainer.loader

    def _next(self) -> Any:
        begin = time.perf_counter()
        batch = next(self._batches)
        self.stall_s += time.perf_counter() - begin
        return batch

    def io(self) -> None:
        """Take a batch and do nothing with it."""
        self._next()

    def train(self) -> None:
        images, labels, _ = self._next()
        self.trainer.step(images, labels)

    def resident(self) -> None:
        """Train on a batch that is there."""
        self.trainer.step(*self._kept)

    def inference(self) -> None:
        images, _, _ = self._next()
        with torch.inference_mode():
            self.trainer.logits(images, self.trainer.network)

    def agree(self) -> None:
        """Sum as many numbers over the ranks as the network has weights."""
        if self.ranks > 1:
            all_reduce(self._flat)

    def finish(self) -> None:
        """Wait until everything is done, here and on the other ranks."""
        if self.ranks > 1:
            all_reduce(torch.zeros(1, device=self.device))
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def count(self, action: Callable[[], None], seconds: float) -> int:
        """Return how many steps take about so long; the same on all ranks."""
        for _ in range(_WARM_UP):
            action()
        n, taken = 1, 0.0
        while taken < min(0.3, seconds):
            n *= 2
            taken = self.time(action, n)
            if self.ranks > 1:
                slowest = torch.tensor(taken, device=self.device)
                all_reduce(slowest, ReduceOp.MAX)
                taken = float(slowest)
        return max(2, math.ceil(seconds * n / taken))

    def time(self, action: Callable[[], None], n: int) -> float:
        self.finish()
        begin = time.perf_counter()
        for _ in range(n):
            action()
        self.finish()
        return time.perf_counter() - begin


def measure(
    run: Timing, jets: Jets, *, device: torch.device, tick: Callable[[int], None]
) -> dict[str, Any]:
    """Time what the run says.

    Returns
    -------
    dict
        `seconds_per_step`: for each action one number a round. `io`: a batch and a consumer that does nothing;
        `train`: a batch and a training step, reading ahead meanwhile; `resident`: the step on a batch that is there;
        `agree`: the sum of as many float32 as there are weights over the ranks; `inference`: a batch and its scores.
        `stall_per_step`: how long the loop has waited for batches in these. `parameters`.
    """
    stage = _Stage(run, jets, device)
    actions = {name: getattr(stage, name) for name in ACTIONS[run.what]}
    each_s = run.seconds / (N_ROUNDS * len(actions))
    counts = {name: stage.count(action, each_s) for name, action in actions.items()}
    times: dict[str, list[float]] = {name: [] for name in actions}
    stalls: dict[str, list[float]] = {name: [] for name in actions}
    for k in range(N_ROUNDS):
        for name, action in actions.items():
            stage.stall_s = 0.0
            times[name].append(stage.time(action, counts[name]) / counts[name])
            stalls[name].append(stage.stall_s / counts[name])
        tick(k + 1)
    return {
        "seconds_per_step": times,
        "stall_per_step": stalls,
        "parameters": stage.n_parameters,
    }
