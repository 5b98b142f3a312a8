"""The ResNet-15 of the End-to-End benchmarks.

Sources: arXiv:2104.14659 (boosted top; Phys. Rev. D 105, 052008), arXiv:1902.08276 (quark and gluon), and the network as
it was trained, davidedicroce/multiGPU:keras_resnet_single.py. Numbers without a source of their own are from the latter.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from e2eio.errors import ConfigError
from e2eio.integers import as_integer
from e2eio.options import at_least

__all__ = ["GRANULARITIES", "ResNet15", "resnet15"]

# Pixels per crystal and axis of the image sets that the field has made: x1, x3, x5.
GRANULARITIES = (1, 3, 5)
# Crystals along the edge of a jet image: 25 HCAL towers of 5 crystals.
_CRYSTALS = 125
# Of the first convolution at x1, in pixels: both grow with the granularity, so that they stay the same in crystals.
_KERNEL, _STRIDE = 7, 2
_NARROW, _WIDE = 16, 32
_N_BLOCKS = 3  # of each width, besides the one between them


class _SameConv2d(nn.Conv2d):
    """A convolution of [n, n_in, H, W] to [n, n_out, ceil(H / stride), ceil(W / stride)].

    The zeros around the image are laid as TensorFlow's padding "SAME": where their number is odd, the last row and
    column get the one more. torch's own padding would shift images of even size by a pixel.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name for it
        pads = [
            _same_padding(input.shape[axis], self.kernel_size[axis - 2], self.stride[axis - 2])
            for axis in (2, 3)
        ]
        (top, bottom), (left, right) = pads
        if top != bottom or left != right:
            input = functional.pad(input, (left, right, top, bottom))  # noqa: A001
            top = left = 0
        return functional.conv2d(input, self.weight, self.bias, self.stride, (top, left))


