"""Files of other formats as datasets, without converting them."""

from __future__ import annotations

import gc
import json
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
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
from e2eio import transforms
from e2eio.direct import makers as makers_module
from e2eio.errors import (
    ConfigError,
    CorruptShardError,
    ImporterError,
    SchemaMismatchError,
    ShardNotFoundError,
)
from e2eio.importers import ImportOptions, open_source, read_scalars

SMALL = ImportOptions(shape=(2, 16, 16), channels=("a", "b"))
N = 1400  # per file: two shards of 700
SECONDS = 60  # against hangs alone


def images(n: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(n, 2, 16, 16)).astype(np.float32)
    return np.where(rng.random(dense.shape) < 0.05, dense, 0).astype(np.float32)


def write(path: Path, n: int = N, seed: int = 0) -> Path:
    pixels = images(n, seed)
    table = pa.table(
        {
            "X": pa.array(list(pixels.transpose(0, 2, 3, 1).reshape(n, -1))),
            "y": np.arange(n, dtype=np.int64) % 2,
            "pt": np.arange(n, dtype=np.float64) + 1000 * seed,
        }
    )
    pq.write_table(table, path, row_group_size=100)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("direct")
    return [write(directory / f"jets{seed}.parquet", seed=seed) for seed in range(2)]


@pytest.fixture
def sources(written: list[Path], tmp_path: Path) -> list[Path]:
    return [Path(shutil.copy(path, tmp_path)) for path in written]


@pytest.fixture(scope="module")
def converted(written: list[Path], tmp_path_factory: pytest.TempPathFactory) -> e2eio.Dataset:
    out = tmp_path_factory.mktemp("converted")
    options: dict[str, Any] = {"shape": (2, 16, 16), "channels": ("a", "b")}
    e2eio.convert(written, out, **options, processes=1, progress=False)
    return e2eio.Dataset(out)


def direct(sources: list[Path], cache: Path | None = None) -> e2eio.Dataset:
    return e2eio.Dataset(sources, cache=cache, import_options=SMALL)


def load(dataset: e2eio.Dataset, **options: Any) -> e2eio.Loader:
    fields = tuple({**dict.fromkeys(dataset.schema.field_names), "sample_id": None})
    given = {"batch_size": 64, "framework": "numpy", "fields": fields, "timeout": SECONDS}
    return e2eio.Loader(dataset, **{**given, **options})


def by_id(batches: Iterator[Any] | e2eio.Loader) -> dict[int, tuple[Any, ...]]:
    found = {}
    for *fields, ids in batches:
        for i, number in enumerate(ids.tolist()):
            found[number] = tuple(np.array(field[i]).tobytes() for field in fields)
    return found


def makers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "e2eio-maker"]


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def assert_settles() -> None:
    gc.collect()
    end = time.monotonic() + SECONDS
    while makers() and time.monotonic() < end:
        time.sleep(0.01)
    assert not makers()


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


def test_a_bad_row_comes_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    rows = list(images(N, 0).reshape(N, -1))
    rows[1350] = rows[1350][:100]
    pq.write_table(pa.table({"X": pa.array(rows)}), path, row_group_size=50)
    loader = load(direct([path]), batch_size=10)
    n = 0
    with pytest.raises(
        ImporterError, match=r"ragged image: .*bad\.parquet, row group 27, row 1350"
    ) as found:
        for _ in loader:
            n += 1
    assert found.value.sample == 1350
    assert n == 70  # the first of two shards
    dataset = direct([path])
    assert dataset[699]["X"].shape == (2, 16, 16)
    with pytest.raises(ImporterError):
        dataset[700]
    assert dataset[0]["X"].shape == (2, 16, 16)


def test_a_source_that_goes_away_may_come_back(sources: list[Path], tmp_path: Path) -> None:
    dataset = direct(sources)
    sources[1].rename(tmp_path / "away")
    assert dataset[0]["pt"] == 0
    with pytest.raises(ShardNotFoundError, match=r"jets1\.parquet"):
        dataset[1400]
    (tmp_path / "away").rename(sources[1])
    assert dataset[1400]["pt"] == 1000


