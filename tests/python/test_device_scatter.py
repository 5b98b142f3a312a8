"""Filling images from the wire, by torch operations and by the Triton kernel, against the dense form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

os.environ.setdefault("TRITON_INTERPRET", "1" if not torch.cuda.is_available() else "0")

import e2eio
from e2eio.batches.forms import WIRE_HEADER
from e2eio.device.moves import Moves
from e2eio.device.wire_view import WireView
from e2eio.schema import Channel, ImageField, ScalarField, Schema

N, H, W = 5, 15, 20
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def scatter_of(name: str) -> Any:
    if name == "triton":
        pytest.importorskip("triton", reason="triton is not installed")
        from e2eio.device import scatter_triton

        return scatter_triton.scatter
    from e2eio.device import scatter_torch

    return scatter_torch.scatter


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared supports, 5 x 5 blocks, a dense channel, -0.0 and NaN, and an empty image."""
    rng = np.random.default_rng(5)
    images = np.zeros((N, 4, H, W), np.float32)
    for image in images[1:]:
        at = rng.integers(0, H, 30), rng.integers(0, W, 30)
        image[0][at] = rng.exponential(2, 30)
        image[1][at] = rng.normal(size=30)
        image[2] = np.kron(rng.exponential(1, (3, 4)) * (rng.random((3, 4)) < 0.6), np.ones((5, 5)))
        image[3] = rng.normal(size=(H, W))
    images[2, 0, 3, 4] = -0.0
    images[3, 1, 14, 19] = np.nan
    schema = Schema(
        ImageField("X", tuple(Channel(name, "GeV") for name in ("a", "dz", "hcal", "d")), H, W),
        (ScalarField("y", "float32", ""),),
    )
    out = tmp_path_factory.mktemp("device") / "ds"
    with e2eio.write(out, schema) as writer:
        writer.append(images, {"y": np.arange(N, dtype=np.float32)})
    return out


def batches(path: Path, **options: Any) -> Any:
    return e2eio.Loader(path, batch_size=3, fields=("X", "y"), seed=3, shuffle=True, **options)


def view_of(wire: e2eio.Wire) -> WireView:
    return WireView.of(wire, torch.from_numpy(wire.buffer).to(DEVICE))


def words(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    whole = tensor.cpu().contiguous()
    return whole.view(torch.int32 if whole.element_size() == 4 else torch.int16).numpy()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kernel", ["torch", "triton"])
def test_fills_what_the_dense_form_delivers_and_clears_it_again(
    path: Path, kernel: str, dtype: Any, channels_last: bool
) -> None:
    scatter = scatter_of(kernel)
    with batches(path, dtype=dtype) as dense, batches(path, dtype=dtype, form="wire") as wires:
        for (expected, _), (wire, _) in zip(dense, wires, strict=True):
            view = view_of(wire)
            out = torch.zeros(view.shape, dtype=expected.dtype, device=DEVICE)
            if channels_last:
                out = out.to(memory_format=torch.channels_last)
            scatter(view, out, Moves())
            np.testing.assert_array_equal(words(out), words(expected))
            scatter(view, out, Moves(), clear=True)
            assert not words(out).any()


@pytest.mark.parametrize("kernel", ["torch", "triton"])
def test_moves_are_what_they_are_on_dense_arrays(path: Path, kernel: str) -> None:
    scatter = scatter_of(kernel)
    rng = np.random.default_rng(1)
    with batches(path) as dense, batches(path, form="wire") as wires:
        for (images, _), (wire, _) in zip(dense, wires, strict=True):
            n = len(images)
            flips, rolls = rng.random(n) < 0.5, rng.integers(-30, 30, n)
            sign = np.array([1, -1, 1, 1], np.float32)
            scale = np.array([0.01, 0.1, 25, 1], np.float32)
            expected = images.numpy().copy()
            for i in range(n):
                if flips[i]:
                    expected[i] = expected[i, :, ::-1] * sign[:, None, None]
                expected[i] = np.roll(expected[i], rolls[i], axis=-1)
            expected = (expected * scale[:, None, None]).astype(np.float16)
            out = torch.zeros(images.shape, dtype=torch.float16, device=DEVICE)
            moves = Moves(
                scale=torch.tensor(scale, device=DEVICE),
                flip_eta=torch.tensor(flips, device=DEVICE),
                flip_sign=torch.tensor(sign, device=DEVICE),
                roll_phi=torch.tensor(rolls, dtype=torch.int32, device=DEVICE),
            )
            scatter(view_of(wire), out, moves)
            np.testing.assert_array_equal(out.cpu().numpy(), expected)
            scatter(view_of(wire), out, moves, clear=True)
            assert not words(out).any()


def test_refuses_buffers_that_are_not_the_batch(path: Path) -> None:
    with batches(path, form="wire") as wires:
        wire = next(iter(wires))[0]
    with pytest.raises(e2eio.errors.ConfigError, match=r"torch.float32 .*expected torch.uint8"):
        WireView.of(wire, torch.zeros(3))
    wire.buffer[:4] = 9
    with pytest.raises(e2eio.errors.ConfigError, match="version"):
        WireView.of(wire)
    many = np.zeros(WIRE_HEADER.itemsize, np.uint8)
    header = many.view(WIRE_HEADER)
    header["version"], header["dtype"], header["n_bytes"] = 1, 102, (1 << 32) + 64
    header["payload_offset"] = 64
    with pytest.raises(e2eio.errors.ConfigError, match="lower the batch size"):
        WireView.of(e2eio.Wire(many), torch.empty((1 << 32) + 64, dtype=torch.uint8, device="meta"))
