"""What a graph of DALI delivers: the loader's batches, and in whose memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import e2eio
from e2eio import transforms as t
from e2eio.errors import ConfigError
from e2eio.schema import Channel, ImageField, Schema

pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_toys import BATCH, N_BATCHES, Images, N, batches_of, same_batches, toy_images, write_toy
from e2eio import dali

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def truth() -> Images:
    return toy_images()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("dali") / "ds")


@pytest.mark.parametrize("pass_by", [True, False])
@pytest.mark.parametrize("fields", [None, ("X", "y"), ("sample_id", "X"), ("X",)])
def test_without_augmentation_batches_are_the_loaders_bit_for_bit(
    path: Path, fields: Any, pass_by: bool
) -> None:
    options: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "seed": 7, "fields": fields}
    batches = dali.iterator(path, pass_by=pass_by, **options)
    loader = e2eio.Loader(path, **options)
    assert len(batches) == len(loader) == N_BATCHES
    for _ in range(3):  # epochs
        found, expected = batches_of(batches), batches_of(loader)
        assert type(found[0]) is type(expected[0])
        assert same_batches(found, expected)


def test_a_graph_that_does_nothing_takes_one_thread(path: Path) -> None:
    assert dali.pipeline(path, batch_size=BATCH).num_threads == 1
    assert dali.pipeline(path, batch_size=BATCH, augment=(t.FlipEta(0.5),)).num_threads == 2
    assert dali.pipeline(path, batch_size=BATCH, num_threads=3).num_threads == 3
    with pytest.raises(ConfigError, match="num_threads"):
        dali.pipeline(path, batch_size=BATCH, num_threads=0)


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_dtype_and_layout_without_a_graph_are_decodes(path: Path, layout: Any) -> None:
    options: dict[str, Any] = {"batch_size": BATCH, "dtype": "float16", "fields": ("X",)}
    batches = dali.iterator(path, layout=layout, **options)
    options["layout"] = f"N{layout}"
    assert same_batches(batches_of(batches), batches_of(e2eio.Loader(path, **options)))


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_dtype_and_layout_of_a_graph(path: Path, truth: Images, layout: Any) -> None:
    """On the CPU DALI rounds ties away from zero: half a unit in the last place, but not always to even."""
    batches = dali.iterator(
        path, batch_size=N, dtype="float16", layout=layout, fields=("X",), augment=(lambda x, _: x,)
    )
    ((found,),) = batches
    assert found.dtype == torch.float16
    images = found.numpy() if layout == "CHW" else found.numpy().transpose(0, 3, 1, 2)
    nearest = truth.astype(np.float16)
    error = np.abs(images.astype(np.float32) - truth)
    assert (error == np.abs(nearest.astype(np.float32) - truth)).all()
    assert (images != nearest).mean() < 1e-3


@pytest.mark.parametrize("name", t.PRESETS)
def test_presets_are_those_of_decode(path: Path, name: str) -> None:
    batches = dali.iterator(path, batch_size=N, fields=("X",), normalise=name)
    loader = e2eio.Loader(path, batch_size=N, fields=("X",), transforms=t.preset(name))
    ((found,),), ((expected,),) = list(batches), list(loader)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
    "transform",
    [
        t.Scale({"ecal": -2.0}),
        t.Offset(0.5),
        t.Divide({"hcal": 3.0, "dz": -1.0}),
        t.Clip(-0.5, 1.0),
        t.Log1p(channels=("ecal", "hcal")),
        t.Sqrt(channels=("track_pt",)),
        t.Asinh({"d0": 0.1, "dz": 0.2}),
        t.MinMax(statistics="all"),
        t.ZeroSuppress({"ecal": 5.0}, "above_to_value", 2.0),
        t.DivideBySample("sum", 3.0, channels=("hcal",)),
        t.Pad(50, 44),
        t.Crop(31, 20),
        t.RollPhi(amount=7),
        t.RollPhi(amount=-15),
        t.Rot90(1),
        t.Rot90(2),
        t.Rot90(3),
        t.FlipEta(1.0),
        t.FlipEta(1.0, negate=("d0", "ecal")),
        t.DeadCells(
            cells={"hcal": [(0, 0), (7, 3)], "ecal": [(39, 1)]}, cell={"hcal": 5, "ecal": 1}
        ),
    ],
    ids=repr,
)
def test_fixed_transforms_are_those_of_decode(path: Path, transform: t.Transform) -> None:
    batches = dali.iterator(path, batch_size=N, fields=("X",), augment=(transform,))
    loader = e2eio.Loader(path, batch_size=N, fields=("X",), transforms=(transform,))
    ((found,),), ((expected,),) = list(batches), list(loader)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=5e-7, atol=0)


def test_values_that_are_no_numbers_are_treated_as_in_decode(tmp_path: Path) -> None:
    x = np.array([[np.nan, np.inf, -np.inf, -0.0, 1e-40, -3.0, 0.5, 2.0]], np.float32)
    images = np.broadcast_to(x, (4, 2, 1, 8)).copy()
    schema = Schema(ImageField("X", (Channel("a", "GeV"), Channel("b", "GeV")), 1, 8))
    with e2eio.write(tmp_path / "ds", schema) as writer:
        writer.append(images)
    for chain in (
        (t.ZeroSuppress(1.0),),
        (t.ZeroSuppress(1.0, "abs_below"), t.Clip(-2.0, 5.0)),
        (t.ZeroSuppress(1.0, "above_to_value", 7.0), t.RollPhi(amount=3)),
        (t.EnergySmear(constant=1e-10), t.ChannelDropout(1.0, channels=("b",))),
    ):
        ((found,),) = dali.iterator(tmp_path / "ds", batch_size=4, fields=("X",), augment=chain)
        ((expected,),) = e2eio.Loader(
            tmp_path / "ds", batch_size=4, fields=("X",), transforms=chain
        )
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_images_that_pass_by_are_the_rings_memory(path: Path) -> None:
    batches = dali.iterator(path, batch_size=BATCH)
    first = next(iter(batches))
    first["X"] += 1
    with pytest.warns(UserWarning, match="changed in place"):
        del first
    list(batches)


def test_images_of_a_given_torch_loader_pass_by(path: Path) -> None:
    loader = e2eio.Loader(path, batch_size=BATCH, shuffle=True, threads=1)
    batches = dali.iterator(loader)
    expected = batches_of(e2eio.Loader(path, batch_size=BATCH, shuffle=True))
    assert same_batches(batches_of(batches), expected)
    first = next(iter(batches))
    first["X"] += 1
    with pytest.warns(UserWarning, match="changed in place"):
        del first
    list(batches)


@pytest.mark.parametrize(
    ("framework", "dtype", "layout"),
    [("numpy", "float32", "CHW"), ("torch", "float16", "CHW"), ("torch", "float32", "HWC")],
)
def test_images_of_a_given_loader_go_through_the_graph_for_what_it_has_to_do(
    path: Path, framework: Any, dtype: Any, layout: Any
) -> None:
    batches = dali.iterator(
        e2eio.Loader(path, batch_size=BATCH, framework=framework), dtype=dtype, layout=layout
    )
    options: dict[str, Any] = {"dtype": dtype, "layout": f"N{layout}"}
    expected = e2eio.Loader(path, batch_size=BATCH, **options)
    for found, wanted in zip(batches, expected, strict=True):
        assert isinstance(found["X"], torch.Tensor)
        assert found["X"].dtype == wanted["X"].dtype
        assert torch.allclose(found["X"].float(), wanted["X"].float(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_batches_are_held_for_as_long_as_dali_may_read_them(path: Path, depth: int) -> None:
    loader = e2eio.Loader(path, batch_size=2, framework="numpy", prefetch=1)
    pipe = dali.pipeline(loader, prefetch_queue_depth=depth)
    pipe.build()
    pipe.schedule_run()  # DALI asks for as many as its queue is deep
    assert loader.stats()["slots_lent"] >= depth
    for _ in range(10):
        pipe.outputs()
        pipe.schedule_run()
        assert loader.stats()["slots_lent"] >= depth


def test_no_stale_pixels_while_dali_is_behind(path: Path) -> None:
    """The graph reads the ring's memory again after a long detour, while the ring fills what it got back."""

    def late(images: Any, shape: Any) -> Any:
        detour = images
        for _ in range(20):
            detour = dali.rot90(detour, shape, turns=1)
        return images + detour * 0.0

    loader = e2eio.Loader(path, batch_size=4, framework="numpy", prefetch=1)
    plain = e2eio.Loader(path, batch_size=4)
    batches = dali.iterator(loader, augment=(late,), prefetch_queue_depth=4)
    for _ in range(3):
        assert same_batches(batches_of(batches), batches_of(plain))


