"""One rank of a run: python -m mpi4py -m learning.worker JOB.json, started by `launch` under mpirun."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import e2eio.distributed
from learning.launch import run_job

__all__ = ["main"]


def main(path: str) -> None:
    with e2eio.distributed.init() as world:
        run_job(Path(path), world.rank, torch.device(world.device))


if __name__ == "__main__":
    main(sys.argv[1])
