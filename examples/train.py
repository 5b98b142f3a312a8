"""Train the benchmarks' ResNet-15 on jet images: one script for a laptop, a node of GPUs, mpirun, torchrun and Slurm.

It writes a checkpoint every few steps. Start it again after a crash, a kill or the end of a batch job, with the same
--checkpoint: it goes on at the very next batch, to the very weights of a run that was never stopped.

  e2eio convert BoostedTop*.parquet data/top                    # once
  python examples/train.py data/top
  mpirun -n 2 python -m mpi4py examples/train.py data/top --checkpoint run/top.pt
  torchrun --nproc-per-node 4 examples/train.py data/top --amp  # one rank per GPU
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import all_gather
from torch.nn.parallel import DistributedDataParallel

import e2eio
import e2eio.distributed
from e2eio import models
from e2eio.transforms.granularity import granularity_of


def arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("data", help="dataset made by 'e2eio convert'; every fifth jet of it is for validation")
    add("--label", default="y", help="scalar field with classes 0 and 1 (%(default)s)")
    add("--epochs", type=int, default=5, help="(%(default)s)")
    add("--batch-size", type=int, default=64, help="jets per rank and step (%(default)s)")
    add("--seed", type=int, default=0, help="of weights and order (%(default)s)")
    add("--amp", action="store_true", help="compute in bfloat16 where that is safe")
    add("--checkpoint", type=Path, default=Path("checkpoint.pt"), help="file (%(default)s)")
    add("--every", type=int, default=100, help="steps between checkpoints (%(default)s)")
    return parser.parse_args()


def network(data: e2eio.Dataset) -> models.ResNet15:
    n_channels, *shape = data.schema.image.shape
    granularity = granularity_of(data.schema) or 1
    return models.resnet15(n_channels, granularity=granularity, shape=shape, outputs=1)


def area_under_roc(scores: Tensor, labels: Tensor) -> float:
    """Chance that a jet of class 1 scores higher than one of class 0; a tie counts half."""
    signal, background = scores[labels > 0.5], scores[labels < 0.5].sort().values
    below, not_above = (torch.searchsorted(background, signal, right=r) for r in (False, True))
    return float((below + not_above).double().mean() / (2 * len(background)))


@torch.inference_mode()
def validate(model: nn.Module, loader: e2eio.Loader, device: torch.device) -> str:
    rows = []
    for images, labels, ids in loader:
        scores = model(images.to(device))[:, 0]
        rows.append(torch.stack([column.to(device).double() for column in (ids, labels, scores)]))
    table = torch.cat(rows, 1)
    tables = [torch.empty_like(table) for _ in range(loader.world_size)]
    all_gather(tables, table)
    # Ranks have equally many jets, which may take repeats: each jet counts once.
    table = torch.cat(tables, 1)
    ids, labels, scores = table[:, table[0].argsort()]
    once = ids.diff(prepend=ids.new_tensor([-1])) > 0
    loss = models.loss(scores[once, None], labels[once])
    return f"loss {loss:.4f}, area under ROC {area_under_roc(scores[once], labels[once]):.4f}"


def train(args: argparse.Namespace, rank: int, device: torch.device) -> None:
    data = e2eio.Dataset(args.data)
    common: dict[str, Any] = {
        "batch_size": args.batch_size,
        "fields": (data.schema.image.name, args.label, "sample_id"),
        "transforms": [e2eio.transforms.Asinh()],
    }
    fifth = np.arange(len(data)) % 5 == 0
    loader = e2eio.Loader(
        data, exclude=np.flatnonzero(fifth), shuffle=True, seed=args.seed, **common
    )
    held_out = e2eio.Loader(data, exclude=np.flatnonzero(~fifth), **common)

    torch.manual_seed(args.seed)
    model = network(data).to(device)
    optimizer = models.optimizer(model, world_size=loader.world_size)
    rates = models.schedule(optimizer, world_size=loader.world_size, steps_per_epoch=len(loader))
    kept: dict[str, Any] = {
        "model": model,
        "optimizer": optimizer,
        "rates": rates,
        "loader": loader,
    }
    first_epoch = step = 0
    if args.checkpoint.exists():
        saved = torch.load(args.checkpoint, map_location=device)
        first_epoch, step = saved["epoch"], saved["step"]
        for name, part in kept.items():
            part.load_state_dict(saved[name])

    def checkpoint(epoch: int) -> None:
        # The same on all ranks. With dropout the state of torch's generator belongs here too, one per rank.
        states = {name: part.state_dict() for name, part in kept.items()}
        partial = args.checkpoint.with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save({"epoch": epoch, "step": step, **states}, file)
            os.fsync(file.fileno())
        partial.replace(args.checkpoint)  # a kill leaves the old file or the new one

    parallel = DistributedDataParallel(model)
    for epoch in range(first_epoch, args.epochs):
        for images, labels, _ in loader:
            with torch.autocast(device.type, torch.bfloat16, enabled=args.amp):
                logits = parallel(images.to(device))
            loss = models.loss(logits, labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
            step += 1
            if step % args.every == 0 and rank == 0:
                checkpoint(epoch)
                print(f"epoch {epoch} step {step}: loss {loss.item():.4f}", flush=True)
        quality = validate(model, held_out, device)
        if rank == 0:
            checkpoint(epoch + 1)
            print(f"epoch {epoch} validation: {quality}", flush=True)


if __name__ == "__main__":
    options = arguments()
    with e2eio.distributed.init() as world:  # by any launcher, or a group of one
        train(options, world.rank, world.device)
