"""Training does not notice who reads: e2eio's loaders and torch's give the same losses, bit for bit.

torch's DataLoader is fed with the arrays from which the dataset was written, so nothing of e2eio is on its side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.presets import find_preset
from e2eio.schema import ImageField, ScalarField, Schema
from e2eio.sim import ToyJets

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, TensorDataset  # noqa: E402 - torch may be missing

from e2eio import models  # noqa: E402

Floats = NDArray[np.float32]


class Case(NamedTuple):
    """What is trained on: the arrays, the dataset written of them, and how much of it."""

    images: Floats
    labels: Floats
    path: Path
    granularity: int
    batch_size: int

    @property
    def image(self) -> str:
        return e2eio.Dataset(self.path).schema.image.name

    def arrays(self) -> TensorDataset:
        return TensorDataset(torch.from_numpy(self.images), torch.from_numpy(self.labels))


def jets(n: int, resolution: int) -> tuple[Schema, Floats, Floats]:
    toys = ToyJets(resolution=resolution, seed=3)
    images, scalars = toys.chunk(0, n)
    schema = toys.schema
    return Schema(schema.image, (ScalarField("y", "float32", ""),)), images, scalars["y"]


def showers(n: int) -> tuple[Schema, Floats, Floats]:
    """Energies and times, some of them negative, on 32 x 32 crystals: no physics, but sparse as a shower is."""
    rng = np.random.default_rng(7)
    hit = rng.random((n, 1, 32, 32)) < 0.05
    values = np.concatenate(
        [rng.exponential(1, (n, 1, 32, 32)), rng.normal(0, 0.1, (n, 1, 32, 32))], 1
    )
    image = ImageField("X", find_preset("electron-photon").channels, height=32, width=32)
    labels = (np.arange(n) % 2).astype(np.float32)
    schema = Schema(image, (ScalarField("y", "float32", ""),))
    return schema, np.where(hit, values, 0).astype(np.float32), labels


# Four or six steps, the last of them of a smaller batch, or one; the maker of samples, granularity, batch size.
CASES: dict[str, tuple[Callable[[], tuple[Schema, Floats, Floats]], int, int]] = {
    "top x1": (lambda: jets(27, resolution=1), 1, 8),
    "top x3": (lambda: jets(4, resolution=3), 3, 4),
    "electron/photon": (lambda: showers(90), 1, 16),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    make, granularity, batch_size = CASES[request.param]
    schema, images, labels = make()
    path = tmp_path_factory.mktemp("equivalence") / "ds"
    # One order for all time: four samples drawn anew would be in theirs every now and then.
    with e2eio.write(path, schema, dataset_id=b"the equivalence!") as writer:
        writer.append(images, {"y": labels})
    return Case(images, labels, path, granularity, batch_size)


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    n_threads, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)
    torch.set_num_threads(n_threads)


def train(
    case: Case, batches: Iterable[Any], n_epochs: int = 1
) -> tuple[list[float], dict[str, Any]]:
    """Losses step by step, and the weights at the end."""
    torch.manual_seed(1)
    shape: Any = case.images.shape[2:]
    model = models.resnet15(case.images.shape[1], granularity=case.granularity, shape=shape)
    optimizer = models.optimizer(model)
    rates = models.schedule(optimizer, halve_every=1)
    losses = []
    for _ in range(n_epochs):
        for batch in batches:
            # Of e2eio.DataLoader they are dicts.
            images, labels = batch.values() if isinstance(batch, dict) else batch
            loss = models.loss(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        rates.step()
    return losses, model.state_dict()


def check_same(found: tuple[list[float], Any], expected: tuple[list[float], Any]) -> None:
    assert found[0] == expected[0]
    assert np.isfinite(found[0]).all()
    assert found[1].keys() == expected[1].keys()
    for name, weights in found[1].items():
        assert torch.equal(weights, expected[1][name]), name


@pytest.mark.parametrize("shuffle", [False, True])
def test_loader_gives_the_losses_of_torchs(case: Case, shuffle: bool) -> None:
    options: dict[str, Any] = {"batch_size": case.batch_size, "shuffle": shuffle, "seed": 9}
    loader = e2eio.Loader(case.path, fields=(case.image, "y"), **options)
    numbered = e2eio.Loader(case.path, fields=(case.image, "sample_id"), **options)
    order = [int(number) for _, numbers in numbered for number in numbers]
    assert sorted(order) == list(range(len(case.labels)))
    assert (order == sorted(order)) is not shuffle
    torchs = DataLoader(case.arrays(), batch_size=case.batch_size, sampler=order)
    expected = train(case, torchs)
    assert len(expected[0]) == -(-len(order) // case.batch_size)
    check_same(train(case, loader), expected)


def test_data_loader_gives_the_losses_of_torchs(case: Case) -> None:
    options: dict[str, Any] = {"batch_size": case.batch_size, "shuffle": True}
    ours, theirs = (
        {**options, "generator": torch.Generator().manual_seed(2)} for _ in ("e2eio", "torch")
    )
    dataset = e2eio.Dataset(case.path)
    expected = train(case, DataLoader(case.arrays(), **theirs), n_epochs=2)
    loader = e2eio.DataLoader(dataset, num_workers=2, **ours)
    check_same(train(case, loader, n_epochs=2), expected)


def test_one_pixel_more_is_noticed(case: Case) -> None:
    """That the losses above are equal is no matter of course."""
    images = case.images.copy()
    images[0, 0, 16, 16] += 1
    first, second = (
        train(which, DataLoader(which.arrays(), batch_size=case.batch_size))
        for which in (case, case._replace(images=images))
    )
    assert first[0][0] != second[0][0]
