"""Samples to batches of tensors, as torch's default collation makes them, without its copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.utils.data

from e2eio.dataset import Samples
from e2eio.errors import ConfigError

__all__ = ["OptionsCollation", "default_collate", "draws_nothing", "is_default"]


def default_collate(batch: Any) -> Any:
    """Return a batch of tensors, bit for bit that of torch.utils.data.default_collate.

    Of the samples that :meth:`e2eio.Dataset.__getitems__` returns, the batch is what they were decoded into;
    anything else goes to torch's function. It is the `collate_fn` of an :class:`e2eio.DataLoader` that was given none;
    pass it to a plain torch DataLoader over an e2eio.Dataset to save a copy of every image.

    Parameters
    ----------
    batch : list of samples

    Returns
    -------
    dict of Tensor
        Images float32 [B, C, H, W], each scalar [B] of its own dtype.

    Examples
    --------
    >>> torch.utils.data.DataLoader(ds, 64, collate_fn=e2eio.default_collate)  # doctest: +SKIP
    """
    if isinstance(batch, Samples) and batch.intact():
        return {name: torch.from_numpy(column) for name, column in batch.columns.items()}
    return torch.utils.data.default_collate(batch)


@dataclass(frozen=True, slots=True)
class OptionsCollation:
    """The collate_fn of a DataLoader with e2eio's own options, which nobody else may leave out.

    Somebody who builds a plain torch DataLoader from this one's attributes would load other fields,
    channels or values without a word; this says so instead.
    """

    names: tuple[str, ...]

    def __call__(self, batch: Any) -> Any:
        """Refuse."""
        raise ConfigError(
            f"a DataLoader with {', '.join(self.names)} was taken apart, and its samples were loaded without; "
            "keep the e2eio.DataLoader (Accelerate: do not pass it to prepare(), or use e2eio.Loader)"
        )


def is_default(collate_fn: object) -> bool:
    """Say whether a collate_fn makes what the core delivers anyway."""
    return (
        collate_fn is default_collate
        or collate_fn is torch.utils.data.default_collate
        or isinstance(collate_fn, OptionsCollation)
    )


def draws_nothing(collate_fn: object) -> bool:
    """Say whether a collate_fn is known to leave random numbers alone."""
    return is_default(collate_fn) or collate_fn is torch.utils.data.default_convert
