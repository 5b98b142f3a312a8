"""The order of the samples: pinned, recomputed by the reference, and what has to hold for every configuration."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2eio import _core
from e2eio.errors import ConfigError
from e2eio.options import plan_key
from e2eio.plan import integer_weights

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
import reference_plan  # noqa: E402

GOLDEN = json.loads((TESTS / "golden" / "plan.json").read_text())


def core_order(spec: dict[str, Any]) -> _core.Order:
    kind, key = spec["kind"], plan_key(spec.get("dataset", ""), spec.get("seed", 0))
    if kind == "file":
        return _core.Order.in_file_order(spec["n"])
    if kind == "shuffled":
        return _core.Order.shuffled(spec["n"], key)
    if kind == "window":
        return _core.Order.windowed(spec["n"], key, spec["extent"])
    if kind == "weighted":
        weights = integer_weights(np.array(spec["weights"]))
        return _core.Order.weighted(weights, key, spec["n_places"])
    if kind == "selected":
        return core_order(spec["order"]).selected(np.array(spec["ids"]))
    parts = [core_order(part) for part in spec["parts"]]
    return _core.Order.mixed(parts, spec["shares"], spec["n_places"])


def core_batches(
    order: _core.Order,
    epoch: int,
    begin: int,
    rank: int,
    world_size: int,
    batch_size: int,
    drop_last: bool,
) -> list[list[int]]:
    plan = _core.EpochPlan(
        order, batch_size=batch_size, rank=rank, world_size=world_size, drop_last=drop_last
    )
    return [plan.batch_ids(epoch, b, begin).tolist() for b in range(plan.n_batches(begin))]


@pytest.mark.parametrize("number", range(len(GOLDEN)))
def test_the_order_is_the_one_of_the_golden_file(number: int) -> None:
    entry = GOLDEN[number]
    plan = [entry[name] for name in ("epoch", "begin")]
    shares = [entry[name] for name in ("world_size", "batch_size", "drop_last")]
    cases: list[tuple[Callable[..., list[list[int]]], Any]] = [
        (core_batches, core_order(entry["order"])),
        (reference_plan.batches, reference_plan.order_of(entry["order"])),
    ]
    for batches, order in cases:
        ranks = [batches(order, *plan, rank, *shares) for rank in range(shares[0])]
        assert [batch for rank in ranks for batch in rank[:1]] == entry["first"]
        assert {len(rank) for rank in ranks} == {entry["n_batches"]}
        assert reference_plan.digest_of(ranks) == entry["digest"]


ORDERS = st.one_of(
    st.builds(lambda n: {"kind": "file", "n": n}, st.integers(1, 200)),
    st.builds(
        lambda n, seed: {"kind": "shuffled", "n": n, "seed": seed},
        st.integers(1, 200),
        st.integers(0, 99),
    ),
    st.builds(
        lambda n, seed, extent: {"kind": "window", "n": n, "seed": seed, "extent": extent},
        st.integers(1, 200),
        st.integers(0, 99),
        st.integers(1, 20),
    ),
)


@settings(max_examples=150, deadline=None)
@given(ORDERS, st.integers(0, 2**63), st.integers(1, 7), st.integers(1, 30), st.booleans())
def test_ranks_are_disjoint_and_cover_the_epoch(
    spec: dict[str, Any], epoch: int, world_size: int, batch_size: int, drop_last: bool
) -> None:
    order, n = core_order(spec), spec["n"]
    shares = (world_size, batch_size, drop_last)
    ranks = [core_batches(order, epoch, 0, rank, *shares) for rank in range(world_size)]
    sizes = {tuple(len(batch) for batch in rank) for rank in ranks}
    assert len(sizes) == 1, "the same batches on every rank"
    seen = Counter(i for rank in ranks for batch in rank for i in batch)
    rest = n % (world_size * batch_size)
    if drop_last:
        assert seen.total() == n - rest
        assert max(seen.values(), default=1) == 1
        return
    assert set(seen) == set(range(n)), "all samples"
    # Padded by the first samples of the epoch's order, so many that the last step divides.
    padding = -rest % world_size
    whole = order.ids(epoch, 0, n).tolist()
    assert seen - Counter(range(n)) == Counter(whole[i % n] for i in range(padding))


@settings(max_examples=100, deadline=None)
@given(ORDERS, st.integers(0, 1000), st.data())
def test_the_core_and_the_reference_agree(
    spec: dict[str, Any], epoch: int, data: st.DataObject
) -> None:
    order, reference = core_order(spec), reference_plan.order_of(spec)
    assert order.n_places == reference.n_places
    whole = order.ids(epoch, 0, order.n_places).tolist()
    assert whole == [reference(epoch, place) for place in range(order.n_places)]
    first = data.draw(st.integers(0, order.n_places - 1))
    n = data.draw(st.integers(0, order.n_places - first))
    assert order.ids(epoch, first, n).tolist() == whole[first : first + n]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=30), st.integers(0, 99))
def test_weights_become_the_same_integers_and_draws(weights: list[float], seed: int) -> None:
    if max(weights) == 0:
        with pytest.raises(ConfigError, match="all are 0"):
            integer_weights(np.array(weights))
        return
    spec = {"kind": "weighted", "weights": weights, "n_places": 50, "seed": seed}
    if max(weights) > 1e-300:  # the reference's powers of two are plain floats
        assert integer_weights(np.array(weights)).tolist() == reference_plan.integer_weights(
            weights
        )
        reference = reference_plan.order_of(spec)
        expected = [reference(3, place) for place in range(50)]
        assert core_order(spec).ids(3, 0, 50).tolist() == expected
    drawn = core_order(spec).ids(3, 0, 50)
    assert all(weights[i] > 0 for i in drawn)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 6)), min_size=1, max_size=4),
    st.integers(1, 100),
    st.integers(0, 5),
)
def test_mixtures_agree_and_keep_their_proportions(
    parts: list[tuple[int, int]], n_places: int, epoch: int
) -> None:
    begins = np.cumsum([0, *(n for n, _ in parts)]).tolist()
    specs = [
        {
            "kind": "selected",
            "order": {"kind": "shuffled", "n": n, "seed": number},
            "ids": list(range(begins[number], begins[number + 1])),
        }
        for number, (n, _) in enumerate(parts)
    ]
    shares = [share for _, share in parts]
    spec = {"kind": "mixed", "parts": specs, "shares": shares, "n_places": n_places}
    reference = reference_plan.order_of(spec)
    ids = core_order(spec).ids(epoch, 0, n_places)
    assert ids.tolist() == [reference(epoch, place) for place in range(n_places)]
    part_of = np.searchsorted(begins, ids, side="right") - 1
    block = sum(shares)
    for begin in range(0, n_places - block + 1, block):
        counts = np.bincount(part_of[begin : begin + block], minlength=len(shares))
        assert counts.tolist() == shares


def _any_order(draw: random.Random, number: int) -> _core.Order:
    n, key = draw.randrange(1, 120), draw.randrange(2**64)
    base = [_core.Order.in_file_order(n), _core.Order.shuffled(n, key)]
    base.append(_core.Order.windowed(n, key, draw.randrange(1, 10)))
    if number % 6 < 3:
        return base[number % 6]
    n_places = draw.randrange(1, 300)
    if number % 6 == 3:
        weights = np.array([draw.randrange(1, 9) for _ in range(n)], dtype=np.uint64)
        return _core.Order.weighted(weights, key, n_places)
    if number % 6 == 4:
        return base[draw.randrange(3)].selected(np.arange(n) * 3)
    parts = [base[1], base[2].selected(np.arange(n) + n)]
    return _core.Order.mixed(parts, [draw.randrange(1, 5), 2], n_places)


def test_1000_cuts_of_every_kind_of_order_go_on_exactly() -> None:
    draw = random.Random(9)
    for cut in range(6000):
        order, epoch = _any_order(draw, cut), draw.randrange(5)
        n = order.n_places
        whole = order.ids(epoch, 0, n).tolist()
        begin = 0
        for run in range(2):  # before the cut, and after it
            world_size, batch_size = draw.randrange(1, 5), draw.randrange(1, 30)
            plans = [
                _core.EpochPlan(
                    order, batch_size=batch_size, rank=rank, world_size=world_size, drop_last=False
                )
                for rank in range(world_size)
            ]
            n_batches = plans[0].n_batches(begin)
            assert {plan.n_batches(begin) for plan in plans} == {n_batches}
            n_steps = draw.randrange(n_batches + 1) if run == 0 else n_batches
            got = [
                number
                for step in range(n_steps)
                for plan in plans
                for number in plan.batch_ids(epoch, step, begin).tolist()
            ]
            assert got == [whole[(begin + i) % n] for i in range(len(got))], cut
            after = plans[0].place_after(n_steps, begin)
            assert 0 <= len(got) - (after - begin) < world_size
            begin = after
        assert begin == n


def test_orders_refuse_what_is_not_there() -> None:
    order = _core.Order.shuffled(10, 0)
    with pytest.raises(ConfigError, match="places 8 to 8 \\+ 3 of an epoch of 10"):
        order.ids(0, 8, 3)
    with pytest.raises(ConfigError, match="10 samples, 9 selected"):
        order.selected(np.arange(9))
    plan = _core.EpochPlan(order, batch_size=3, rank=0, world_size=1, drop_last=True)
    with pytest.raises(ConfigError, match="batch 3 of 3"):
        plan.batch_ids(0, 3)