@pytest.mark.parametrize("pass_by", [True, False])
def test_delivered_batches_stay_what_they_are(path: Path, pass_by: bool) -> None:
    batches = dali.iterator(path, batch_size=BATCH, fields=("X", "y"), pass_by=pass_by)
    held = list(batches)  # the ring's memory or DALI's, not copied
    for _ in range(3):
        list(batches)
    assert same_batches(held, batches_of(e2eio.Loader(path, batch_size=BATCH, fields=("X", "y"))))


def test_the_graph_of_the_documentation_runs(path: Path, capsys: Any) -> None:
    text = (ROOT / "docs" / "dali.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"## A graph of your own\n\n```python\n(.*?)```", text, re.DOTALL)
    for shown, here in (
        ("data/top", str(path)),
        ("batch_size=64", f"batch_size={BATCH}"),
        ("X_jets", "X"),
    ):
        assert shown in code
        code = code.replace(shown, here)
    found: dict[str, Any] = {}
    exec(compile(code, "docs/dali.md", "exec"), found)
    assert capsys.readouterr().out.count("tensor(") == N_BATCHES
    batches = found["batches"]
    for batch in batches:
        np.testing.assert_allclose(
            batch["energy"].numpy(), batch["X"].sum((2, 3)).numpy(), rtol=1e-4, atol=1e-3
        )
    assert batches.checkpoints()
