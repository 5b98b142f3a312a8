"""Files of other formats as datasets, without converting them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

import e2eio
from direct_toys import (
    SECONDS,
    SMALL,
    N,
    assert_settles,
    by_id,
    direct,
    images,
    load,
    makers,
    write_sources,
)
from e2eio import transforms
from e2eio.errors import ConfigError, CorruptShardError, SchemaMismatchError, ShardNotFoundError
from e2eio.importers import ImportOptions, open_source, read_scalars


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    return write_sources(tmp_path)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> e2eio.Dataset:
    directory = tmp_path_factory.mktemp("direct")
    options: dict[str, Any] = {"shape": (2, 16, 16), "channels": ("a", "b")}
    sources, out = write_sources(directory), directory / "converted"
    e2eio.convert(sources, out, **options, processes=1, progress=False)
    return e2eio.Dataset(out)


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


@pytest.mark.parametrize("shuffle", [False, True, "window"])
def test_gives_the_batches_of_the_converted_dataset(
    sources: list[Path], converted: e2eio.Dataset, shuffle: Any
) -> None:
    dataset = direct(sources)
    assert not makers()  # none before the first batch
    assert len(dataset) == 2 * N
    assert dataset.source_sizes == (N, N)
    assert dataset.schema == converted.schema
    with load(dataset, shuffle=shuffle, seed=3) as loader, load(converted) as other:
        first, truth = by_id(loader), by_id(other)
        assert first == truth
        assert by_id(loader) == truth
        assert len(loader) == len(other)
    assert_settles()  # all is made


def test_options_of_the_loader(sources: list[Path], converted: e2eio.Dataset) -> None:
    options = {
        "channels": ["b"],
        "transforms": [transforms.FlipEta(0.5), transforms.Scale(2.0)],
        "dtype": "float16",
        "layout": "NHWC",
        "select": "pt > 300 & y == 1",
        "shuffle": False,
    }
    assert by_id(load(direct(sources), **options)) == by_id(load(converted, **options))
    assert by_id(load(direct(sources), channels=[1])) == by_id(load(converted, channels=[1]))


@pytest.mark.parametrize("form", ["coo", "wire"])
def test_sparse_forms(sources: list[Path], converted: e2eio.Dataset, form: str) -> None:
    for mine, truth in zip(
        load(direct(sources), form=form), load(converted, form=form), strict=True
    ):
        if form == "wire":
            assert np.array_equal(mine[0].to_dense(), truth[0].to_dense())
        else:
            assert np.array_equal(mine[0].coordinates, truth[0].coordinates)
            assert np.array_equal(mine[0].values, truth[0].values)


def test_samples_and_scalars_on_request(sources: list[Path], converted: e2eio.Dataset) -> None:
    dataset = direct(sources)
    assert np.array_equal(dataset.scalars("pt"), converted.scalars("pt"))
    assert "of which 4 are to be made" in repr(dataset)
    for mine, truth in zip(
        dataset.__getitems__([3, 2799, -1400]), converted.__getitems__([3, 2799, 1400]), strict=True
    ):
        assert all(np.array_equal(mine[name], truth[name]) for name in truth)
    del dataset
    assert_settles()


def test_scalars_come_without_images_and_with_them(sources: list[Path]) -> None:
    source = open_source(sources[0], SMALL)
    columns = read_scalars(source)
    assert columns["y"].dtype == np.int64

    class Plain:
        schema, n_samples, chunks = source.schema, source.n_samples, source.chunks

    along = read_scalars(Plain())  # type: ignore[arg-type]
    assert all(np.array_equal(columns[name], along[name]) for name in ("y", "pt"))


def test_labels_and_names_are_the_options(sources: list[Path]) -> None:
    options = ImportOptions(
        shape=(2, 16, 16), channels=("a", "b"), rename=(("pt", "jet_pt"),), label=("kind", 3)
    )
    dataset = e2eio.Dataset(sources[0], import_options=options)
    assert dataset.scalars("kind").tolist() == [3] * N
    assert dataset[5]["jet_pt"] == dataset.scalars("jet_pt")[5] == 5


def test_order_is_the_same_before_and_after(sources: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    orders = []
    for where in (None, cache, cache):
        dataset = direct(sources, where)
        loader = load(dataset, shuffle="window", seed=5)
        orders.append([batch[-1].tolist() for batch in loader])
        loader.close()
    assert orders[0] == orders[1] == orders[2]
    assert "are to be made" not in repr(dataset)
    assert dataset.statistics is not None
    late = direct(sources)
    assert (dataset.digest, dataset.n_bytes) == (late.digest, late.n_bytes)


def test_the_second_epoch_reads_no_source(sources: list[Path]) -> None:
    loader = load(direct(sources), shuffle=True)
    first = by_id(loader)
    for source in sources:
        source.unlink()
    assert by_id(loader) == first


def test_resumes_in_mid_epoch(sources: list[Path], tmp_path: Path) -> None:
    whole = [batch[-1].tolist() for batch in load(direct(sources), shuffle=True, seed=1)]
    loader = load(direct(sources, tmp_path / "cache"), shuffle=True, seed=1)
    batches = iter(loader)
    begin = [next(batches)[-1].tolist() for _ in range(4)]
    state = json.loads(json.dumps(loader.state_dict()))
    del batches
    loader.close()
    other = load(direct(sources, tmp_path / "cache"), shuffle=True, seed=1)
    other.load_state_dict(state)
    assert begin + [batch[-1].tolist() for batch in other] == whole


def test_ranks_share_an_epoch(sources: list[Path], tmp_path: Path) -> None:
    found: dict[int, Any] = {}
    for rank in range(2):
        dataset = direct(sources, tmp_path / "cache")
        found |= by_id(load(dataset, shuffle=True, rank=rank, world_size=2, batch_size=50))
    assert len(found) == 2 * N


def test_cut_in_mid_epoch_ends_threads_and_children(sources: list[Path]) -> None:
    before = children()
    dataset = direct(sources)
    batches = iter(load(dataset))
    next(batches)
    del batches, dataset
    assert_settles()
    assert children() <= before


def test_a_dataset_pickles(sources: list[Path], tmp_path: Path) -> None:
    dataset = direct(sources, tmp_path / "cache")
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.digest == dataset.digest
    assert np.array_equal(copy[700]["X"], dataset[700]["X"])
    loader = pickle.loads(pickle.dumps(load(dataset)))
    assert len(by_id(loader)) == 2 * N


@pytest.mark.parametrize("n_workers", [0, 2])
def test_dataloader(sources: list[Path], converted: e2eio.Dataset, n_workers: int) -> None:
    options: dict[str, Any] = {"batch_size": 50, "num_workers": n_workers}
    mine = e2eio.DataLoader(direct(sources), **options)
    for batch, truth in zip(mine, e2eio.DataLoader(converted, **options), strict=True):
        assert all(torch.equal(batch[name], truth[name]) for name in truth)


def test_torchs_own_dataloader_with_forked_workers(
    sources: list[Path], converted: e2eio.Dataset
) -> None:
    dataset = direct(sources * 2)  # eight shards, of which four are made ahead of need
    dataset[0]  # makers are there, and wait, when the workers are forked
    plain: Any = dataset
    loader: Any = torch.utils.data.DataLoader(
        plain, batch_size=700, num_workers=2, multiprocessing_context="fork"
    )
    for number, batch in enumerate(loader):
        begin = 700 * number % len(converted)
        truth = converted.__getitems__(range(begin, begin + 700))
        assert np.array_equal(batch["X"], np.stack([sample["X"] for sample in truth]))
        assert batch["pt"].tolist() == [float(sample["pt"]) for sample in truth]


def test_joined_datasets(sources: list[Path], converted: e2eio.Dataset) -> None:
    parts: list[Any] = [direct(sources[:1]), direct(sources[1:])]
    loader = e2eio.DataLoader(torch.utils.data.ConcatDataset(parts), batch_size=100)
    pt = torch.cat([batch["pt"] for batch in loader])
    assert np.array_equal(pt, converted.scalars("pt"))


def test_refuses_mixtures_and_options_for_shards(
    sources: list[Path], converted: e2eio.Dataset, tmp_path: Path
) -> None:
    shard, _ = converted.path_of(0)
    with pytest.raises(ConfigError, match="in one list"):
        e2eio.Dataset([sources[0], shard])
    with pytest.raises(ConfigError, match="shards need none"):
        e2eio.Dataset(Path(shard).parent, cache=tmp_path / "cache")
    with pytest.raises(ConfigError, match="as an argument of that"):
        e2eio.Loader(converted, batch_size=1, cache=tmp_path)
    with pytest.raises(ConfigError, match=r"channels unknown|shape of images unknown"):
        e2eio.Dataset(sources)
    with pytest.raises(ShardNotFoundError):
        e2eio.Dataset(tmp_path / "missing.parquet")
    (tmp_path / "text").write_text("no images here")
    with pytest.raises(CorruptShardError):
        e2eio.Dataset(tmp_path / "text")
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"X": pa.array(list(images(3, 0).reshape(3, -1)))}), other)
    with pytest.raises(SchemaMismatchError, match=r"other\.parquet"):
        direct([sources[0], other])


def test_published_files(published: Path, truth_x1: dict[str, NDArray[np.float32]]) -> None:
    path = published / "BoostedTop_x1_fixed_0.snappy.parquet"
    loader = e2eio.Loader(
        path, batch_size=32, shuffle=True, fields=("X_jets", "sample_id"), timeout=SECONDS
    )
    for pixels, ids in loader:
        assert np.array_equal(pixels.numpy().view(np.uint32), truth_x1["X"][ids].view(np.uint32))
