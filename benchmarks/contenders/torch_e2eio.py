"""torch's DataLoader over an `e2eio.Dataset`: the format's gain, without e2eio's loader.

The Dataset decodes a batch by one native call (`__getitems__`); torch collates the samples.
"""

from __future__ import annotations

from typing import Any

import torch

import e2eio
from contenders._torch import TorchContender
from harness.contender import Contender, Inputs

__all__ = ["create"]


def _collate(samples: list[dict[str, Any]]) -> list[torch.Tensor]:
    """As torch's default does, for the two fields that are measured."""
    images = [torch.as_tensor(sample["X_jets"]) for sample in samples]
    return [torch.stack(images), torch.tensor([float(sample["y"]) for sample in samples])]


def _open(inputs: Inputs) -> Any:
    return e2eio.Dataset(inputs.files["e2eio"])


def create() -> Contender:
    return TorchContender(_open, in_process=True, collate=_collate)
