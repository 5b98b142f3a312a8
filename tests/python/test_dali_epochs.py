"""Order, epochs, ranks and checkpoints of a graph of DALI."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import e2eio
from e2eio import transforms as t
from e2eio.errors import ConfigError

pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_toys import BATCH, N_BATCHES, N, batches_of, same_batches, write_toy
from e2eio import dali
from e2eio.dali.binding import fn, pipeline_def


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("dali") / "ds")


@pytest.mark.parametrize(("policy", "last"), [("partial", 2), ("fill", 8), ("drop", 8)])
def test_last_batch_policies(path: Path, policy: Any, last: int) -> None:
    batches = dali.iterator(
        path, batch_size=BATCH, last_batch_policy=policy, fields=("X", "sample_id")
    )
    found = batches_of(batches)
    assert len(found) == len(batches) == (6 if policy == "drop" else 7)
    assert [len(b[1]) for b in found] == [8] * (len(found) - 1) + [last]
    if policy == "fill":
        assert found[-1][1].tolist() == [48, *[49] * 7]
        assert torch.equal(found[-1][0][1], found[-1][0][7])


def test_dalis_own_policies_are_understood(path: Path) -> None:
    from nvidia.dali.plugin.base_iterator import LastBatchPolicy

    batches = dali.iterator(path, batch_size=BATCH, last_batch_policy=LastBatchPolicy.DROP)
    assert len(batches) == 6


def test_ranks_share_the_dataset_and_draw_differently(path: Path) -> None:
    ids, rolled = [], []
    for rank in range(3):
        batches = dali.iterator(
            path, batch_size=4, shuffle=True, rank=rank, world_size=3, fields=("X", "sample_id"),
            augment=(t.FlipEta(0.5, negate=()),),
        )  # fmt: skip
        loader = e2eio.Loader(
            path, batch_size=4, shuffle=True, rank=rank, world_size=3, fields=("X", "sample_id")
        )
        found = batches_of(batches)
        assert [b[1].tolist() for b in found] == [b[1].tolist() for b in loader]
        plain = batches_of(
            loader.__class__(
                path, batch_size=4, shuffle=True, rank=rank, world_size=3, fields=("X", "sample_id")
            )
        )
        rolled.append([torch.equal(a[0][0], b[0][0]) for a, b in zip(found, plain, strict=True)])
        ids += [i for b in found for i in b[1].tolist()]
    assert set(ids) == set(range(N))
    assert rolled[0] != rolled[1] or rolled[1] != rolled[2]


def test_a_seed_of_the_graph_is_another_one_on_each_rank_and_the_loaders_counts(path: Path) -> None:
    def drawn(given: Any, **options: Any) -> list[bool]:
        drop = partial(dali.channel_dropout, p=0.5)
        batches = dali.iterator(given, augment=(lambda x, _: x * 0.0 + 1.0, drop), **options)
        return [bool(x) for batch in batches for x in batch["X"][:, :, 0, 0].flatten()]

    ranks = [drawn(path, batch_size=4, augment_seed=4, rank=r, world_size=2) for r in (0, 1, 0)]
    assert ranks[0] == ranks[2] != ranks[1]
    seeds = [drawn(e2eio.Loader(path, batch_size=4, seed=seed)) for seed in (1, 2, 1)]
    assert seeds[0] == seeds[2] != seeds[1]


@pytest.mark.parametrize("pass_by", [True, False])
def test_leaving_a_loop_early_begins_the_next_epoch(path: Path, pass_by: bool) -> None:
    options: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "fields": ("X", "y")}
    batches = dali.iterator(path, pass_by=pass_by, **options)
    loader = e2eio.Loader(path, **options)
    for stop in (1, 3, 6):
        for i, (a, b) in enumerate(zip(batches, loader, strict=True)):
            assert torch.equal(a[0], b[0])
            if i == stop:
                break
    assert same_batches(batches_of(batches), batches_of(loader))


def test_a_generator_that_is_closed_early_leaves_the_loader_open(path: Path) -> None:
    """``yield from`` closes what it goes over, if that can be closed."""
    options: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "fields": ("X", "y")}
    batches, loader = dali.iterator(path, **options), e2eio.Loader(path, **options)

    def delegating() -> Any:
        yield from batches

    for _ in range(2):
        generator = delegating()
        assert torch.equal(next(generator)[1], next(iter(loader))[1])
        generator.close()
    assert same_batches(batches_of(batches), batches_of(loader))


def test_an_epoch_that_is_over_stays_so_and_there_is_one_at_a_time(path: Path) -> None:
    batches = dali.iterator(path, batch_size=BATCH)
    epoch = iter(batches)
    assert len(list(epoch)) == len(list(batches)) == N_BATCHES
    assert list(epoch) == []
    first = iter(batches)
    next(first)
    assert len(list(iter(first))) == N_BATCHES - 1  # the same epoch
    first = iter(batches)
    next(first)
    assert next(iter(batches))["y"][0] == 0
    with pytest.raises(ConfigError, match="one at a time"):
        next(first)


def test_the_source_gives_any_batch_that_is_asked_for(path: Path) -> None:
    loader = e2eio.Loader(path, batch_size=BATCH, shuffle=True, fields=("X", "y"))
    expected = [[b[1].tolist() for b in loader] for _ in range(2)]
    source = dali.source(
        e2eio.Loader(path, batch_size=BATCH, shuffle=True, fields=("X", "y"), framework="numpy")
    )

    class At:
        def __init__(self, epoch: int, iteration: int) -> None:
            self.epoch_idx, self.iteration = epoch, iteration

    for epoch, index in [(0, 0), (0, 1), (0, 5), (1, 2), (1, 3), (0, 6), (1, 6), (0, 0)]:
        assert source(At(epoch, index))[1].tolist() == expected[epoch][index]
    for _ in range(3):
        with pytest.raises(StopIteration):
            source(At(0, N_BATCHES))
    assert source(At(0, 4))[1].tolist() == expected[0][4]


def test_a_source_of_plain_indices_counts_epochs_by_their_ends(path: Path) -> None:
    options: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "fields": ("X", "y")}
    source = dali.source(e2eio.Loader(path, framework="numpy", **options))

    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None)  # type: ignore[untyped-decorator]
    def make() -> Any:
        return tuple(fn.external_source(source, num_outputs=2, no_copy=True))

    pipe = make()
    found: list[list[list[float]]] = []
    for _ in range(2):
        found.append([np.array(pipe.run()[1].as_tensor()).tolist() for _ in range(N_BATCHES)])
        with pytest.raises(StopIteration):
            pipe.run()
        pipe.reset()
    loader = e2eio.Loader(path, **options)
    assert found == [[b[1].tolist() for b in loader] for _ in range(2)]


AUGMENT = (
    t.EnergySmear(stochastic={"ecal": 0.1, "hcal": 1.0}, cell={"ecal": 1, "hcal": 5}),
    t.DeadCells(0.1, channels=("hcal",), cell=5),
    t.FlipEta(0.5),
    t.RollPhi(),
    t.Rot90(),
    t.ChannelDropout(0.1),
    partial(dali.translate, max_shift=3),
    partial(dali.random_erase, p=0.5),
)


def augmented(path: Path, **options: Any) -> dali.Batches:
    return dali.iterator(
        path, batch_size=BATCH, shuffle=True, seed=9, fields=("X", "y"), augment=AUGMENT, **options
    )


@pytest.fixture(scope="module")
def recorded(path: Path) -> tuple[list[list[Any]], list[list[bytes]]]:
    """Three epochs of batches, and the state before the first and after each batch."""
    batches = augmented(path)
    epochs: list[list[Any]] = []
    states = [batches.checkpoints()]
    for _ in range(3):
        epochs.append([])
        for batch in batches:
            epochs[-1].append([v.clone() for v in batch])
            states.append(batches.checkpoints())
    return epochs, states


@pytest.mark.parametrize("cut", [0, 1, 5, 6, 7, 9, 13])
def test_a_restored_pipeline_goes_on_exactly(path: Path, recorded: Any, cut: int) -> None:
    """Cut before the first batch, in the middle, where DALI works on the next epoch's end, and at the ends."""
    epochs, states = recorded
    restored = augmented(path, checkpoint=states[cut])
    epoch, index = (0, 0) if cut == 0 else divmod(cut - 1, N_BATCHES)
    assert same_batches(batches_of(restored), epochs[epoch][index + (cut > 0) :])
    assert same_batches(batches_of(restored), epochs[epoch + 1])


