"""Lets torchvision of the package index be imported beside a torch that was built for the CPU.

Its own operators are built for CUDA and cannot be loaded then; its import fails where it describes
two of them, unless they are declared. Streaming imports torchvision and calls no operator.
"""

from __future__ import annotations

import torch

__all__ = ["declared"]

declared = torch.library.Library("torchvision", "FRAGMENT")
if not torch.version.cuda:
    for name in ("nms", "qnms"):
        declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
