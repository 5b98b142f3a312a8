"""The network of the end-to-end analyses, as large as they had it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu

__all__ = ["ResNet15"]


class _Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        stride = 1 if n_in == n_out else 2
        self.first = nn.Conv2d(n_in, n_out, 3, stride, padding=1)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.shortcut = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = relu(self.shortcut(x) + self.second(relu(self.first(x))))
        return y


class ResNet15(nn.Module):
    """15 convolutions and two classes, for images [n, C, 125 g, 125 g]; no batch normalisation.

    A convolution of 7 g x 7 g pixels with stride 2 g makes the same of both granularities g; then 3 blocks of 16
    channels, one to 32 and 3 of 32: davidedicroce/multiGPU, keras_resnet_single.py; arXiv:2104.14659, section 4.
    """

    def __init__(self, n_channels: int, granularity: int) -> None:
        super().__init__()
        g = granularity
        self.first = nn.Conv2d(n_channels, 16, 7 * g, 2 * g, padding=3 * g)
        widths = [(16, 16)] * 3 + [(16, 32)] + [(32, 32)] * 3
        self.body = nn.Sequential(*(_Block(n_in, n_out) for n_in, n_out in widths))
        self.output = nn.Linear(32 * 8 * 8, 2)

    def forward(self, images: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(relu(self.first(images)), 2)
        classes: Tensor = self.output(nn.functional.max_pool2d(self.body(x), 2).flatten(1))
        return classes
