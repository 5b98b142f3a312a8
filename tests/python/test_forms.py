"""form="coo" and form="wire" against the dense form, which test_loader.py compares with the images."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.errors import ConfigError, CorruptShardError
from e2eio.schema import Channel, ImageField, ScalarField, Schema

torch = pytest.importorskip("torch")

N, C, H, W = 90, 4, 30, 45
DTYPES = ("float32", "float16", "bfloat16")


def images_of(n: int) -> NDArray[np.float32]:
    """Channels: sparse; on the same pixels; blocks of 5 x 5; dense in places. -0.0, NaN and denormals occur."""
    rng = np.random.default_rng(11)
    dense = np.zeros((n, C, H, W), np.float32)
    hit = rng.random((n, H, W)) < 0.03
    hit[::5, 3, 4:8] = True
    dense[:, 0][hit] = rng.normal(size=hit.sum())
    dense[:, 1][hit] = rng.integers(1, 9, hit.sum())
    towers = rng.exponential(size=(n, H // 5, W // 5)) * (rng.random((n, H // 5, W // 5)) < 0.2)
    dense[:, 2] = np.kron(towers, np.ones((5, 5)))
    dense[::7, 3] = rng.normal(size=(len(dense[::7]), H, W))
    dense[::5, 0, 3, 4:8] = np.array([-0.0, np.nan, 1e-40, 1e-8])  # the last is 0 in float16
    dense[::11, :3] = 0  # nothing in three channels
    dense[22] = 0  # nothing at all
    return dense


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return images_of(N)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, images: NDArray[np.float32]) -> Path:
    out = tmp_path_factory.mktemp("forms") / "ds"
    schema = Schema(
        ImageField("X", tuple(Channel(name, "GeV") for name in "abcd"), H, W),
        (ScalarField("y", "float32", ""),),
    )
    with e2eio.write(out, schema) as writer:
        writer.append(images, {"y": np.arange(N, dtype=np.float32)})
    return out


def load(path: Path, **options: Any) -> e2eio.Loader:
    return e2eio.Loader(
        path, **{"batch_size": 16, "shuffle": True, "fields": ("X", "y"), **options}
    )


def bits(array: Any) -> NDArray[Any]:
    """The words of a tensor or array; NaN compares like any other."""
    if isinstance(array, torch.Tensor):
        array = array.view(torch.int32 if array.element_size() == 4 else torch.int16).numpy()
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


@pytest.mark.parametrize("framework", ["torch", "numpy"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [None, ["c", "b"]])
def test_coo_is_the_dense_batch_in_canonical_order(
    path: Path, framework: Any, dtype: Any, channels: Any
) -> None:
    if (framework, dtype) == ("numpy", "bfloat16"):
        pytest.skip("numpy has no bfloat16")
    options = {"framework": framework, "dtype": dtype, "channels": channels}
    with load(path, **options) as dense, load(path, form="coo", **options) as sparse:
        for _ in range(2):
            for (x, y), (coo, labels) in zip(dense, sparse, strict=True):
                assert isinstance(coo, e2eio.Coo)
                assert (y == labels).all()
                assert coo.shape == tuple(x.shape)
                expected = np.argwhere(bits(x) != 0)
                assert coo.coordinates.dtype == (
                    torch.int32 if framework == "torch" else np.dtype(np.int32)
                )
                np.testing.assert_array_equal(np.asarray(coo.coordinates), expected)
                assert coo.values.dtype == x.dtype
                np.testing.assert_array_equal(bits(coo.values), bits(x)[bits(x) != 0])
                np.testing.assert_array_equal(bits(coo.to_dense()), bits(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_wire_holds_the_dense_batch(path: Path, dtype: Any) -> None:
    with load(path, dtype=dtype) as dense, load(path, dtype=dtype, form="wire") as wires:
        for (x, y), (wire, labels) in zip(dense, wires, strict=True):
            assert isinstance(wire, e2eio.Wire)
            assert torch.equal(y, labels)
            np.testing.assert_array_equal(bits(wire.to_dense()), bits(x))
            assert wire.buffer.size == wire.header["n_bytes"]
            assert wire.payload.ctypes.data % 64 == 0
            # Channels a and b share their pixels, c has blocks, d is dense or empty.
            assert (wire.channels["first_position"][:, 0] == wire.channels["first_position"][:, 1])[
                wire.channels["n"][:, 0] > 0
            ].all()
            assert set(wire.channels["block"][:, 2][wire.channels["n"][:, 2] > 0]) <= {5}
            assert set(wire.channels["n"][:, 3]) <= {0, H * W}


def test_to_sparse_is_the_same_tensor_for_torch(path: Path) -> None:
    with load(path, channels=["c"]) as dense, load(path, channels=["c"], form="coo") as sparse:
        for (x, _), (coo, _) in zip(dense, sparse, strict=True):
            tensor = coo.to_sparse()
            assert tensor.is_coalesced()
            assert torch.equal(tensor.to_dense(), x)
            assert torch.equal(tensor.indices(), x.to_sparse().indices())


@pytest.mark.parametrize("form", ["coo", "wire"])
def test_batches_are_kept_as_long_as_an_array_lives_and_may_be_written_into(
    path: Path, images: NDArray[np.float32], form: Any
) -> None:
    loader = load(path, form=form, framework="numpy", fields=("sample_id", "X"))
    held = list(loader)
    assert loader.stats()["slots_lent"] == len(held) == 6
    for _ in range(3):
        for _, x in loader:
            for array in x[:2] if form == "coo" else x:
                array[...] = 7
            del x, array
    for ids, x in held:
        np.testing.assert_array_equal(bits(x.to_dense()), bits(images[ids]))
    one = held[0][1].coordinates[:0] if form == "coo" else held[0][1].payload[:0]
    loader.close()
    del held, x
    gc.collect()
    assert loader.stats()["slots_lent"] == 1
    del one
    gc.collect()
    assert loader.stats()["slots_lent"] == 0


def test_dicts_and_an_epoch_recycle_their_memory(path: Path) -> None:
    with e2eio.Loader(path, batch_size=16, form="coo") as loader:
        for _ in range(5):
            for batch in loader:
                assert list(batch) == ["X", "y"]
                assert isinstance(batch["X"], e2eio.Coo)
        assert loader.stats()["slots_made"] <= 4
        assert 0 < loader.stats()["slot_bytes"] < 16 * C * H * W * 24


@pytest.mark.parametrize("form", ["coo", "wire"])
def test_order_and_errors_are_those_of_the_dense_form(
    path: Path, tmp_path: Path, form: Any
) -> None:
    data = bytearray(next(path.glob("*.e2e")).read_bytes())
    sizes = e2eio.Dataset(path).readers[0].record_sizes()
    data[64 + int(sizes[:37].sum()) + 20] ^= 4
    damaged = tmp_path / "damaged.e2e"
    damaged.write_bytes(bytes(data))
    with load(damaged, form=form, shuffle=False, fields=("X", "sample_id")) as loader:
        with pytest.raises(CorruptShardError, match=r"damaged\.e2e sample 37"):
            for _, ids in loader:
                assert ids[-1] < 32
        with pytest.raises(CorruptShardError):
            list(loader)


@pytest.mark.parametrize("form", ["coo", "wire"])
def test_memory_limit_is_an_error_not_a_hang(path: Path, form: Any) -> None:
    with load(path, form=form) as loader:
        list(loader)
        one = loader.stats()["slot_bytes"]
    with load(path, form=form, memory_limit=4 * one) as loader:
        assert sum(1 for _ in loader) == 6
        with pytest.raises(ConfigError, match="still held"):
            list(loader)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "sparse"}, "'dense', 'coo', 'wire'"),
        ({"form": "coo", "layout": "NHWC"}, "NCHW"),
        ({"form": "wire", "layout": "NHWC"}, "NCHW"),
        ({"form": "coo", "layout": "CHW"}, "NCHW"),
        ({"form": "coo", "dtype": "int8"}, "int8"),
    ],
)
def test_wrong_arguments_are_refused_at_the_door(
    path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(path, **options)


@pytest.mark.parametrize("form", ["coo", "wire"])
def test_a_forked_child_may_drop_what_it_inherits(path: Path, form: str) -> None:
    code = f"""
        import os, e2eio
        loader = e2eio.Loader({str(path)!r}, batch_size=16, fields=("X",), form={form!r})
        iterator = iter(loader)
        (batch,) = next(iterator)
        pid = os.fork()
        if pid == 0:
            total = batch.to_dense().sum()
            del batch, iterator, loader
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert sum(1 for _ in iterator) == 5
    """
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], check=True, timeout=60
    )


def test_published_jets_are_the_same_in_all_forms(
    published: Path, tmp_path: Path, truth_x3: dict[str, NDArray[np.float32]]
) -> None:
    source = published / "BoostedTop_x3_fixed_0.snappy.parquet"
    e2eio.convert([source], tmp_path / "ds")
    for form in ("coo", "wire"):
        loader = e2eio.Loader(
            tmp_path / "ds",
            batch_size=8,
            form=form,
            framework="numpy",
            fields=("X_jets", "sample_id"),
        )
        with loader:
            for x, ids in loader:
                np.testing.assert_array_equal(bits(x.to_dense()), bits(truth_x3["X"][ids]))
