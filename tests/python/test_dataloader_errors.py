"""e2eio.DataLoader: errors come in the place of their batches, and say which samples they are of."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import e2eio
from e2eio.errors import CorruptShardError

torch: Any = pytest.importorskip("torch")


from torch_toys import N, numbers, outcome_of, write_toy  # noqa: E402

Subset: Any = torch.utils.data.Subset
WORKERS = pytest.mark.parametrize("num_workers", [0, 2])


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> e2eio.Dataset:
    return write_toy(tmp_path_factory.mktemp("dataloader") / "ds")


@WORKERS
def test_errors_of_collate_fn_keep_their_type_and_say_which_samples(
    ds: e2eio.Dataset, num_workers: int
) -> None:
    class OwnError(Exception):
        code = 7

    def collate(samples: list[Any]) -> Any:
        if samples[0]["i"] == 4:
            raise OwnError("no")
        return [int(sample["i"]) for sample in samples]

    iterator = iter(e2eio.DataLoader(ds, 2, num_workers=num_workers, collate_fn=collate))
    assert [next(iterator), next(iterator)] == [[0, 1], [2, 3]]
    with pytest.raises(OwnError) as caught:
        next(iterator)
    assert caught.value.code == 7
    (note,) = vars(caught.value)["__notes__"]
    assert note.startswith("in collate_fn of batch 2 of 2 samples: sample 4 (number 4 in ")
    assert ".e2e" in note
    assert next(iterator) == [6, 7]  # as torch's: an error takes the place of its batch


def test_notes_give_numbers_in_dataset_and_shard(ds: e2eio.Dataset, tmp_path: Path) -> None:
    def fail(samples: list[Any]) -> Any:
        raise KeyError(samples[0]["i"])

    def note_of(dataset: Any) -> str:
        with pytest.raises(KeyError) as caught:
            next(iter(e2eio.DataLoader(dataset, sampler=[len(dataset) - 1], collate_fn=fail)))
        (note,) = vars(caught.value)["__notes__"]
        return str(note).partition(": ")[2]

    two = write_toy(tmp_path / "two", shard_samples=25)
    numbered = e2eio.Dataset([*ds.readers, *two.readers])
    last = len(two.readers[-1].record_sizes()) - 1
    shard = f"(number {last} in {two.readers[-1].path})"
    assert len(two.readers) > 1
    assert note_of(two) == f"sample {N - 1} {shard}"
    assert note_of(numbered) == f"sample {2 * N - 1} {shard}"
    assert note_of(Subset(numbered, [3, 2 * N - 1])) == f"sample {2 * N - 1} {shard}"
    joined = torch.utils.data.ConcatDataset([ds, two])
    assert note_of(joined) == f"sample {N - 1} of dataset 1 {shard}"


@WORKERS
def test_bad_numbers_are_errors_in_their_place(ds: e2eio.Dataset, num_workers: int) -> None:
    order: list[Any] = [[1], [N], [2], ["x"], [1.5], [3], []]
    iterator = iter(e2eio.DataLoader(ds, batch_sampler=order, num_workers=num_workers))
    assert numbers(next(iterator)) == [1]
    with pytest.raises(IndexError, match=f"sample {N} of a dataset of {N}"):
        next(iterator)
    assert numbers(next(iterator)) == [2]
    for _ in range(2):
        with pytest.raises(TypeError):
            next(iterator)
    assert numbers(next(iterator)) == [3]
    with pytest.raises(IndexError):
        next(iterator)
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(iterator)
    subset = e2eio.DataLoader(Subset(ds, [0, 1]), sampler=[2], num_workers=num_workers)
    with pytest.raises(IndexError):
        next(iter(subset))
    beyond = e2eio.DataLoader(Subset(ds, [0, N]), 1)
    iterator = iter(beyond)
    assert numbers(next(iterator)) == [0]
    with pytest.raises(IndexError):
        next(iterator)


@WORKERS
def test_corrupt_records_are_errors_in_their_place(
    ds: e2eio.Dataset, tmp_path: Path, num_workers: int
) -> None:
    broken = tmp_path / "broken.e2e"
    shutil.copy(ds.readers[0].path, broken)
    where = int(ds.readers[0].record_sizes()[:10].sum()) + 200
    content = bytearray(broken.read_bytes())
    content[where] ^= 255
    broken.write_bytes(content)
    iterator = iter(e2eio.DataLoader(e2eio.Dataset(broken), 4, num_workers=num_workers))
    outcomes = [outcome_of(iterator) for _ in range(-(-N // 4) + 1)]
    (at,) = [i for i, each in enumerate(outcomes) if isinstance(each, CorruptShardError)]
    assert outcomes[at].path == str(broken)
    assert outcomes[at].sample // 4 == at
    assert isinstance(outcomes.pop(), StopIteration)
    assert [each[0] for each in outcomes[:at] + outcomes[at + 1 :]] == [
        first for first in range(0, N, 4) if first != 4 * at
    ]


@WORKERS
def test_a_sampler_that_raises_is_heard_and_gone_on_with(
    ds: e2eio.Dataset, num_workers: int
) -> None:
    class Stumbling:
        def __iter__(self) -> Stumbling:
            self.n = -1
            return self

        def __next__(self) -> list[int]:
            self.n += 1
            if self.n == 6:
                raise OSError("once")
            return [self.n]

    def outcomes(kind: Any) -> list[Any]:
        iterator = iter(kind(ds, batch_sampler=Stumbling(), num_workers=num_workers))
        return [str(outcome_of(iterator)) for _ in range(9)]

    assert "once" in outcomes(e2eio.DataLoader)
    assert outcomes(e2eio.DataLoader) == outcomes(torch.utils.data.DataLoader)
