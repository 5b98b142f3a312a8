"""Split: parts of exact sizes, disjoint, drawn by a seed, by classes and by groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import e2eio
from e2eio import manifest
from e2eio.reshard import merge, split
from e2eio.reshard.parts import part_sizes
from reshard_toys import QUIET, assert_divided, make, same_samples, samples_of, schema_of


@pytest.mark.parametrize("stratify", [None, "y"])
def test_fractions_are_exact_seeded_and_disjoint(tmp_path: Path, stratify: str | None) -> None:
    source = make(tmp_path / "d", 101)
    wanted = {"train": 0.8, "valid": 0.1, "test": 0.1}
    parts = split(source, tmp_path / "p", fractions=wanted, stratify=stratify, **QUIET)
    sizes = {name: content.n_samples for name, content in parts.items()}
    assert sizes == {"train": 81, "valid": 10, "test": 10}
    assert_divided(tmp_path / "p", samples_of(source), sizes)
    again = split(source, tmp_path / "again", fractions=wanted, stratify=stratify, **QUIET)
    assert [p.content for p in again.values()] == [p.content for p in parts.values()]
    other = split(source, tmp_path / "other", fractions=wanted, stratify=stratify, seed=1, **QUIET)
    assert other["test"].content != parts["test"].content
    if stratify is not None:
        _, columns = samples_of(source)
        counts = np.bincount(columns["y"])
        for name, share in wanted.items():
            found = np.bincount(samples_of(tmp_path / "p" / name)[1]["y"], minlength=3)
            assert np.all(np.abs(found - share * counts) <= 1 + len(wanted))


def test_stratified_parts_of_a_sorted_dataset(tmp_path: Path) -> None:
    with e2eio.write(tmp_path / "d", schema_of((1, 2, 2)), dataset_id=bytes(16)) as writer:
        n = 3000
        columns = {"y": np.arange(n) // 1000, "pt": np.arange(n), "event": np.arange(n)}
        writer.append(np.zeros((n, 1, 2, 2), np.float32), columns)
    fractions = {"a": 0.5, "b": 0.25}
    parts = split(tmp_path / "d", tmp_path / "p", fractions=fractions, stratify="y", **QUIET)
    assert [content.n_samples for content in parts.values()] == [1500, 750]
    for name, expected in (("a", 500), ("b", 250)):
        found = samples_of(tmp_path / "p" / name)[1]
        assert np.all(np.abs(np.bincount(found["y"]) - expected) <= 3)
        assert np.ptp(found["event"] % 1000) > 900  # of all of each class, not of its beginning


def test_groups_stay_together(tmp_path: Path) -> None:
    source = make(tmp_path / "d", 200)
    parts = split(source, tmp_path / "p", fractions={"a": 0.7, "b": 0.3}, group="event", **QUIET)
    events = {name: set(samples_of(tmp_path / "p" / name)[1]["event"].tolist()) for name in "ab"}
    assert not events["a"] & events["b"]
    assert abs(parts["a"].n_samples - 140) <= 6
    assert_divided(tmp_path / "p", samples_of(source), {k: v.n_samples for k, v in parts.items()})
    several = split(
        source, tmp_path / "q", fractions={"a": 0.7, "b": 0.3}, group=["event", "y"], **QUIET
    )
    pairs = {
        name: set(
            zip(
                *(samples_of(tmp_path / "q" / name)[1][f].tolist() for f in ("event", "y")),
                strict=True,
            )
        )
        for name in several
    }
    assert not pairs["a"] & pairs["b"]


def test_split_by_field_and_by_number(tmp_path: Path) -> None:
    source = make(tmp_path / "d", 50)
    whole = samples_of(source)
    parts = split(source, tmp_path / "y", by="y", **QUIET)
    assert list(parts) == ["y=0", "y=1", "y=2"]
    for k, name in enumerate(parts):
        assert same_samples(
            samples_of(tmp_path / "y" / name), whole, np.flatnonzero(whole[1]["y"] == k)
        )
    chunks = split(source, tmp_path / "n", samples=20, **QUIET)
    assert [content.n_samples for content in chunks.values()] == [20, 20, 10]
    merge([tmp_path / "n" / name for name in chunks], tmp_path / "back", **QUIET)
    assert manifest.read(tmp_path / "back").content == manifest.read(source).content


@pytest.mark.parametrize(
    ("wanted", "n", "expected"),
    [
        ({"a": 0.1, "b": 0.2, "c": 0.7}, 10, [1, 2, 7]),
        ({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, 10, [4, 3, 3]),
        ({"a": 0.5, "b": 0.25}, 7, [3, 2]),
        ({"a": 4, "b": 3}, 9, [4, 3]),
    ],
)
def test_part_sizes(wanted: dict[str, float], n: int, expected: list[int]) -> None:
    assert list(part_sizes(wanted, n).values()) == expected