def test_augmentations_differ_from_epoch_to_epoch(recorded: Any) -> None:
    by_sample = [
        {int(y): x for b in epoch for x, y in zip(*b, strict=True)} for epoch in recorded[0]
    ]
    assert all(not torch.equal(by_sample[0][i], by_sample[1][i]) for i in range(N))


def test_images_that_pass_by_are_restored_as_well(path: Path) -> None:
    make = partial(dali.iterator, path, batch_size=BATCH, shuffle=True)
    batches = make()
    states, found = [], []
    for batch in batches:
        states.append(batches.checkpoints())
        found.append({k: v.clone() for k, v in batch.items()})
    assert same_batches(batches_of(make(checkpoint=states[3])), found[4:])


def test_a_state_of_another_graph_is_refused(path: Path, recorded: Any) -> None:
    with pytest.raises(ConfigError, match="all other arguments have to be those"):
        dali.iterator(path, batch_size=BATCH, checkpoint=recorded[1][3])


def test_a_state_after_the_end_of_an_epoch_begins_the_next(path: Path) -> None:
    batches = augmented(path)
    batches_of(batches)
    state = batches.checkpoints()
    assert same_batches(batches_of(augmented(path, checkpoint=state)), batches_of(batches))


def test_restoring_reads_nothing_before_the_cut(path: Path) -> None:
    batches = dali.iterator(e2eio.Loader(path, batch_size=BATCH))
    states = [batches.checkpoints() for _ in batches]
    loader = e2eio.Loader(path, batch_size=BATCH)
    rest = dali.iterator(loader, checkpoint=states[4])
    assert len(list(rest)) == 2
    assert loader.stats()["samples"] == 10