def test_a_child_that_dies_names_the_file(
    sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from e2eio.direct import processes

    crash = (
        "import os, e2eio.direct.child as c; real = c.encode_shard; "
        "c.encode_shard = lambda task, *rest: os.abort() if task.index == 0 else real(task, *rest); "
    )
    program = processes._PROGRAM.replace("from e2eio", crash + "from e2eio")
    monkeypatch.setattr(processes, "_PROGRAM", program)
    dataset = direct(sources)
    with pytest.raises(
        ImporterError, match=r"process died: .*jets0\.parquet, rows 0 to 699: found Aborted"
    ):
        dataset[0]
    assert dataset[1500]["pt"] == 1100


def test_memory_is_bounded(sources: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(makers_module, "memory_limit", lambda: 100)
    with pytest.raises(ConfigError, match=r"out of memory for samples: .*cache='directory'"):
        direct(sources)[0]


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


def test_another_source_has_another_cache(sources: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = direct(sources[:1], cache)[0]["pt"]
    write(sources[0], seed=7)
    after = direct(sources[:1], cache)
    assert (before, after[0]["pt"]) == (0, 7000)
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_shard_of_the_cache_is_made_again(sources: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    truth = by_id(load(direct(sources, cache)))
    shard = next(cache.glob("*/shard-00001.e2e"))
    shard.write_bytes(shard.read_bytes()[:-100])
    assert by_id(load(direct(sources, cache))) == truth
    assert "to be made" not in repr(direct(sources, cache))


def test_a_complete_cache_outlives_its_sources(sources: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    dataset = direct(sources, cache)
    truth = by_id(load(dataset))
    assert_settles()
    assert direct(sources, cache).statistics is not None
    sources[0].unlink()
    with pytest.warns(UserWarning, match="sources are missing: .*jets0"):
        again = direct(sources, cache)
    assert again.digest == dataset.digest
    assert by_id(load(again)) == truth
    with pytest.raises(ShardNotFoundError):
        direct(sources)


PROGRAM = """
import sys, e2eio
from e2eio.importers import ImportOptions
sources, cache = sys.argv[1:-1], sys.argv[-1]
dataset = e2eio.Dataset(sources, cache=cache or None,
                        import_options=ImportOptions(shape=(2, 16, 16), channels=("a", "b")))
n = 0
for batch in e2eio.Loader(dataset, batch_size=20, framework="numpy", timeout=60):
    n += len(batch["y"])
    print(n, flush=True)
"""


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=SECONDS)


def start(sources: list[Path], cache: Path | str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, sources), str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert err == ""
    return out.split()


def test_two_processes_share_a_cache(sources: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    both = [start(sources, cache), start(sources, cache)]
    assert [finished(process)[-1] for process in both] == [str(2 * N)] * 2
    dataset = direct(sources, cache)
    assert dataset.statistics is not None
    assert not list(cache.glob("*/*tmp*"))


def test_goes_on_after_a_kill(sources: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    process = start(sources, cache)
    assert process.stdout is not None
    process.stdout.readline()
    killed(process)
    shards = list(cache.glob("*/shard-*.e2e"))
    assert shards
    for shard in shards:
        e2eio.Dataset(shard)  # whole
    assert finished(start(sources, cache))[-1] == str(2 * N)


def test_interrupt_ends_the_wait_at_once(sources: list[Path], tmp_path: Path) -> None:
    # A named pipe in the place of the second source: reading it never ends.
    program = PROGRAM.replace(
        "n = 0", f"import os\nos.unlink({str(sources[1])!r}); os.mkfifo({str(sources[1])!r})\nn = 0"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, sources), ""],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != str(N):
        assert process.poll() is None
    time.sleep(0.2)  # into the wait
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == -signal.SIGINT or "KeyboardInterrupt" in err


def test_works_from_a_program_without_a_main_guard(sources: list[Path], tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), *map(str, sources), ""],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert done.stdout.split()[-1] == str(2 * N)
    assert done.stderr == ""


def test_published_files(published: Path, truth_x1: dict[str, NDArray[np.float32]]) -> None:
    path = published / "BoostedTop_x1_fixed_0.snappy.parquet"
    loader = e2eio.Loader(
        path, batch_size=32, shuffle=True, fields=("X_jets", "sample_id"), timeout=SECONDS
    )
    for pixels, ids in loader:
        assert np.array_equal(pixels.numpy().view(np.uint32), truth_x1["X"][ids].view(np.uint32))


def test_verbs_on_datasets_want_shards(sources: list[Path], tmp_path: Path) -> None:
    from e2eio.reshard import merge

    path = shutil.copy(sources[0], tmp_path / "BoostedTop.parquet")
    rows = np.zeros((3, 8, 125, 125), np.float32)
    pq.write_table(pa.table({"X_jets": list(rows.reshape(3, -1)), "m0": [1.0] * 3}), path)
    with pytest.raises(ConfigError, match="convert it first"):
        merge([path], tmp_path / "out")
