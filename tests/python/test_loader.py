from __future__ import annotations

import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.errors import ConfigError, CorruptShardError, ForkError, StaleBatchError
from e2eio.schema import Channel, ImageField, ScalarField, Schema

torch = pytest.importorskip("torch")

N, C, H, W = 150, 3, 40, 40
FIELDS = ("X", "sample_id")


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    dense = np.where(rng.random((N, C, H, W)) < 0.02, rng.normal(size=(N, C, H, W)), 0.0)
    dense[:, 1] = np.kron(
        rng.exponential(size=(N, 8, 8)) * (rng.random((N, 8, 8)) < 0.1), np.ones((5, 5))
    )
    return dense.astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, images: NDArray[np.float32]) -> Path:
    out = tmp_path_factory.mktemp("loader") / "ds"
    schema = Schema(
        ImageField("X", tuple(Channel(name, "GeV") for name in ("a", "b", "c")), H, W),
        (ScalarField("y", "float32", ""),),
    )
    with e2eio.write(out, schema) as writer:
        writer.append(images, {"y": np.arange(N, dtype=np.float32)})
    return out


def as_numpy(value: Any) -> NDArray[Any]:
    return np.asarray(value)


def check_epoch(batches: Iterator[Any] | e2eio.Loader, images: NDArray[np.float32]) -> list[int]:
    seen: list[int] = []
    for x, ids in batches:
        np.testing.assert_array_equal(as_numpy(x), images[as_numpy(ids)])
        seen.extend(as_numpy(ids).tolist())
        del x
    return seen


