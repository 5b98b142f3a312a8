"""The benchmarks' network: its size, what goes in and comes out, and that it learns."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import e2eio
import made_dataset
from e2eio.errors import ConfigError
from e2eio.sim import ToyJets

torch = pytest.importorskip("torch")

from e2eio import models  # noqa: E402 - torch may be missing

ISOLATED = Path(__file__).parent / "isolated"
PAGE = Path(__file__).parents[2] / "docs" / "models.md"

# (channels, granularity, shape): electron/photon, without and with time; quark/gluon; the talk's layers of top jets; tau;
# whole events.
CRYSTALS = (32, 32)
IMAGES = [
    *((channels, 1, CRYSTALS) for channels in (1, 2, 3, 8, 13)),
    *((channels, 1, None) for channels in (1, 3, 5, 8, 13)),
    *((channels, 3, None) for channels in (1, 3, 5, 8, 13)),
    (8, 1, (280, 360)),
    (1, 5, None),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(5)
    yield
    torch.set_num_threads(before)


def n_parameters(module: Any) -> int:
    return sum(weights.numel() for weights in module.parameters())


def random_images(n: int, model: models.ResNet15) -> Any:
    return torch.randn(n, model.channels, *model.shape)


def test_parameters_are_as_many_as_published() -> None:
    x1, x3 = (models.resnet15(channels=8, granularity=granularity) for granularity in (1, 3))
    assert n_parameters(x1.conv0) == 6_288
    assert n_parameters(x3.conv0) == 56_464
    assert round(n_parameters(x1), -3) == 94_000
    assert n_parameters(x1) == 94_226
    # Only the first convolution grows.
    assert n_parameters(x3) - n_parameters(x1) == 56_464 - 6_288
    assert n_parameters(models.resnet15(granularity=5)) - n_parameters(x1) == 8 * 16 * (35**2 - 49)


def test_there_are_fifteen_convolutions_and_one_for_a_shortcut() -> None:
    model = models.resnet15()
    kernels = [m.kernel_size for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sorted(kernels) == [(1, 1), *[(3, 3)] * 14, (7, 7)]
    assert not list(model.buffers()), "there is no batch normalisation"


@pytest.mark.parametrize(("channels", "granularity", "shape"), IMAGES)
@pytest.mark.parametrize("outputs", [1, 2])
def test_logits_of_every_kind_of_image(
    channels: int, granularity: int, shape: tuple[int, int] | None, outputs: int
) -> None:
    model = models.resnet15(channels, granularity=granularity, shape=shape, outputs=outputs)
    images = random_images(2, model)
    if shape is None:
        assert images.shape[2:] == (125 * granularity,) * 2
    logits = model(images)
    assert logits.shape == (2, outputs)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


def test_the_body_is_the_same_at_every_resolution() -> None:
    sizes = [
        {name: weights.shape for name, weights in models.resnet15(granularity=g).named_parameters()}
        for g in (1, 3, 5)
    ]
    assert [size.pop("conv0.weight")[2:] for size in sizes] == [(7, 7), (21, 21), (35, 35)]
    assert sizes[0] == sizes[1] == sizes[2]


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("shape", [None, CRYSTALS])
def test_gradients_reach_every_parameter(outputs: int, shape: tuple[int, int] | None) -> None:
    model = models.resnet15(3, shape=shape, outputs=outputs)
    models.loss(model(random_images(8, model)), torch.arange(8) % 2).backward()
    gradients: dict[str, Any] = {name: p.grad for name, p in model.named_parameters()}
    assert [name for name, grad in gradients.items() if grad is None or not grad.any()] == []


def test_weights_begin_as_in_the_published_training() -> None:
    model = models.resnet15()
    for name, weights in model.state_dict().items():
        if name.endswith("bias"):
            assert not weights.any(), name
            continue
        n_out, n_in, *kernel = weights.shape
        bound = math.sqrt(6 / ((n_in + n_out) * math.prod(kernel)))
        largest = float(weights.abs().max())
        assert 0.97 * bound < largest <= bound * (1 + 1e-6), name
        # Of a uniform distribution, within five of its errors.
        spread, error = float(weights.std()), bound / math.sqrt(3) / math.sqrt(weights.numel())
        assert abs(spread - bound / math.sqrt(3)) < 5 * error, name


def test_a_seed_settles_the_weights() -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(models.resnet15(1, shape=CRYSTALS).state_dict()["conv0.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(("granularity", "least"), [(1, 11), (3, 31), (5, 51)])
def test_images_may_be_just_large_enough(granularity: int, least: int) -> None:
    model = models.resnet15(1, granularity=granularity, shape=(least, least))
    assert model(random_images(1, model)).shape == (1, 2)
    for shape in ((least - 1, least), (least, least - 1)):
        message = rf"granularity {granularity}: found shape \(.*expected at least {least} x {least}"
        with pytest.raises(ConfigError, match=message):
            models.resnet15(1, granularity=granularity, shape=shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "channels is 0; expected an integer of at least 1"),
        ({"channels": 2.5}, "channels is 2.5"),
        ({"channels": True}, "channels is True"),
        ({"granularity": 2}, "unknown granularity: found 2, expected 1, 3 or 5"),
        ({"granularity": 0}, "unknown granularity: found 0"),
        ({"granularity": "x3"}, "unknown granularity: found 'x3'"),
        ({"outputs": 3}, "bad 'outputs': found 3, expected 1 or 2"),
        ({"outputs": None}, "bad 'outputs': found None"),
        ({"shape": 32}, r"bad 'shape': found 32, expected \(height, width\)"),
        ({"shape": (32,)}, "bad 'shape'"),
        ({"shape": (32, 32.5)}, "bad 'shape'"),
        ({"shape": (8, 32, 32)}, "bad 'shape'"),
        ({"shape": (-32, 32)}, "too small"),
    ],
)
def test_impossible_networks_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        models.resnet15(**arguments)


@pytest.mark.parametrize("found", [(2, 3, 32, 32), (2, 8, 31, 32), (2, 32, 32, 8), (8, 32, 32)])
def test_images_that_do_not_fit_are_refused(found: tuple[int, ...]) -> None:
    model = models.resnet15(8, shape=CRYSTALS)
    with pytest.raises(ConfigError, match=r"found \[.*expected \[n, 8, 32, 32\]"):
        model(torch.zeros(found))


@pytest.mark.parametrize(("channels", "granularity", "shape"), [(8, 1, None), (2, 1, CRYSTALS)])
def test_exported_networks_give_the_same_logits(
    channels: int, granularity: int, shape: tuple[int, int] | None
) -> None:
    model = models.resnet15(channels, granularity=granularity, shape=shape)
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        model, (random_images(4, model),), dynamic_shapes={"images": {0: batch}}
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for n in (2, 7):
        images = random_images(n, model)
        assert torch.equal(loaded(images), model(images))


@pytest.mark.parametrize("granularity", [1, 3])
def test_channels_last_gives_equal_logits(granularity: int) -> None:
    model = models.resnet15(granularity=granularity)
    images = random_images(3, model)
    expected = model(images)
    last: Any = {"memory_format": torch.channels_last}
    torch.testing.assert_close(model(images.to(**last)), expected)
    torch.testing.assert_close(model.to(**last)(images), expected)


def test_loss_is_the_binary_cross_entropy() -> None:
    logits, labels = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    p = logits.sigmoid()
    right = torch.where(labels == 1, p[:, 1], 1 - p[:, 1]).log()
    other = torch.where(labels == 0, p[:, 0], 1 - p[:, 0]).log()
    for dtype in (torch.int64, torch.float32, torch.bool, torch.uint8):
        torch.testing.assert_close(
            models.loss(logits, labels.to(dtype)), -(right + other).mean() / 2
        )
        torch.testing.assert_close(models.loss(logits[:, 1:], labels.to(dtype)), -right.mean())
    torch.testing.assert_close(models.scores(logits), p[:, 1])
    torch.testing.assert_close(models.scores(logits[:, :1]), p[:, 0])
    assert models.loss(logits.bfloat16(), labels).dtype == torch.float32
    assert models.loss(logits.double(), labels).dtype == torch.float64


@pytest.mark.parametrize(
    ("logits", "labels"), [((4, 3), 4), ((4,), 4), ((4, 1), 3), ((4, 2), (4, 1))]
)
def test_loss_refuses_shapes_that_would_broadcast(logits: Any, labels: Any) -> None:
    with pytest.raises(ConfigError, match=r"bad shapes.*expected \[n, 1\] or \[n, 2\] and \[n\]"):
        models.loss(torch.zeros(logits), torch.zeros(labels))


def test_training_on_toy_jets_lowers_the_loss(tmp_path: Path) -> None:
    toys = ToyJets(seed=11)
    with e2eio.write(tmp_path / "toy", toys.schema) as writer:
        writer.append(*toys.chunk(0, 32))
    scale = e2eio.transforms.Asinh()
    loader = e2eio.Loader(
        tmp_path / "toy", batch_size=16, shuffle=True, fields=("X_jets", "y"), transforms=[scale]
    )
    model = models.resnet15()
    optimizer = models.optimizer(model)
    rates = models.schedule(optimizer)
    losses = []
    for _ in range(12):
        total = 0.0
        for images, labels in loader:
            loss = models.loss(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / len(loader))
        rates.step()
    assert sum(losses[-2:]) / 2 < 0.8 * losses[0], losses


def test_documented_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys = ToyJets(seed=2)
    with e2eio.write(tmp_path / "data" / "top", toys.schema) as writer:
        writer.append(*toys.chunk(0, 4))
    monkeypatch.chdir(tmp_path)
    (program,) = made_dataset.documented_programs(PAGE, "models")
    names: dict[str, Any] = {}
    exec(compile(program, PAGE, "exec"), names)
    assert names["probabilities"].shape == (4,)
    assert names["rates"].last_epoch == 2


@pytest.mark.skipif(find_spec("keras") is None, reason="keras is not installed")
def test_equal_weights_give_the_logits_of_the_network_in_keras() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            ISOLATED / "keras_checks.py",
        ],
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
            "KERAS_BACKEND": "tensorflow",
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_missing_torch_is_named() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import e2eio\n"
        "try:\n"
        "    e2eio.models\n"
        "except e2eio.errors.MissingDependencyError as error:\n"
        "    assert 'e2eio[torch]' in str(error), error\n"
        "else:\n"
        "    raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
