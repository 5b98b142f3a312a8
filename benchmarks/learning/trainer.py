"""One training: epochs, a checkpoint behind each, and the test with the weights of the best epoch.

The same code for one process and for the ranks of a group, on CPUs and GPUs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed import all_gather, all_reduce
from torch.nn.parallel import DistributedDataParallel

import e2eio
from e2eio import models, transforms
from e2eio.errors import ConfigError
from e2eio.progress import Progress
from e2eio.transforms.granularity import granularity_of
from learning import roc
from learning.datasets import Jets
from learning.runs import Training

__all__ = ["Splits", "Stopwatch", "Trainer", "make_loader", "make_network", "train"]

# Where pixels go from linear to logarithmic: about the least that is measured of a track (GeV; cm: a few times the
# resolution of d0 and dz) and of a crystal and a tower's 25th part (GeV). Hits are counts, and stay.
SCALES = {
    **{"track_pt": 1.0, "d0": 0.01, "dz": 0.02, "ecal": 0.3, "hcal": 0.1},
    "ecal_energy": 0.3,
}
_TEST_BATCH = 256


@dataclass(frozen=True, slots=True)
class Splits:
    """Jets to train on, to choose the epoch by, and to tell the area of: no jet is in two of them."""

    train: Jets
    valid: Jets
    test: Jets


@dataclass(slots=True)
class Stopwatch:
    """How long a loop takes over batches, and how much of it waiting for them (s)."""

    total_s: float = 0.0
    stall_s: float = 0.0
    jets: int = 0

    def over(self, batches: Any) -> Iterator[Any]:
        """Yield the batches; what passes between them is the consumer's time."""
        iterator = iter(batches)
        begin = time.perf_counter()
        while True:
            asked = time.perf_counter()
            batch = next(iterator, None)
            now = time.perf_counter()
            if batch is None:
                break
            self.stall_s += now - asked
            n = len(batch[0])
            yield batch
            del batch  # its memory goes back to the ring before the next one is asked for
            self.jets += n
        self.total_s += time.perf_counter() - begin


def make_loader(
    run: Any, jets: Jets, *, shuffle: bool, batch_size: int, threads: Any
) -> e2eio.Loader:
    """Return the loader of a part: fields image, y and number; images [n, H, W, C], as convolutions want them."""
    data = jets.dataset
    known = set(data.channels)
    scales = {name: scale for name, scale in SCALES.items() if name in known}
    stored = granularity_of(data.schema)
    wanted: Any = getattr(run, "resolution", stored)
    return e2eio.Loader(
        data,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=getattr(run, "seed", 0),
        drop_last=shuffle,
        fields=(data.schema.image.name, "y", "sample_id"),
        channels=list(getattr(run, "channels", ())) or None,
        resolution=None if stored in (None, wanted) else wanted,
        transforms=[transforms.Asinh(scales)] if scales else [],
        layout="NHWC",
        exclude=jets.exclude,
        device=run.device,
        threads=threads,
    )