def _same_padding(n: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after n pixels."""
    n_zeros = max((-(-n // stride) - 1) * stride + kernel - n, 0)
    return n_zeros // 2, n_zeros - n_zeros // 2


class _ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut: arXiv:1512.03385, without batch normalisation."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        stride = n_out // n_in
        self.conv1 = _SameConv2d(n_in, n_out, 3, stride)
        self.conv2 = _SameConv2d(n_out, n_out, 3)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(n_in, n_out, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        residual = self.conv2(functional.relu(self.conv1(features)))
        return functional.relu(residual + self.shortcut(features))


class ResNet15(nn.Module):
    """What :func:`resnet15` makes.

    Attributes
    ----------
    channels, granularity, shape, outputs
        As :func:`resnet15` took them; `shape` is (H, W).
    """

    def __init__(
        self, channels: int, granularity: int, shape: tuple[int, int], outputs: int
    ) -> None:
        super().__init__()
        self.channels, self.granularity, self.shape = channels, granularity, shape
        self.outputs = outputs
        stride = _STRIDE * granularity
        self.conv0 = _SameConv2d(channels, _NARROW, _KERNEL * granularity, stride)
        self.pool = nn.MaxPool2d(2)
        widths = [_NARROW] * (1 + _N_BLOCKS) + [_WIDE] * (1 + _N_BLOCKS)
        pairs = pairwise(widths)
        self.blocks = nn.Sequential(*(_ResidualBlock(n_in, n_out) for n_in, n_out in pairs))
        height, width = (_n_features(n, stride) for n in shape)
        self.dense = nn.Linear(_WIDE * height * width, outputs)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, outputs] of images [n, C, H, W]; ConfigError for images of another shape."""
        if images.shape[1:] != (self.channels, *self.shape):
            expected = f"[n, {self.channels}, {self.shape[0]}, {self.shape[1]}]"
            raise ConfigError(
                f"images do not fit the network: found {list(images.shape)}, expected {expected}; "
                "choose 'channels' and 'shape' of resnet15 as the loader delivers them"
            )
        features = self.pool(functional.relu(self.conv0(images)))
        features = self.pool(self.blocks(features))
        logits: Tensor = self.dense(features.flatten(1))
        return logits


def _n_features(n: int, stride: int) -> int:
    """Pixels of an edge of n after the convolution, the pooling, the step between the widths and the pooling."""
    pooled = -(-n // stride) // 2
    return -(-pooled // 2) // 2


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    # What the published networks began from, the default of Keras: Glorot's uniform distribution, within
    # +- sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, PMLR 9:249, 2010, eq. 16), and biases of 0.
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def resnet15(
    channels: int = 8,
    *,
    granularity: int = 1,
    shape: Sequence[int] | None = None,
    outputs: int = 2,
) -> ResNet15:
    """Make the network of the End-to-End benchmarks, with new weights.

    A convolution of 7g x 7g pixels in steps of 2g to 16 channels, ReLU, maximum over 2 x 2; three residual blocks of 16
    channels, one from 16 to 32 in steps of 2 with a convolution of 1 x 1 as its shortcut, three of 32; maximum over 2 x 2;
    a dense layer. 1 + 14 convolutions, not counting the shortcut's, make the 15. There is no batch normalisation. At x3
    and x5 only the first convolution is larger: behind it all is as at x1.

    Parameters
    ----------
    channels : int
        Of the images: 1 (electron/photon: energy; 2 with time), 3 (quark/gluon), 8 (boosted top), 13 (tau).
    granularity : {1, 3, 5}
        g, pixels per crystal and axis: 1 for x1, 3 for x3.
    shape : (int, int), optional
        Height and width of the images, in pixels, at least 10g + 1 each: (32, 32) for electron/photon, (280, 360) for
        a whole event at x1. None: jets, (125g, 125g).
    outputs : {2, 1}
        Logits per image. 2: one for each class, as published, where each passes a sigmoid of its own. 1: of class 1.
        :func:`loss` and :func:`scores` take both.

    Returns
    -------
    ResNet15
        From float32 [n, channels, H, W] to float32 [n, outputs], in the memory of the CPU. The weights are drawn
        from torch's generator: ``torch.manual_seed`` settles them.

    Raises
    ------
    ConfigError
        An argument is out of range, or the images are too small for the granularity.

    Notes
    -----
    Trainable parameters, of which the published "~94k" at x1 is the first line, to the rounding:

    ===================  ========  ================  ============
    images               in all    first convolution  dense layer
    ===================  ========  ================  ============
    8 channels, x1         94,226              6,288         4,098
    8 channels, x3        144,402             56,464         4,098
    ===================  ========  ================  ============

    Weights begin as in the published training (Keras): Glorot's uniform distribution (PMLR 9:249, 2010), biases 0.
    Convolutions are padded as TensorFlow's "SAME"; equal weights give the logits of the published network.

    Examples
    --------
    >>> from e2eio import models
    >>> network = models.resnet15(channels=8, granularity=1)
    >>> sum(weights.numel() for weights in network.parameters())
    94226
    >>> network(torch.zeros(4, 8, 125, 125)).shape
    torch.Size([4, 2])
    """
    n_channels = at_least(1, "channels", channels)
    if as_integer(granularity) not in GRANULARITIES:
        raise ConfigError(f"unknown granularity: found {granularity!r}, expected 1, 3 or 5")
    if as_integer(outputs) not in (1, 2):
        raise ConfigError(f"bad 'outputs': found {outputs!r}, expected 1 or 2 logits per image")
    return ResNet15(n_channels, int(granularity), _checked_shape(shape, granularity), int(outputs))


def _checked_shape(shape: object, granularity: int) -> tuple[int, int]:
    if shape is None:
        return (_CRYSTALS * granularity,) * 2
    edges = [as_integer(edge) for edge in shape] if isinstance(shape, Sequence) else []
    if len(edges) != 2 or edges[0] is None or edges[1] is None:
        raise ConfigError(f"bad 'shape': found {shape!r}, expected (height, width) in pixels")
    # Two pixels have to reach the second pooling, which takes three before the step between the widths.
    least = 5 * _STRIDE * granularity + 1
    if min(edges[0], edges[1]) < least:
        raise ConfigError(
            f"images too small for granularity {granularity}: found shape {tuple(edges)}, expected at "
            f"least {least} x {least} pixels; choose a finer resolution or a smaller granularity"
        )
    return edges[0], edges[1]
