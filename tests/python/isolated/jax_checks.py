# Run by test_jax.py in a process of its own, with 8 CPU devices.
from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from numpy.typing import NDArray

import e2eio
import made_dataset
from e2eio.errors import ConfigError, CorruptShardError

N = 150
FIELDS = ("X", "sample_id")
P: Any = jax.sharding.PartitionSpec


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.float32]]:
    path = tmp_path_factory.mktemp("jax") / "ds"
    return path, made_dataset.make(path, N)


@pytest.fixture
def path(made: tuple[Path, NDArray[np.float32]]) -> Path:
    return made[0]


@pytest.fixture
def images(made: tuple[Path, NDArray[np.float32]]) -> NDArray[np.float32]:
    return made[1]


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    assert jax.device_count() == 8
    return jax.make_mesh((8,), ("batch",))


def loader_of(path: Path, **options: Any) -> e2eio.Loader:
    return e2eio.Loader(path, **{"batch_size": 16, "fields": FIELDS, "framework": "jax", **options})


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_batches_are_arrays_on_the_default_device(
    path: Path, images: NDArray[np.float32], dtype: Any, layout: Any
) -> None:
    expected = images.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    if layout == "NHWC":
        expected = expected.transpose(0, 2, 3, 1)
    with loader_of(path, shuffle=True, dtype=dtype, layout=layout) as loader:
        for _ in range(2):
            for x, ids in loader:
                assert isinstance(x, jax.Array)
                assert (x.dtype, x.devices()) == (dtype, {jax.devices()[0]})
                np.testing.assert_array_equal(np.asarray(x), expected[np.asarray(ids)])


def test_dicts_have_all_fields(path: Path) -> None:
    with loader_of(path, fields=None) as loader:
        batch = next(iter(loader))
    assert list(batch) == ["X", "y", "run"]
    assert all(isinstance(value, jax.Array) for value in batch.values())
    assert batch["run"].tolist() == list(range(16))


def cycled(loader: Any, images: NDArray[np.float32], held: list[Any]) -> None:
    """Let the ring go round, then look at what was held."""
    for _ in range(4):
        for x, ids in loader:
            np.testing.assert_array_equal(np.asarray(x), images[np.asarray(ids)])
            del x
    assert held
    for x, ids in held:
        np.testing.assert_array_equal(np.asarray(x), images[np.asarray(ids)])


def test_held_batches_never_change_while_the_ring_goes_round(
    path: Path, images: NDArray[np.float32]
) -> None:
    with loader_of(path, shuffle=True, prefetch=1, threads=2) as loader:
        held = list(loader)
        cycled(loader, images, held)
        # A view on the device shares the memory as well.
        rows = [(x[3], ids[3]) for x, ids in held]
        del held
        cycled(loader, images, [(x[None], i[None]) for x, i in rows])


def test_slots_return_to_the_ring_when_arrays_are_gone(path: Path) -> None:
    with loader_of(path, prefetch=1) as loader:
        for _ in range(3):
            for x, _ in loader:
                del x
        gc.collect()
        assert loader.stats()["slots_lent"] == 0
        assert loader.stats()["slots"] <= 5


def test_donated_arrays_are_not_written_into_the_ring(
    path: Path, images: NDArray[np.float32]
) -> None:
    step = jax.jit(lambda x: x * 2 + 5, donate_argnums=0)
    with loader_of(path, shuffle=True, prefetch=1) as loader:
        for _ in range(3):
            for x, ids in loader:
                expected = images[np.asarray(ids)] * 2 + 5
                np.testing.assert_array_equal(np.asarray(step(x)), expected)
                del x
            cycled(loader, images, [next(iter(loader))])


def test_coo_batches_are_pytrees_and_become_dense_and_bcoo(
    path: Path, images: NDArray[np.float32]
) -> None:
    with loader_of(path, form="coo", shuffle=True) as loader:
        held = list(loader)
        for _ in loader:
            pass
    total = jax.jit(lambda coo: coo.to_bcoo().todense().sum())
    for coo, ids in held:
        expected = images[np.asarray(ids)]
        np.testing.assert_array_equal(np.asarray(coo.to_dense()), expected)
        np.testing.assert_array_equal(np.asarray(coo.to_bcoo().todense()), expected)
        assert jax.tree.map(lambda x: x, coo).shape == expected.shape
    np.testing.assert_allclose(total(held[0][0]), images[np.asarray(held[0][1])].sum(), rtol=1e-4)


