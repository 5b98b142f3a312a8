from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from e2eio.errors import ConfigError
from e2eio.sim import ToyJets, toy_jets

SHARED = Path(__file__).resolve().parents[3] / "shared"
TRUTH = SHARED / "data" / "published" / "truth_x1.npz"


def test_same_seed_gives_same_bits() -> None:
    first, again = (ToyJets(seed=3).chunk(5, 9) for _ in range(2))
    assert first[0].tobytes() == again[0].tobytes()
    assert all(first[1][name].tobytes() == again[1][name].tobytes() for name in ("y", "m0", "pt"))


def test_other_seed_gives_other_jets() -> None:
    assert not np.array_equal(ToyJets(seed=0).chunk(0, 1)[0], ToyJets(seed=1).chunk(0, 1)[0])


@pytest.mark.parametrize("resolution", [1, 3])
def test_jet_does_not_depend_on_its_chunk(resolution: int) -> None:
    jets = ToyJets(resolution=resolution, seed=11)
    images, scalars = jets.chunk(0, 6)
    for k in (4, 0, 5):
        image, scalar = jets.chunk(k, k + 1)
        assert np.array_equal(image[0], images[k])
        assert all(scalar[name][0] == scalars[name][k] for name in scalars)


def test_far_jets_and_largest_seed_exist() -> None:
    images, _ = ToyJets(seed=2**64 - 1).chunk(2**64 - 1, 2**64)
    assert images.shape == (1, 8, 125, 125)
    assert images.any()


def test_shapes_dtypes_and_schema_agree() -> None:
    for resolution in (1, 3):
        jets = ToyJets(resolution=resolution)
        images, scalars = jets.chunk(0, 2)
        assert images.shape[1:] == jets.schema.image.shape
        assert images.dtype == np.float32
        assert jets.schema.field_names == ("X_jets", "y", "m0", "pt")
        assert {name: value.dtype.name for name, value in scalars.items()} == {
            field.name: field.dtype for field in jets.schema.scalars
        }


def test_both_resolutions_are_the_same_jets() -> None:
    coarse, scalars = ToyJets(seed=2).chunk(0, 8)
    fine, fine_scalars = ToyJets(seed=2, resolution=3).chunk(0, 8)
    assert all(np.array_equal(scalars[name], fine_scalars[name]) for name in scalars)
    merged = fine.reshape(8, 8, 125, 3, 125, 3).sum((3, 5), dtype=np.float64)
    summed = [0, 3, 4, 5, 6, 7]  # d0 and dz are not sums
    np.testing.assert_allclose(merged[:, summed], coarse[:, summed], rtol=1e-5)
    hits = (coarse[:, 0] != 0).sum((1, 2))
    assert (hits <= (fine[:, 0] != 0).sum((1, 2))).all()
    assert np.array_equal(fine[:, 3], np.repeat(np.repeat(fine[:, 3, ::3, ::3], 3, 1), 3, 2))
    assert np.array_equal(fine[:, 4], np.repeat(np.repeat(fine[:, 4, ::15, ::15], 15, 1), 15, 2))


def test_channels_look_like_what_they_are_called() -> None:
    images, scalars = ToyJets().chunk(0, 64)
    support = images[:, 0] != 0
    assert np.array_equal(support, images[:, 1] != 0)
    assert np.array_equal(support, images[:, 2] != 0)
    assert images[:, 0][support].min() >= 0.5
    assert images[:, 3][images[:, 3] != 0].min() >= 0.08
    towers = images[:, 4, ::5, ::5]
    assert np.array_equal(images[:, 4], np.repeat(np.repeat(towers, 5, 1), 5, 2))
    assert np.array_equal(images[:, 5:], np.round(images[:, 5:]))
    assert images[:, 1:3].min() < 0 < images[:, 1:3].max()
    assert not np.signbit(images[images == 0]).any()
    assert np.isfinite(images).all()
    assert set(np.unique(scalars["y"])) == {0, 1}
    assert ((scalars["pt"] >= 400) & (scalars["pt"] <= 1000)).all()
    assert (scalars["m0"] > 0).all()


def test_tops_are_wider_and_heavier_than_qcd() -> None:
    images, scalars = ToyJets().chunk(0, 128)
    row, column = np.mgrid[:125, :125]
    core = np.hypot(row - 62, column - 62) < 15
    share = images[:, 3][:, core].sum(1) / images[:, 3].sum((1, 2))
    top = scalars["y"] == 1
    assert share[top].mean() < share[~top].mean() - 0.1
    assert scalars["m0"][top].mean() > scalars["m0"][~top].mean() + 30


def test_statistics_are_those_of_the_published_layout() -> None:
    if not TRUTH.exists():
        pytest.skip("the data in the published layout is not beside the repository")
    truth = np.load(TRUTH)["X"]
    images, _ = ToyJets().chunk(0, 128)
    filled, expected = ((x != 0).mean((0, 2, 3)) for x in (images, truth))
    np.testing.assert_allclose(filled, expected, rtol=0.2)
    both = [[x[:, c][x[:, c] != 0] for c in (0, 3, 4)] for x in (images, truth)]
    for toy, real in zip(*both, strict=True):
        q = [0.1, 0.25, 0.5, 0.75, 0.9]
        np.testing.assert_allclose(np.quantile(toy, q), np.quantile(real, q), rtol=0.4)
    energies, expected = (x[:, [0, 3, 4]].sum((2, 3)).mean(0) for x in (images, truth))
    np.testing.assert_allclose(energies, expected, rtol=0.2)


def test_toy_jets_cuts_the_series_into_chunks() -> None:
    chunks = list(toy_jets(7, seed=4, chunk_size=3))
    assert [len(images) for images, _ in chunks] == [3, 3, 1]
    whole, _ = ToyJets(seed=4).chunk(0, 7)
    assert np.array_equal(np.concatenate([images for images, _ in chunks]), whole)
    assert list(toy_jets(0)) == []


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="found 2, expected 1 or 3"):
        ToyJets(resolution=2)
    with pytest.raises(ConfigError, match="seed"):
        ToyJets(seed=-1)
    with pytest.raises(ConfigError, match="range of jets"):
        ToyJets().chunk(3, 2)
    with pytest.raises(ConfigError, match="chunk_size"):
        toy_jets(3, chunk_size=0)
