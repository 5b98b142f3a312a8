"""What training makes small, and what a classifier is judged by."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from e2eio.errors import ConfigError

__all__ = ["loss", "scores"]


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of logits, the mean over samples and outputs.

    With two outputs each passes a sigmoid of its own, and the labels are one-hot: as in the published training
    (davidedicroce/multiGPU:multigpu_boostedjet_trainer.py).

    Parameters
    ----------
    logits : Tensor
        [n, 1] or [n, 2], as :func:`resnet15` gives them. The loss is computed in float32 at least.
    labels : Tensor
        [n], 0 or 1, of any dtype, on the same device.

    Returns
    -------
    Tensor
        One number.

    Raises
    ------
    ConfigError
        The shapes are others.

    Examples
    --------
    >>> float(loss(torch.zeros(4, 2), torch.tensor([0, 1, 1, 0])))
    0.6931471824645996
    """
    if logits.ndim != 2 or logits.shape[1] not in (1, 2) or labels.shape != logits.shape[:1]:
        raise ConfigError(
            f"bad shapes: found logits {list(logits.shape)} and labels {list(labels.shape)}, "
            "expected [n, 1] or [n, 2] and [n]"
        )
    wanted = labels.to(torch.promote_types(logits.dtype, torch.float32))
    targets = wanted[:, None] if logits.shape[1] == 1 else torch.stack([1 - wanted, wanted], 1)
    return binary_cross_entropy_with_logits(logits.to(wanted.dtype), targets)


def scores(logits: Tensor) -> Tensor:
    """Sigmoid of the logit of class 1, the last one: what ROC curves of the published networks are of.

    Parameters
    ----------
    logits : Tensor
        [n, 1] or [n, 2].

    Returns
    -------
    Tensor
        [n], 0 to 1, of the logits' dtype.

    Examples
    --------
    >>> scores(torch.tensor([[3.0, 0.0]]))
    tensor([0.5000])
    """
    return logits[:, -1].sigmoid()