@pytest.mark.parametrize("framework", ["torch", "numpy"])
@pytest.mark.parametrize("writable", [False, True])
def test_every_epoch_is_a_new_exact_permutation(
    path: Path, images: NDArray[np.float32], framework: Any, writable: bool
) -> None:
    with e2eio.Loader(
        path, batch_size=32, shuffle=True, fields=FIELDS, framework=framework, writable=writable
    ) as loader:
        epochs = [check_epoch(loader, images) for _ in range(4)]
    assert len(loader) == 5
    assert all(sorted(epoch) == list(range(N)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert loader.stats()["slots"] <= loader.stats()["prefetch_limit"] + 2


def test_order_is_a_function_of_seed_and_epoch(path: Path, images: NDArray[np.float32]) -> None:
    def order(seed: int, epoch: int, threads: int) -> list[int]:
        with e2eio.Loader(
            path, batch_size=32, shuffle=True, seed=seed, fields=FIELDS, threads=threads
        ) as loader:
            loader.set_epoch(epoch)
            return check_epoch(loader, images)

    assert order(0, 5, 1) == order(0, 5, 2)
    assert order(0, 5, 1) != order(1, 5, 1)
    assert order(0, 5, 1) != order(0, 6, 1)


def test_batches_are_dicts_or_tuples_with_labels_that_fit(path: Path) -> None:
    with e2eio.Loader(path, batch_size=32) as loader:
        batch = next(iter(loader))
        assert list(batch) == ["X", "y"]
        assert batch["X"].shape == (32, C, H, W)
        assert batch["y"].tolist() == list(range(32))
    with e2eio.Loader(path, batch_size=32, shuffle=True, fields=("y", "X", "sample_id")) as loader:
        for y, _, ids in loader:
            assert y.tolist() == ids.tolist()


def test_drop_last_and_sizes(path: Path) -> None:
    def sizes(**options: Any) -> list[int]:
        with e2eio.Loader(path, batch_size=40, fields=FIELDS, **options) as loader:
            found = [len(ids) for _, ids in loader]
            assert len(loader) == len(found)
        return found

    assert sizes() == [40, 40, 40, 30]
    assert sizes(drop_last=True) == [40, 40, 40]
    assert sizes(rank=1, world_size=4) == [38]
    assert sizes(rank=0, world_size=4, drop_last=True) == []


def test_ranks_cover_the_dataset_with_equal_lengths(
    path: Path, images: NDArray[np.float32]
) -> None:
    ranks = []
    for rank in range(4):
        with e2eio.Loader(
            path, batch_size=16, shuffle=True, fields=FIELDS, rank=rank, world_size=4
        ) as loader:
            ranks.append(check_epoch(loader, images))
    assert [len(ids) for ids in ranks] == [38] * 4
    counts = Counter(number for ids in ranks for number in ids)
    assert sorted(counts) == list(range(N))
    assert sum(counts.values()) - N == 2


def test_ranks_come_from_the_launcher(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    with e2eio.Loader(path, batch_size=10) as loader:
        assert (loader.rank, loader.world_size) == (1, 3)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with e2eio.Loader(path, batch_size=10) as loader:
        assert (loader.rank, loader.world_size) == (0, 2)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtype_layout_and_channels(
    path: Path, images: NDArray[np.float32], dtype: Any, layout: Any
) -> None:
    with e2eio.Loader(
        path, batch_size=64, fields=FIELDS, dtype=dtype, layout=layout, channels=["c", 0]
    ) as loader:
        for _ in range(2):
            for x, ids in loader:
                expected = torch.from_numpy(images[ids.numpy()][:, [2, 0]]).to(
                    getattr(torch, dtype)
                )
                assert torch.equal(
                    x, expected if layout == "NCHW" else expected.permute(0, 2, 3, 1)
                )


def test_held_batches_keep_their_content_and_cost_slots(
    path: Path, images: NDArray[np.float32]
) -> None:
    loader = e2eio.Loader(path, batch_size=10, shuffle=True, fields=FIELDS)
    held = list(loader)
    assert loader.stats()["slots_lent"] == 15
    loader.close()
    del loader
    for x, ids in held:
        np.testing.assert_array_equal(x.numpy(), images[ids.numpy()])


def test_a_view_of_a_batch_keeps_the_memory(path: Path, images: NDArray[np.float32]) -> None:
    loader = e2eio.Loader(path, batch_size=10, fields=("X",), framework="numpy")
    pixel_rows = [x[3, 0, :5] for (x,) in loader]
    for _ in range(3):
        for _ in loader:
            pass
    for b, rows in enumerate(pixel_rows):
        np.testing.assert_array_equal(rows, images[b * 10 + 3, 0, :5])


def test_numpy_batches_cannot_be_made_writable(path: Path) -> None:
    with e2eio.Loader(path, batch_size=10, fields=("X",), framework="numpy") as loader:
        (x,) = next(iter(loader))
        with pytest.raises(ValueError, match="read-only"):
            x[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            x.setflags(write=True)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("how", ["whole", "view", "detach", "slice"])
def test_in_place_torch_operations_are_noticed_and_harmless(
    path: Path, images: NDArray[np.float32], how: str, inference: bool
) -> None:
    changes = {
        "whole": lambda x: x.add_(1),
        "view": lambda x: x.view(-1).mul_(3).add_(2),
        "detach": lambda x: x.detach().sub_(1),
        "slice": lambda x: x[2:, 1].fill_(4),
    }
    with e2eio.Loader(path, batch_size=32, shuffle=True, fields=FIELDS) as loader:
        with (
            torch.inference_mode(mode=inference),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            for _ in range(3):
                for x, ids in loader:
                    np.testing.assert_array_equal(x.numpy(), images[ids.numpy()])
                    changes[how](x)
                    del x
        assert len(caught) == 1
        assert "writable=True" in str(caught[0].message)


def test_writes_past_torch_raise_an_error_that_says_what_to_do(path: Path) -> None:
    with (
        e2eio.Loader(path, batch_size=32, fields=("X",)) as loader,
        pytest.raises(StaleBatchError, match="writable=True"),
    ):
        for _ in range(3):
            for (x,) in loader:
                x.numpy()[...] += 1
                del x


def test_writable_batches_belong_to_the_user(path: Path, images: NDArray[np.float32]) -> None:
    with e2eio.Loader(path, batch_size=32, shuffle=True, fields=FIELDS, writable=True) as loader:
        for _ in range(3):
            for x, ids in loader:
                np.testing.assert_array_equal(x.numpy(), images[ids.numpy()])
                x.numpy()[...] = 5
                del x


def test_two_iterators_at_once_are_independent(path: Path, images: NDArray[np.float32]) -> None:
    with e2eio.Loader(path, batch_size=16, shuffle=True, fields=FIELDS) as loader:
        first, second = iter(loader), iter(loader)
        seen: tuple[list[int], list[int]] = ([], [])
        for pair in zip(first, second, strict=True):
            for k, (x, ids) in enumerate(pair):
                np.testing.assert_array_equal(x.numpy(), images[ids.numpy()])
                seen[k].extend(ids.tolist())
        assert sorted(seen[0]) == sorted(seen[1]) == list(range(N))
        assert seen[0] != seen[1]


def threads_now() -> int:
    """Count this process's threads once the number has stayed for a while: ended ones linger."""
    counts = [len(list(Path("/proc/self/task").iterdir()))]
    while len(counts) < 5 or len(set(counts[-5:])) > 1:
        time.sleep(0.01)
        counts.append(len(list(Path("/proc/self/task").iterdir())))
    return counts[-1]


def test_threads_start_late_and_end_with_the_loader(path: Path) -> None:
    gc.collect()  # what other tests left ends its threads now
    before = threads_now()
    loader = e2eio.Loader(path, batch_size=16, threads=3)
    assert threads_now() == before
    for taken in (0, 1, 5, 10):
        iterator = iter(loader)
        for _ in range(taken):
            next(iterator, None)
        # Those that read ahead come if the page cache has lost the file.
        readers = loader.stats()["io"]["readers"]
        assert threads_now() == before + (3 if taken else 0) + readers
        del iterator
    loader.close()
    loader.close()
    assert threads_now() == before
    with pytest.raises(ConfigError, match="closed"):
        iter(loader)
    dropped = e2eio.Loader(path, batch_size=16, threads=3)
    iterator = iter(dropped)
    next(iterator)
    del dropped, iterator
    gc.collect()
    assert threads_now() == before


def test_closing_ends_running_iterators(path: Path) -> None:
    loader = e2eio.Loader(path, batch_size=16)
    iterator = iter(loader)
    next(iterator)
    loader.close()
    assert list(iterator) == []


def test_memory_limit_is_an_error_not_a_hang(path: Path) -> None:
    with e2eio.Loader(path, batch_size=10, memory_limit=4 * 10 * C * H * W * 4) as loader:
        assert sum(1 for _ in loader) == 15
        with pytest.raises(ConfigError, match="still held"):
            list(loader)
    with pytest.raises(ConfigError, match="memory_limit"):
        e2eio.Loader(path, batch_size=10, memory_limit=1000)


def test_a_damaged_record_is_named(path: Path, tmp_path: Path) -> None:
    source = next(path.glob("*.e2e"))
    data = bytearray(source.read_bytes())
    sizes = e2eio.Dataset(path).readers[0].record_sizes()
    offset = 64 + int(sizes[:37].sum())
    data[offset + 20] ^= 4
    damaged = tmp_path / "damaged.e2e"
    damaged.write_bytes(bytes(data))
    with e2eio.Loader(damaged, batch_size=10, fields=FIELDS) as loader:
        with pytest.raises(CorruptShardError, match=r"damaged\.e2e sample 37") as raised:
            for _, ids in loader:
                assert ids[-1] < 30
        assert (raised.value.sample, raised.value.offset_bytes) == (37, offset)
        assert str(raised.value.path) == str(damaged)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"shuffle": "yes"}, "shuffle"),
        ({"fields": ("X", "mass")}, "mass"),
        ({"fields": "X"}, "sequence"),
        ({"fields": ("y",)}, "Dataset.scalars"),
        ({"channels": ["a", "ecal"]}, "ecal"),
        ({"channels": []}, "at least one"),
        ({"channels": [0, "a"]}, "each once"),
        ({"dtype": "float64"}, "float64"),
        ({"dtype": "bfloat16", "framework": "numpy"}, "bfloat16"),
        ({"layout": "CHW"}, "NCHW"),
        ({"framework": "mxnet"}, "mxnet"),
        ({"threads": 0}, "threads"),
        ({"prefetch": -1}, "prefetch"),
        ({"rank": 1}, "both or neither"),
        ({"rank": 2, "world_size": 2}, "rank is 2"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_wrong_arguments_are_refused_at_the_door(
    path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        e2eio.Loader(path, **{"batch_size": 8, **options})


def test_use_after_fork_is_an_error_not_a_hang(path: Path) -> None:
    code = f"""
        import os, sys, e2eio
        loader = e2eio.Loader({str(path)!r}, batch_size=16, fields=("X",))
        iterator = iter(loader)
        batch = next(iterator)
        pid = os.fork()
        if pid == 0:
            try:
                next(iterator)
            except e2eio.errors.ForkError as error:
                del batch, iterator, loader
                made = e2eio.Loader({str(path)!r}, batch_size=16)
                os._exit(7 if sum(1 for _ in made) == 10 and "fork" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert sum(1 for _ in iterator) == 9
    """
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], check=True, timeout=60
    )
    assert issubclass(ForkError, RuntimeError)


@pytest.mark.parametrize(
    "ending", ["pass", "raise SystemExit(0)", "del loader", "iterator.close()"]
)
def test_the_process_ends_in_every_state(path: Path, ending: str) -> None:
    code = f"""
        import e2eio
        loader = e2eio.Loader({str(path)!r}, batch_size=16, fields=("X",))
        iterator = iter(loader)
        kept = next(iterator)
        {ending}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_ends_the_loop_and_the_loader_goes_on(
    path: Path, images: NDArray[np.float32]
) -> None:
    main = threading.main_thread().ident
    assert main is not None
    with e2eio.Loader(path, batch_size=10, fields=FIELDS) as loader:
        with pytest.raises(KeyboardInterrupt):
            threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
            while True:
                for _ in loader:
                    time.sleep(0.001)
        assert sorted(check_epoch(loader, images)) == list(range(N))
