"""Augmentations in the graph of DALI, against numpy."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_toys import SHAPE, H, Images, N, W, apply, bits, graph, graphs, toy_images
from e2eio import dali


@pytest.fixture(scope="module")
def truth() -> Images:
    return toy_images()


def test_flip_eta_mirrors_some_samples_and_turns_the_sign_of_odd_channels(truth: Images) -> None:
    found = apply(truth, dali.flip_eta, p=0.5, odd=[2])
    mirrored = truth[:, :, ::-1].copy()
    mirrored[:, 2] = np.where(mirrored[:, 2] == 0, 0, -mirrored[:, 2])
    flipped = [np.array_equal(bits(found[i]), bits(mirrored[i])) for i in range(N)]
    kept = [np.array_equal(bits(found[i]), bits(truth[i])) for i in range(N)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 10 < sum(flipped) < 40


def shifts_of(found: Images, truth: Images) -> list[int]:
    return [
        next(s for s in range(-W // 2, W // 2 + 1) if np.array_equal(np.roll(x, s, axis=2), y))
        for x, y in zip(truth, found, strict=True)
    ]


def test_roll_phi_is_periodic(truth: Images) -> None:
    shifts = shifts_of(apply(truth, dali.roll_phi), truth)
    assert len(set(shifts)) > 15
    assert min(shifts) < -10 < 10 < max(shifts)


def test_roll_phi_keeps_to_its_bounds_and_steps(truth: Images) -> None:
    shifts = shifts_of(apply(truth, dali.roll_phi, max_shift=12, step=5, p=0.8), truth)
    assert set(shifts) == {-10, -5, 0, 5, 10}


def test_rot90_turns_as_numpy_does(truth: Images) -> None:
    found = apply(truth, dali.rot90)
    turns = [
        next(k for k in range(4) if np.array_equal(np.rot90(x, k, axes=(1, 2)), y))
        for x, y in zip(truth, found, strict=True)
    ]
    assert set(turns) == {0, 1, 2, 3}


def test_translate_moves_and_lets_zeros_in(truth: Images) -> None:
    found = apply(truth, dali.translate, max_shift=(3, 5))
    places = []
    for x, y in zip(truth, found, strict=True):
        padded = np.pad(x, ((0, 0), (3, 3), (5, 5)))
        places.append(
            next(
                (a, b)
                for a in range(7)
                for b in range(11)
                if np.array_equal(padded[:, a : a + H, b : b + W], y)
            )
        )
    assert {a for a, _ in places} == set(range(7))
    assert len({b for _, b in places}) > 8
    assert len({a - b for a, b in places}) > 8  # one does not follow from the other


def test_translate_with_a_seed_draws_rows_and_columns_independently() -> None:
    ramp = np.arange(1, H * W + 1, dtype=np.float32).reshape(1, 1, H, W).repeat(N, 0)
    found = apply(ramp, dali.translate, max_shift=4, seed=11)
    middle = found[:, 0, 20, 20].astype(int) - 1
    assert len({(m // W - 20, m % W - 20) for m in middle}) > 25


@pytest.mark.parametrize("seed", [None, 11])
def test_whether_a_sample_moves_does_not_tell_where_to(seed: int | None) -> None:
    images = np.arange(1, H * W + 1, dtype=np.float32).reshape(1, 1, H, W).repeat(400, 0)
    rolled = apply(images, dali.roll_phi, max_shift=10, p=0.5, seed=seed)
    columns = (rolled[:, 0, 20, 20].astype(int) - 1) % W - 20
    assert set(columns) == set(range(-10, 11))  # moved samples go everywhere
    turned = apply(images, dali.rot90, p=0.5, seed=seed)
    assert len({tuple(x[0, 0, :2]) for x in turned}) == 4
    erased = apply(images, dali.random_erase, p=0.5, scale=(0.1, 0.5), ratio=(1, 1), seed=seed)
    areas = (erased == 0).sum(axis=(1, 2, 3)) / (H * W)
    assert abs((areas > 0.3).mean() - (areas > 0).mean() / 2) < 0.1


def test_operations_with_neighbouring_seeds_draw_apart() -> None:
    images = np.arange(1, H * W + 1, dtype=np.float32).reshape(1, 1, H, W).repeat(400, 0)
    flipped = apply(images, dali.flip_eta, p=0.5, seed=12)[:, 0, 0, 0] != 1
    rolled = apply(images, dali.roll_phi, p=0.5, seed=11)[:, 0, 0, 0] != 1
    assert 0.3 < (flipped == rolled).mean() < 0.7


@pytest.mark.parametrize("seed", [None, 11])
def test_draws_are_independent_of_each_other(seed: int | None) -> None:
    """Operations with one seed, samples, and runs: 3,200 draws of each, correlated by less than five errors."""
    n = 64
    images = np.arange(1, H * W + 1, dtype=np.float32).reshape(1, 1, H, W).repeat(n, 0)
    shape = (1, H, W)

    def define(x: Any) -> Any:
        return (
            dali.flip_eta(x, shape, seed=seed),
            dali.roll_phi(x, shape, max_shift=9, seed=seed),
            dali.translate(x, shape, max_shift=9, seed=seed),
            dali.channel_dropout(x, shape, p=0.5, seed=seed),
        )

    runs = graphs(images, define, n=50, seed=5)
    at = [np.stack([run[k][:, 0, 20, 20] for run in runs]).astype(int) - 1 for k in range(4)]
    draws = [at[0] // W != 20, at[1] % W, at[2] // W, at[2] % W, at[3] < 0]
    vectors = [(d - d.mean()) / d.std() for d in draws]
    least = 5 / np.sqrt(vectors[0].size)
    for a, first in enumerate(vectors):
        for second in vectors[:a]:
            assert abs((first * second).mean()) < least
        assert abs((first[:, 1:] * first[:, :-1]).mean()) < least  # neighbours in a batch
        assert abs((first[1:] * first[:-1]).mean()) < least  # the same place of the next batch


def test_energies_of_channels_samples_and_runs_are_smeared_independently() -> None:
    images = np.full((8, 4, H, W), 10.0, np.float32)
    terms = {c: dali.Resolution(noise=1.0) for c in (0, 1, 3)}
    for seed in (None, 3):
        smear = partial(dali.energy_smear, shape=(4, H, W), resolution=terms, seed=seed)
        runs = graphs(images, smear, n=4, seed=5)
        drawn = np.stack([run[0] for run in runs])[:, :, [0, 1, 3]].reshape(96, -1)
        correlations = np.corrcoef(drawn)[np.triu_indices(96, 1)]
        assert abs(correlations).max() < 6 / np.sqrt(H * W)


def test_channel_dropout_drops_whole_channels_of_those_named(truth: Images) -> None:
    images = truth.copy()
    images[0, 0, 0] = [np.nan, np.inf, -np.inf, -0.0] * 10
    found = apply(images, dali.channel_dropout, p=0.4, channels=[0, 3])
    zero = [[not bits(channel).any() for channel in sample] for sample in found]
    dropped = np.array(zero)
    assert not dropped[:, [1, 2, 4]].any()
    assert 0.2 < dropped[:, [0, 3]].mean() < 0.6
    assert (dropped[:, 0] != dropped[:, 3]).any()
    np.testing.assert_array_equal(bits(found)[~dropped], bits(images)[~dropped])


def test_dead_cells_are_whole_towers(truth: Images) -> None:
    full = np.full_like(truth, 2.5)
    found = apply(full, dali.dead_cells, p=0.2, cell={3: 1, 4: 5})
    np.testing.assert_array_equal(found[:, :3], full[:, :3])
    towers = found[:, 4].reshape(N, 8, 5, 8, 5)
    assert (towers == towers[:, :, :1, :, :1]).all()
    assert abs((towers[:, :, 0, :, 0] == 0).mean() - 0.2) < 5 * np.sqrt(0.16 / (N * 64))
    assert abs((found[:, 3] == 0).mean() - 0.2) < 5 * np.sqrt(0.16 / (N * H * W))
    assert set(np.unique(found)) == {0.0, 2.5}


def test_cells_at_the_border_may_be_cut() -> None:
    full = np.full((6, 1, 12, 7), 1.0, np.float32)
    found = apply(full, dali.dead_cells, p=0.5, cell={0: 5})
    rows, columns = np.arange(12) // 5, np.arange(7) // 5
    for sample in found[:, 0]:
        for r, c in np.ndindex(3, 2):
            assert len(np.unique(sample[rows == r][:, columns == c])) == 1


@pytest.mark.parametrize(
    ("energy", "terms"),
    [
        (4.0, dali.Resolution(stochastic=0.5, cell=5)),
        (100.0, dali.Resolution(constant=0.03)),
        (10.0, dali.Resolution(noise=0.8, cell=5)),
        (25.0, dali.Resolution(0.1, 0.02, 0.2, 5)),
    ],
)
def test_energy_smear_has_the_mean_and_width_of_the_formula(
    energy: float, terms: dali.Resolution
) -> None:
    """E is the energy of a cell: with cell=5 each of its 25 pixels has a 25th of it."""
    area = terms.cell**2
    full = np.full((32, 2, H, W), energy / area, np.float32)
    full[:, :, :, :5] = 0.0
    found = apply(full, dali.energy_smear, resolution={1: terms}, clip_at_zero=False)
    np.testing.assert_array_equal(bits(found[:, 0]), bits(full[:, 0]))
    np.testing.assert_array_equal(bits(found[:, 1, :, :5]), 0)  # empty pixels stay empty
    k = terms.cell
    cells = found[:, 1, :, 5:].reshape(32, H // k, k, (W - 5) // k, k)
    assert (cells == cells[:, :, :1, :, :1]).all()
    drawn = cells[:, :, 0, :, 0].ravel().astype(float) * area
    expected = np.sqrt(
        terms.stochastic**2 * energy + (terms.constant * energy) ** 2 + terms.noise**2
    )
    assert abs(drawn.mean() - energy) < 5 * expected / np.sqrt(drawn.size)
    assert abs(drawn.std() / expected - 1) < 5 / np.sqrt(2 * drawn.size)


def test_energy_smear_clips_what_it_smears_and_nothing_else() -> None:
    images = np.full((8, 1, H, W), 0.1, np.float32)
    images[:, :, 0] = -3.0
    found = apply(images, dali.energy_smear, resolution={0: dali.Resolution(noise=1.0)})
    assert (found[:, :, 0] == -3.0).all()
    assert found[:, :, 1:].min() == 0.0
    assert 0.4 < (found[:, :, 1:] == 0).mean() < 0.52


def test_random_erase_clears_one_rectangle_of_the_right_size() -> None:
    full = np.full((200, 2, H, W), 1.0, np.float32)
    found = apply(full, dali.random_erase, p=0.5, scale=(0.1, 0.2), ratio=(0.5, 2.0))
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    areas = []
    for sample in found[:, 0]:
        rows, columns = np.nonzero(sample == 0)
        if rows.size:
            extent = (np.ptp(rows) + 1, np.ptp(columns) + 1)
            assert rows.size == extent[0] * extent[1]
            assert 0.4 < extent[0] / extent[1] < 2.5
            areas.append(rows.size / (H * W))
    assert 60 < len(areas) < 140
    assert 0.08 < min(areas) < 0.13 < 0.17 < max(areas) < 0.22


def test_draws_differ_between_runs_and_follow_the_seed(truth: Images) -> None:
    def once(n: int, seed: int) -> Images:
        return graph(truth, lambda x: dali.roll_phi(x, SHAPE), n=n, seed=seed)[0]

    assert np.array_equal(once(1, 3), once(1, 3))
    assert not np.array_equal(once(1, 3), once(2, 3))
    assert not np.array_equal(once(1, 3), once(1, 4))