def test_integers_that_do_not_fit_are_refused_not_wrapped(tmp_path: Path) -> None:
    schema = e2eio.Dataset(_written(tmp_path, [1, -3, 2**40])).schema
    assert schema.scalars[0].dtype == "int64"
    with e2eio.Loader(tmp_path / "big", batch_size=2, framework="jax") as loader:
        batches = iter(loader)
        assert next(batches)["event"].tolist() == [1, -3]
        with pytest.raises(ConfigError, match="jax_enable_x64"):
            next(batches)
    with (
        jax.enable_x64(True),
        e2eio.Loader(tmp_path / "big", batch_size=3, framework="jax") as loader,
    ):
        assert next(iter(loader))["event"].tolist() == [1, -3, 2**40]


def _written(tmp_path: Path, events: list[int]) -> Path:
    s = e2eio.schema
    schema = s.Schema(
        s.ImageField("X", (s.Channel("a", "GeV"),), 4, 4), (s.ScalarField("event", "int64", ""),)
    )
    with e2eio.write(tmp_path / "big", schema) as writer:
        writer.append(np.ones((len(events), 1, 4, 4), np.float32), {"event": np.array(events)})
    return tmp_path / "big"


def test_global_batches_lie_on_all_devices(
    path: Path, images: NDArray[np.float32], mesh: Mesh
) -> None:
    with e2eio.jax.global_batches(loader_of(path, shuffle=True, drop_last=True), mesh) as batches:
        assert len(batches) == len(iter(batches)) == 9
        for epoch in range(3):
            batches.set_epoch(epoch)
            seen: list[int] = []
            for x, ids in batches:
                assert x.shape == (16, *images.shape[1:])
                assert x.sharding.is_equivalent_to(batches.sharding, x.ndim)
                for shard in x.addressable_shards:
                    rows = np.asarray(ids)[shard.index[0]]
                    assert (
                        shard.data.devices()
                        == {shard.device}
                        == {mesh.devices[len(rows) and shard.index[0].start // 2]}
                    )
                    np.testing.assert_array_equal(np.asarray(shard.data), images[rows])
                seen += ids.tolist()
            assert len(set(seen)) == 144
    with e2eio.Loader(
        path, batch_size=16, shuffle=True, drop_last=True, fields=FIELDS, framework="numpy"
    ) as plain:
        plain.set_epoch(2)
        assert seen == [i for _, ids in plain for i in ids.tolist()]


def test_global_batches_never_change_while_the_ring_goes_round(
    path: Path, images: NDArray[np.float32], mesh: Mesh
) -> None:
    loader = loader_of(path, shuffle=True, drop_last=True, prefetch=1)
    with e2eio.jax.global_batches(loader, mesh) as batches:
        cycled(batches, images, list(batches))


def test_global_batches_of_dicts_in_bfloat16(path: Path, mesh: Mesh) -> None:
    loader = loader_of(path, fields=None, dtype="bfloat16", drop_last=True, layout="NHWC")
    sharding = NamedSharding(mesh, P("batch", None, None, None))
    with e2eio.jax.global_batches(loader, sharding) as batches:
        batch = next(iter(batches))
    assert batch["X"].dtype == jax.numpy.bfloat16
    assert batch["X"].shape == (16, 40, 48, 3)
    assert batch["y"].tolist() == list(range(16))
    assert len(batch["y"].addressable_shards) == 8


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_as_many_batches_are_sent_ahead_as_asked_for(path: Path, mesh: Mesh, depth: int) -> None:
    loader = loader_of(path, drop_last=True, threads=1)
    with e2eio.jax.global_batches(loader, mesh, depth=depth) as batches:
        iterator = iter(batches)
        taken = []
        for delivered in range(1, 10):
            taken.append(next(iterator))
            assert loader.stats()["batches"] == min(delivered + depth - 1, 9)
        with pytest.raises(StopIteration):
            next(iterator)
        with pytest.raises(StopIteration):
            next(iterator)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_state_counts_what_the_loop_was_given(path: Path, mesh: Mesh, depth: int) -> None:
    loader = loader_of(path, shuffle=True, drop_last=True)
    with e2eio.jax.global_batches(loader, mesh, depth=depth) as batches:
        for used in (1, 4, 8, 9):
            batches.set_epoch(3)
            order = [ids.tolist() for _, ids in batches]
            batches.set_epoch(3)
            iterator = iter(batches)
            for _ in range(used):
                next(iterator)
            assert len(iterator) == 9 - used
            state = loader.state_dict()
            iterator.close()
            loader.load_state_dict(state)
            assert [ids.tolist() for _, ids in batches] == order[used:]
            assert loader.state_dict()["epoch"] == 4


def test_meshes_of_several_axes_and_other_packages_loaders(
    path: Path, images: NDArray[np.float32]
) -> None:
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    with pytest.raises(ConfigError, match="mesh has the axes"):
        e2eio.jax.global_batches(loader_of(path), mesh)
    sharding = NamedSharding(mesh, P("data"))
    assert e2eio.jax.process_share(sharding) == (0, 1)
    loader = loader_of(path, framework="numpy", drop_last=True)
    with e2eio.jax.global_batches(loader, sharding) as batches:
        x, ids = next(iter(batches))
    assert len({shard.index[0].start for shard in x.addressable_shards}) == 4
    np.testing.assert_array_equal(np.asarray(x), images[np.asarray(ids)])
    with pytest.raises(ConfigError, match="first axis only"):
        e2eio.jax.global_batches(loader_of(path), NamedSharding(mesh, P("data", "model")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"last batch has 6 samples .* drop_last=True"),
        ({"batch_size": 12, "drop_last": True}, "batch_size is 12 .* multiple of 8"),
        ({"rank": 0, "world_size": 2}, "rank 0 of 2.*rank=0, world_size=1"),
        ({"form": "coo", "drop_last": True}, "dense"),
    ],
)
def test_what_cannot_be_split_is_refused_before_the_first_batch(
    path: Path, mesh: Mesh, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        e2eio.jax.global_batches(loader_of(path, **options), mesh)
    with pytest.raises(ConfigError, match="Mesh or Sharding"):
        e2eio.jax.global_batches(loader_of(path), jax.devices())
    with pytest.raises(ConfigError, match="depth"):
        e2eio.jax.global_batches(loader_of(path, drop_last=True), mesh, depth=0)


def test_a_last_batch_that_divides_is_delivered(path: Path, mesh: Mesh) -> None:
    sharding = NamedSharding(Mesh(mesh.devices[:2], ("batch",)), P("batch"))
    with e2eio.jax.global_batches(loader_of(path), sharding) as batches:
        assert [len(ids) for _, ids in batches] == [16] * 9 + [6]


def test_an_error_comes_after_the_batches_before_it(path: Path, tmp_path: Path, mesh: Mesh) -> None:
    source = next(path.glob("*.e2e"))
    data = bytearray(source.read_bytes())
    sizes = e2eio.Dataset(path).readers[0].record_sizes()
    data[64 + int(sizes[:37].sum()) + 20] ^= 4
    (tmp_path / "damaged.e2e").write_bytes(bytes(data))
    loader = loader_of(tmp_path / "damaged.e2e", drop_last=True)
    with e2eio.jax.global_batches(loader, mesh, depth=3) as batches:
        seen = []
        with pytest.raises(CorruptShardError, match="sample 37"):
            for _, ids in batches:
                seen += ids.tolist()
        assert seen == list(range(32))


@pytest.fixture
def no_new_threads() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.usefixtures("no_new_threads")
def test_leaving_the_loop_early_gives_everything_back(path: Path, mesh: Mesh) -> None:
    loader = loader_of(path, drop_last=True)
    batches = e2eio.jax.global_batches(loader, mesh)
    for x, _ in batches:
        del x
        break
    gc.collect()
    assert loader.stats()["slots_lent"] == 0
    iterator = iter(batches)
    next(iterator)
    batches.close()
    with pytest.raises(StopIteration):
        next(iterator)
    with pytest.raises(ConfigError, match="closed"):
        iter(batches)


PAGE = Path(__file__).parents[3] / "docs" / "jax-and-tensorflow.md"


@pytest.mark.parametrize("program", made_dataset.documented_programs(PAGE, "jax"))
def test_documented_programs_run(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_dataset.make(tmp_path / "data" / "top", 40, "X_jets")
    monkeypatch.chdir(tmp_path)
    exec(program, {})
