# Run by test_models.py in a process of its own: the network as the papers' authors wrote it down, in Keras.
from __future__ import annotations

from typing import Any

import keras  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from keras import layers

from e2eio import models


def in_keras(
    channels: int, granularity: int, shape: tuple[int, int], outputs: int
) -> tuple[Any, list[Any], tuple[int, ...]]:
    """The network; its layers with weights, in the order of torch's network; the shape that is made flat."""
    made: list[Any] = []

    def convolution(n_out: int, kernel: int, stride: int, x: Any) -> Any:
        made.append(layers.Conv2D(n_out, kernel, strides=stride, padding="same"))
        return made[-1](x)

    first = x = layers.Input((*shape, channels))
    x = layers.ReLU()(convolution(16, 7 * granularity, 2 * granularity, x))
    x = layers.MaxPooling2D(2)(x)
    for n_out, stride in [(16, 1)] * 3 + [(32, 2)] + [(32, 1)] * 3:
        residual = convolution(n_out, 3, 1, layers.ReLU()(convolution(n_out, 3, stride, x)))
        shortcut = convolution(n_out, 1, stride, x) if stride > 1 else x
        x = layers.ReLU()(layers.Add()([residual, shortcut]))
    x = layers.MaxPooling2D(2)(x)
    made.append(layers.Dense(outputs))
    return keras.Model(first, made[-1](layers.Flatten()(x))), made, x.shape[1:]


@pytest.mark.parametrize(
    ("channels", "granularity", "shape", "outputs"),
    [
        (8, 1, (125, 125), 2),
        (8, 3, (375, 375), 2),
        (2, 1, (32, 32), 2),
        (1, 1, (56, 72), 2),
        (1, 3, (34, 47), 1),
    ],
)
def test_equal_weights_give_equal_logits(
    channels: int, granularity: int, shape: tuple[int, int], outputs: int
) -> None:
    torch.set_num_threads(1)
    keras.backend.clear_session()
    keras.utils.set_random_seed(4)
    theirs, made, pixels = in_keras(channels, granularity, shape, outputs)
    ours = models.resnet15(channels, granularity=granularity, shape=shape, outputs=outputs)
    assert theirs.count_params() == sum(weights.numel() for weights in ours.parameters())
    modules: list[Any] = [
        m for m in ours.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))
    ]
    for layer, module in zip(made, modules, strict=True):
        kernel, bias = (np.array(weights) for weights in layer.get_weights())
        bias = np.random.default_rng(1).normal(size=bias.shape).astype(np.float32)
        layer.set_weights([kernel, bias])
        if kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
        else:  # from [H, W, C] to [C, H, W]
            kernel = kernel.reshape(*pixels, outputs).transpose(3, 2, 0, 1).reshape(outputs, -1)
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(kernel))
            module.bias.copy_(torch.from_numpy(bias))
    images = np.random.default_rng(2).normal(size=(2, channels, *shape)).astype(np.float32)
    expected = np.asarray(theirs(images.transpose(0, 2, 3, 1)))
    with torch.no_grad():
        found = ours(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
