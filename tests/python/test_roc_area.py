from __future__ import annotations

import numpy as np
import pytest

from learning import roc


def by_pairs(scores: np.ndarray, labels: np.ndarray) -> float:
    pairs = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


@pytest.mark.parametrize("n_scores", [2, 20, 10**6])
def test_area_counts_pairs_and_ties_half(n_scores: int) -> None:
    rng = np.random.default_rng(n_scores)
    labels = (np.arange(400) % 3 == 0).astype(np.float32)
    scores = (rng.integers(0, n_scores, 400) + labels * n_scores // 4).astype(np.float32)
    assert roc.area(scores, labels) == by_pairs(scores, labels)
    order = rng.permutation(400)
    assert roc.area(scores[order], labels[order]) == roc.area(scores, labels)
    assert roc.area(-scores, labels) == pytest.approx(1 - roc.area(scores, labels), abs=1e-12)


def test_area_of_perfect_and_of_equal_scores() -> None:
    labels = np.array([0, 0, 1, 1])
    assert roc.area(labels.astype(float), labels) == 1
    assert roc.area(np.zeros(4), labels) == 0.5


@pytest.mark.parametrize(("score", "label", "told"), [(np.nan, 1, "diverged"), (1.0, 0, "both")])
def test_what_has_no_curve_is_refused(score: float, label: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        roc.area(np.array([0.0, score]), np.array([0, label]))


def test_rates_are_those_of_thresholds() -> None:
    rng = np.random.default_rng(5)
    labels = (np.arange(3000) % 2).astype(float)
    scores = np.round(rng.normal(labels, 1.0), 2)
    for threshold in (-0.5, 0.5, 1.75):
        passed, kept = (np.mean(scores[labels == label] >= threshold) for label in (0, 1))
        (found,) = roc.true_positive_rates(scores, labels, np.array([passed]))
        assert found == pytest.approx(kept, abs=1e-12)
    rates = roc.true_positive_rates(scores, labels)
    assert rates == sorted(rates)
    assert rates[-1] == 1
    trapezoids = np.trapezoid(
        roc.true_positive_rates(scores, labels, np.linspace(0, 1, 20001)), dx=5e-5
    )
    assert trapezoids == pytest.approx(roc.area(scores, labels), abs=1e-3)


def test_a_perfect_classifier_keeps_all_at_no_background() -> None:
    rates = roc.true_positive_rates(np.array([0.0, 0.1, 0.8, 0.9]), np.array([0, 0, 1, 1]))
    assert rates == [1.0] * len(roc.FALSE_POSITIVE_RATES)


def test_replicas_spread_as_the_area_does_and_are_of_the_same_jets() -> None:
    rng = np.random.default_rng(6)
    labels = (np.arange(2000) % 2).astype(float)
    scores = rng.normal(labels, 1.0)
    found = roc.replicas(scores, labels)
    area = roc.area(scores, labels)
    assert np.mean(found) == pytest.approx(area, abs=0.003)
    # Hanley and McNeil, Radiology 143 (1982) 29.
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    expected = np.sqrt((area * (1 - area) + 999 * (q1 + q2 - 2 * area**2)) / 1000**2)
    assert np.std(found) == pytest.approx(expected, rel=0.25)
    # A classifier of the same order, and one that differs a little: replicas go together.
    assert roc.replicas(2 * scores + 1, labels) == found
    other = roc.replicas(scores + rng.normal(0, 0.1, 2000), labels)
    assert np.std(np.subtract(found, other)) < np.std(found) / 2


def test_errors_of_jets_and_of_seeds_add_in_quadrature() -> None:
    resampled = [[0.90, 0.92, 0.94], [0.91, 0.93, 0.95]]
    mean, error, of_jets, of_seeds = roc.mean_and_error([0.92, 0.94], resampled)
    assert mean == pytest.approx(0.93)
    assert of_jets == pytest.approx(0.02)
    assert of_seeds == pytest.approx(0.01)
    assert error == pytest.approx(np.hypot(0.02, 0.01))
    assert roc.mean_and_error([0.92], resampled[:1])[3] == 0
