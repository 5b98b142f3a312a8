"""Train the network of train.py with Lightning, which brings its own launchers, checkpoints and precisions.

python examples/lightning_train.py data/top --devices 2
python examples/lightning_train.py data/top --resume lightning_logs/version_0/checkpoints/last.ckpt
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning
import torch
from torch import Tensor

import e2eio
from e2eio import models
from e2eio.lightning import DataModule
from train import area_under_roc, network


class Classifier(lightning.LightningModule):
    def __init__(self, data: e2eio.Dataset) -> None:
        super().__init__()
        self.network = network(data)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = models.loss(self.network(images), labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.scores: list[Tensor] = []

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.scores.append(torch.stack([self.network(images)[:, 0].float(), labels.float()]))

    def on_validation_epoch_end(self) -> None:
        # [2, n] of one rank, [ranks, 2, n] of several.
        gathered: Any = self.all_gather(torch.cat(self.scores, 1))
        scores, labels = gathered.movedim(-2, 0).flatten(1)
        area = area_under_roc(scores, labels)
        self.log("area_under_roc", area, prog_bar=True, rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        size = self.trainer.world_size
        optimizer = models.optimizer(self, world_size=size)
        return [optimizer], [models.schedule(optimizer, world_size=size)]


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("data", help="dataset made by 'e2eio convert'")
    parser.add_argument("--epochs", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="jets per rank (%(default)s)")
    parser.add_argument("--devices", type=int, default=1, help="ranks on this node (%(default)s)")
    parser.add_argument(
        "--resume", help="checkpoint to go on from, in the middle of an epoch if need be"
    )
    args = parser.parse_args()

    lightning.seed_everything(0)
    dataset = e2eio.Dataset(args.data)
    data = DataModule(
        train=dataset,
        val=0.2,
        batch_size=args.batch_size,
        fields=(dataset.schema.image.name, "y"),
        transforms=[e2eio.transforms.Asinh()],
    )
    keep = lightning.pytorch.callbacks.ModelCheckpoint(every_n_train_steps=100, save_last=True)
    trainer = lightning.Trainer(max_epochs=args.epochs, devices=args.devices, callbacks=[keep])
    trainer.fit(Classifier(dataset), data, ckpt_path=args.resume)


if __name__ == "__main__":
    main()
