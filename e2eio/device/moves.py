"""What may be done to pixels on their way from the wire into the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Moves"]


@dataclass(frozen=True)
class Moves:
    """Operations of one scattering, beside the change of dtype. None: left out.

    They keep an empty pixel at zero, so that only stored pixels are touched. Geometry comes first, as in
    :mod:`e2eio.transforms`: a flip, then a roll.

    Attributes
    ----------
    scale : float32 [C], or None
        Factor of each channel, applied in float32 before the cast.
    flip_eta : bool [n], or None
        Samples whose rows are mirrored.
    flip_sign : float32 [C], or None
        Factor of each channel in samples that are mirrored: -1 for dz.
    roll_phi : int32 [n], or None
        Columns by which each sample is moved to the right; what leaves comes in on the left.
    """

    scale: torch.Tensor | None = None
    flip_eta: torch.Tensor | None = None
    flip_sign: torch.Tensor | None = None
    roll_phi: torch.Tensor | None = None

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Those that are given."""
        given = (self.scale, self.flip_eta, self.flip_sign, self.roll_phi)
        return [tensor for tensor in given if tensor is not None]
