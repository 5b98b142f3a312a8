"""Batches in half precision: what rounding does to pixels, and to a network that is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import e2eio
from e2eio.sim import ToyJets, toy_jets

N, BATCH, EPOCHS, SEED = 1500, 50, 3, 11


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("precision") / "ds"
    with e2eio.write(out, ToyJets().schema) as writer:
        for images, scalars in toy_jets(N, seed=SEED):
            writer.append(images, scalars)
    return out


def network() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(8, 8, 5, stride=5), nn.ReLU()]
    for n_in in (8, 32):
        layers += [nn.Conv2d(n_in, 32, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 5 * 5, 1))


def area_under_roc(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the area and its error: Hanley and McNeil, Radiology 143 (1982) 29, equations 1 and 2."""
    signal, background = scores[labels > 0.5], scores[labels < 0.5].sort().values
    below, not_above = (torch.searchsorted(background, signal, right=r) for r in (False, True))
    a = float((below + not_above).double().mean() / (2 * len(background)))
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    n_s, n_b = len(signal), len(background)
    variance = a * (1 - a) + (n_s - 1) * (q1 - a * a) + (n_b - 1) * (q2 - a * a)
    return a, (variance / (n_s * n_b)) ** 0.5


def trained(path: Path, dtype: Any, *, autocast: bool = False) -> tuple[float, float]:
    """Train with batches of a dtype, and return the area under ROC of a third that was held out, and its error."""
    held_out = np.arange(N) % 3 == 0
    common: dict[str, Any] = {"batch_size": BATCH, "fields": ("X_jets", "y"), "dtype": dtype}
    common["transforms"] = [e2eio.transforms.Asinh()]
    torch.manual_seed(SEED)
    model = network()
    optimizer = torch.optim.Adam(model.parameters())

    def scores_of(images: Tensor) -> Tensor:
        assert images.dtype == getattr(torch, dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            scores: Tensor = model(images if autocast else images.float())
            assert scores.dtype == (torch.bfloat16 if autocast else torch.float32)
        return scores[:, 0].float()

    excluded = np.flatnonzero(held_out)
    with e2eio.Loader(path, exclude=excluded, shuffle=True, seed=SEED, **common) as loader:
        for _ in range(EPOCHS):
            for images, labels in loader:
                loss = binary_cross_entropy_with_logits(scores_of(images), labels.float())
                optimizer.zero_grad()
                loss.backward()  # without GradScaler
                optimizer.step()
    with (
        torch.inference_mode(),
        e2eio.Loader(path, exclude=np.flatnonzero(~held_out), **common) as loader,
    ):
        pairs = [(scores_of(images), labels) for images, labels in loader]
    scores, labels = (torch.cat(column) for column in zip(*pairs, strict=True))
    assert len(scores) == N // 3
    return area_under_roc(scores, labels)


def test_training_in_half_precision_is_as_good(path: Path) -> None:
    """The same jets, order and first weights: areas agree within the error of one.

    Held out are the same jets for all, so that the error of the difference is smaller than that of an area.
    """
    area, error = trained(path, "float32")
    assert area > 0.9
    assert error < 0.02
    in_bfloat16, _ = trained(path, "bfloat16", autocast=True)
    from_float16, _ = trained(path, "float16")
    assert abs(in_bfloat16 - area) < error
    assert abs(from_float16 - area) < error


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_rounding_moves_a_pixel_by_half_a_unit_at_most(path: Path, dtype: Any, bits: int) -> None:
    options: dict[str, Any] = {"batch_size": 64, "fields": ("X_jets",), "channels": (0, 1, 2, 3, 4)}
    exact = next(iter(e2eio.Loader(path, **options)))[0].double()
    rounded = next(iter(e2eio.Loader(path, dtype=dtype, **options)))[0]
    assert rounded.dtype == getattr(torch, dtype)
    normal = exact.abs() >= torch.finfo(rounded.dtype).tiny
    errors = ((rounded.double() - exact) / exact).abs()[normal]
    assert 0.9 * 2.0**-bits < float(errors.max()) <= 2.0**-bits
    # What is smaller than float16's least normal number, 6.1e-5, moves by half of its least step.
    assert float((rounded.double() - exact).abs()[~normal].max()) <= 2.0**-25


def largest(images: NDArray[np.float32]) -> float:
    return float(np.abs(images).max())


def test_pixels_are_far_from_the_largest_float16(path: Path) -> None:
    loader = e2eio.Loader(path, batch_size=BATCH, fields=("X_jets",), framework="numpy")
    assert max(largest(images) for (images,) in loader) < 65504 / 50


@pytest.mark.parametrize("truth", ["truth_x1", "truth_x3"])
def test_published_pixels_are_far_from_the_largest_float16(
    truth: str, request: pytest.FixtureRequest
) -> None:
    assert largest(request.getfixturevalue(truth)["X"]) < 65504 / 50


def test_what_does_not_fit_becomes_infinite(tmp_path: Path) -> None:
    """As numpy and torch cast: a channel in MeV needs a scale, or bfloat16."""
    channels = (e2eio.schema.Channel("ecal", "MeV"),)
    image = e2eio.schema.ImageField("X", channels, 8, 8)
    energies = np.zeros((1, 1, 8, 8), np.float32)
    energies[0, 0, 2, :3] = 65504, 65520, -1e6
    with e2eio.write(tmp_path / "ds", e2eio.schema.Schema(image, ())) as writer:
        writer.append(energies)
    for dtype, scale, want in (
        ("float16", (), [65504, np.inf, -np.inf]),
        ("float16", (e2eio.transforms.Scale(1e-3),), [65.5, 65.5, -1000]),
        ("bfloat16", (), [65536, 65536, -999424]),
    ):
        options: dict[str, Any] = {"dtype": dtype, "transforms": scale}
        ((images,),) = e2eio.Loader(tmp_path / "ds", batch_size=1, fields=("X",), **options)
        assert images[0, 0, 2, :3].tolist() == want