def make_network(run: Any, data: e2eio.Dataset) -> models.ResNet15:
    """Return the network for a dataset's images, as they are loaded."""
    n_channels, *shape = data.schema.image.shape
    stored = granularity_of(data.schema) or 1
    granularity = getattr(run, "resolution", stored)
    shape = [edge * granularity // stored for edge in shape]
    chosen = getattr(run, "channels", ())
    return models.resnet15(len(chosen) or n_channels, granularity=granularity, shape=shape)


@dataclass
class Trainer:
    """A training under way; what a checkpoint holds are its states, `history` and `best`.

    Thread rule: one thread; the same calls on all ranks.
    """

    run: Training
    splits: Splits
    device: torch.device
    threads: Any = "auto"
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        run = self.run
        self.loader = self._loader(self.splits.train, shuffle=True)
        if run.jets < run.batch_size * run.ranks:
            raise ConfigError(
                f"too few jets for a step: found {run.jets}, expected at least {run.batch_size * run.ranks} for "
                f"batches of {run.batch_size} on {run.ranks} rank(s); raise --jets"
            )
        torch.manual_seed(run.seed)
        network: Any = make_network(run, self.splits.train.dataset).to(self.device)
        self.network: nn.Module = network.to(memory_format=torch.channels_last)
        # The rate of a larger batch: by the root of its size for Adam (arXiv:2006.09092), by the number of ranks as
        # Horovod has it; warmed up where several ranks train.
        rate = run.learning_rate * (run.batch_size / 64) ** 0.5
        self.optimizer = models.optimizer(self.network, learning_rate=rate, world_size=run.ranks)
        self.rates = models.schedule(
            self.optimizer,
            world_size=run.ranks,
            steps_per_epoch=max(1, len(self.loader)),
            warmup_epochs=min(5, run.epochs // 2),
            halve_every=run.halve_every,
        )
        self.parallel = self.network
        if run.ranks > 1:
            self.parallel = DistributedDataParallel(self.network)

    def _loader(self, jets: Jets, *, shuffle: bool = False) -> e2eio.Loader:
        size = self.run.batch_size if shuffle else _TEST_BATCH
        return make_loader(self.run, jets, shuffle=shuffle, batch_size=size, threads=self.threads)

    @property
    def parts(self) -> dict[str, Any]:
        """What has a state."""
        return {
            "network": self.network,
            "optimizer": self.optimizer,
            "rates": self.rates,
            "loader": self.loader,
        }

    def logits(self, images: Tensor, network: nn.Module | None = None) -> Tensor:
        """Logits of images [n, H, W, C]."""
        bfloat16 = self.run.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            found: Tensor = (network or self.parallel)(images.permute(0, 3, 1, 2))
        return found.float()

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Train on a batch; return its loss."""
        loss = models.loss(self.logits(images), labels.to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.rates.step()
        return loss.detach()

    def epoch(self, tick: Any) -> dict[str, float]:
        """Train one epoch; return loss, times and rates."""
        watch, losses = Stopwatch(), []
        rate = float(self.rates.get_last_lr()[0])
        for images, labels, _ in watch.over(self.loader):
            losses.append(self.step(images, labels))
            tick(len(labels))
        mean = torch.stack(losses).mean()
        if self.run.ranks > 1:
            all_reduce(mean)
            mean /= self.run.ranks
        return {
            "epoch": len(self.history),
            "learning_rate": rate,
            "loss": float(mean),
            "seconds": watch.total_s,
            "stall_s": watch.stall_s,
            "jets": watch.jets * self.run.ranks,
        }

    @torch.inference_mode()
    def score(self, jets: Jets) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return scores and labels of jets, in the order of their numbers."""
        rows = []
        for images, labels, ids in self._loader(jets):
            scores = self.logits(images, self.network)[:, -1]
            rows.append(
                torch.stack([each.to(self.device).double() for each in (ids, labels, scores)])
            )
        table = torch.cat(rows, 1)
        if self.run.ranks > 1:
            tables = [torch.empty_like(table) for _ in range(self.run.ranks)]
            all_gather(tables, table)
            table = torch.cat(tables, 1)
        # Ranks have equally many jets, which may take repeats: each jet counts once.
        ids, labels, scores = table[:, table[0].argsort()].cpu().numpy()
        once = np.append(True, np.diff(ids) > 0)
        return scores[once], labels[once]

    def validate(self, found: dict[str, float]) -> None:
        """Add loss and area of the validation jets, and keep the weights if they are the best so far."""
        scores, labels = self.score(self.splits.valid)
        found["valid_auc"] = roc.area(scores, labels)
        self.history.append(found)
        if not self.best or found["valid_auc"] > self.best["valid_auc"]:
            weights = {name: each.clone() for name, each in self.network.state_dict().items()}
            self.best = {
                "epoch": found["epoch"],
                "valid_auc": found["valid_auc"],
                "weights": weights,
            }

    def save(self, path: Path) -> None:
        """Write the checkpoint; a kill leaves the old one or the new one."""
        states = {name: part.state_dict() for name, part in self.parts.items()}
        partial = path.with_suffix(".partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save({"history": self.history, "best": self.best, **states}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def load(self, path: Path) -> None:
        saved = torch.load(path, map_location=self.device)
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        self.history[:], self.best = saved["history"], saved["best"]

    def test(self) -> dict[str, Any]:
        """Return what the test jets tell of the best epoch's network."""
        self.network.load_state_dict(self.best["weights"])
        scores, labels = self.score(self.splits.test)
        return {
            "auc": roc.area(scores, labels),
            "n_signal": int(labels.sum()),
            "n_background": int((1 - labels).sum()),
            "best_epoch": self.best["epoch"],
            "replicas": [round(each, 6) for each in roc.replicas(scores, labels)],
            "true_positive_rates": [
                round(each, 6) for each in roc.true_positive_rates(scores, labels)
            ],
        }


def train(
    trainer: Trainer, checkpoint: Path, progress: Progress, *, rank: int = 0
) -> dict[str, Any]:
    """Train and test, going on from the checkpoint if there is one.

    Parameters
    ----------
    trainer : Trainer
    checkpoint : Path
        Written by rank 0 behind each epoch.
    progress : Progress
        Counts the jets of all epochs.
    rank : int

    Returns
    -------
    dict
        `history` (a dict for each epoch) and what :meth:`Trainer.test` finds. Equal on all ranks, but for times.
    """
    if checkpoint.exists():
        trainer.load(checkpoint)
    run, history = trainer.run, trainer.history
    per_step = run.batch_size * run.ranks
    done = [sum(int(each["jets"]) for each in history)]
    progress.start(len(trainer.loader) * per_step * run.epochs, done[0])

    def tick(n: int) -> None:
        done[0] += n * run.ranks
        progress.update(done[0])

    while len(history) < run.epochs:
        found = trainer.epoch(tick)
        trainer.validate(found)
        if rank == 0:
            trainer.save(checkpoint)
        progress.note(_line(found, run.epochs))
    return {"history": history, **trainer.test()}


def _line(found: dict[str, float], epochs: int) -> str:
    return (
        f"epoch {found['epoch'] + 1} of {epochs}: loss {found['loss']:.4f}, area of the validation jets "
        f"{found['valid_auc']:.4f}, {found['jets'] / found['seconds']:.0f} jets/s"
    )
