"""How the benchmarks train: Adam, and a learning rate that is halved, scaled and warmed up."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from e2eio.errors import ConfigError
from e2eio.options import at_least

__all__ = ["LEARNING_RATE", "optimizer", "schedule"]

# davidedicroce/multiGPU:multigpu_boostedjet_trainer.py: --lr_init, Adam's epsilon, epochs_drop and --warmup-epochs.
LEARNING_RATE = 5e-4
_EPSILON = 1e-8
_HALVE_EVERY = 10
_WARMUP_EPOCHS = 5


def optimizer(
    model: nn.Module, *, learning_rate: float = LEARNING_RATE, world_size: int = 1
) -> Adam:
    """Adam as the benchmarks use it: epsilon 1e-8, the learning rate scaled with the ranks.

    Parameters
    ----------
    model : Module
        All its parameters are trained.
    learning_rate : float
        Of one rank. 5e-4 is the benchmarks'.
    world_size : int
        Ranks that train together. Each has a batch of its own, so the batch of a step grows with them, and the learning
        rate in proportion, as in Horovod's examples and arXiv:1706.02677, section 2.1.

    Returns
    -------
    torch.optim.Adam
        Learning rate ``learning_rate * world_size``.

    Raises
    ------
    ConfigError
        The learning rate is no positive number, or the ranks are none.

    Notes
    -----
    The published Horovod trainer had NovoGrad in Adam's place, which torch does not have. Epsilon matters for who
    compares: Keras has 1e-7 unless told otherwise.

    Examples
    --------
    >>> optimizer(nn.Linear(2, 1), world_size=8).param_groups[0]["lr"]
    0.004
    """
    if not 0 < learning_rate < math.inf:
        raise ConfigError(f"bad learning rate: found {learning_rate!r}, expected a number above 0")
    n_ranks = at_least(1, "world_size", world_size)
    return Adam(model.parameters(), lr=learning_rate * n_ranks, eps=_EPSILON)


@dataclass
class _Factor:
    """What the learning rate is multiplied by at a step; the scheduler's state holds the attributes."""

    world_size: int
    warmup_steps: int
    halve_every_steps: int

    def __call__(self, step: int) -> float:
        warmth = min((step + 1) / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        warm = (1 + warmth * (self.world_size - 1)) / self.world_size
        return float(warm * 0.5 ** (step // self.halve_every_steps))


def schedule(
    optimizer: Optimizer,
    *,
    world_size: int = 1,
    steps_per_epoch: int = 1,
    warmup_epochs: int = _WARMUP_EPOCHS,
    halve_every: int = _HALVE_EVERY,
) -> LambdaLR:
    """Learning rates of the benchmarks: halved every 10 epochs, after a warm-up over 5 where several ranks train.

    Parameters
    ----------
    optimizer : Optimizer
        Its learning rate is that of all ranks together, as :func:`optimizer` makes it.
    world_size : int
        Ranks that train together. 1: no warm-up.
    steps_per_epoch : int
        How often the schedule's ``step()`` is called in an epoch. 1: at its end. ``len(loader)``: after each step of
        the optimizer, where the warm-up is as smooth as Horovod's.
    warmup_epochs : int
        Epochs over which the rate rises in a line from that of one rank to that of all of them; 0: none.
    halve_every : int
        Epochs, counted from the begin, so that those of the warm-up count.

    Returns
    -------
    torch.optim.lr_scheduler.LambdaLR
        Its state goes into a checkpoint like the optimizer's.

    Raises
    ------
    ConfigError
        A number is out of range.

    Notes
    -----
    Of R ranks with the rate r, step k = 0, 1, ... of s per epoch, a warm-up over w epochs and halving every h has the rate::

        r / R * (1 + min((k + 1) / (s w), 1) (R - 1)) * 0.5 ** floor(k / (s h))

    The first factor is Horovod's LearningRateWarmupCallback (after arXiv:1706.02677, section 2.2), which reaches the full
    rate with the last step of the warm-up; the second is torch's StepLR. The published trainers count epochs from 1, and so
    halve one epoch earlier: in epochs 9 and 19 of 0 to 19, here in 10.

    Examples
    --------
    >>> network = nn.Linear(2, 1)
    >>> rates = schedule(optimizer(network, world_size=2), world_size=2)
    >>> rates.get_last_lr()  # 5 epochs from 0.0005, which is one rank's, to 0.001
    [0.0006]
    """
    n_ranks = at_least(1, "world_size", world_size)
    n_steps = at_least(1, "steps_per_epoch", steps_per_epoch)
    n_warm = at_least(0, "warmup_epochs", warmup_epochs)
    n_between = at_least(1, "halve_every", halve_every)
    return LambdaLR(optimizer, _Factor(n_ranks, n_warm * n_steps, n_between * n_steps))
