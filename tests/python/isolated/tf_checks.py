# Run by test_tensorflow.py in a process of its own.
from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import keras  # type: ignore[import-untyped]
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

import e2eio
import made_dataset
from e2eio import transforms as t
from e2eio.errors import ConfigError

N = 150
FIELDS = ("X", "sample_id")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.float32]]:
    path = tmp_path_factory.mktemp("tf") / "ds"
    return path, made_dataset.make(path, N)


@pytest.fixture
def path(made: tuple[Path, NDArray[np.float32]]) -> Path:
    return made[0]


@pytest.fixture
def images(made: tuple[Path, NDArray[np.float32]]) -> NDArray[np.float32]:
    """[n, H, W, C]."""
    return np.moveaxis(made[1], 1, 3)


def loader_of(path: Path, **options: Any) -> e2eio.Loader:
    return e2eio.Loader(path, **{"batch_size": 16, "fields": FIELDS, "framework": "tf", **options})


def check_epoch(batches: Any, images: NDArray[Any]) -> list[int]:
    seen: list[int] = []
    for x, ids in batches:
        np.testing.assert_array_equal(x.numpy(), images[ids.numpy()])
        seen += ids.numpy().tolist()
        del x
    return seen


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_batches_are_tensors(path: Path, images: NDArray[np.float32], dtype: Any) -> None:
    expected = images.astype(getattr(tf, dtype).as_numpy_dtype)
    with loader_of(path, shuffle=True, dtype=dtype, layout="NHWC") as loader:
        for _ in range(2):
            assert sorted(check_epoch(loader, expected)) == list(range(N))
        x, ids = next(iter(loader))
        assert (x.dtype, ids.dtype) == (getattr(tf, dtype), tf.int64)
    with loader_of(path, layout="NCHW") as loader:
        assert next(iter(loader))[0].shape == (16, 3, 40, 48)


def test_held_tensors_never_change_while_the_ring_goes_round(
    path: Path, images: NDArray[np.float32]
) -> None:
    with loader_of(path, shuffle=True, prefetch=1, layout="NHWC") as loader:
        held = list(loader)
        held += list(loader.to_tf())
        for _ in range(3):
            check_epoch(loader, images)
            check_epoch(loader.to_tf(), images)
        check_epoch(held, images)


def test_coo_batches_become_dense_and_sparse(path: Path, images: NDArray[np.float32]) -> None:
    with loader_of(path, form="coo", shuffle=True) as loader:
        for coo, ids in list(loader):
            expected = images[ids.numpy()].transpose(0, 3, 1, 2)
            np.testing.assert_array_equal(coo.to_dense().numpy(), expected)
            np.testing.assert_array_equal(tf.sparse.to_dense(coo.to_sparse()).numpy(), expected)
        with pytest.raises(ConfigError, match="dense"):
            loader.to_tf()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_datasets_have_the_channels_last(
    path: Path, images: NDArray[np.float32], dtype: Any, layout: Any
) -> None:
    expected = images.astype(getattr(tf, dtype).as_numpy_dtype)
    with loader_of(
        path,
        shuffle=True,
        dtype=dtype,
        layout=layout,
        framework="numpy" if dtype != "bfloat16" else "torch",
    ) as loader:
        batches = loader.to_tf()
        assert batches.element_spec == (
            tf.TensorSpec((None, 40, 48, 3), dtype),
            tf.TensorSpec((None,), tf.int64),
        )
        assert len(batches) == int(batches.cardinality()) == len(loader) == 10
        epochs = [check_epoch(batches, expected) for _ in range(3)]
        assert all(sorted(epoch) == list(range(N)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == 3
        assert loader.stats()["batches"] >= 10
        # The loader and its datasets count the same epochs.
        assert [i for _, ids in loader for i in ids.tolist()] not in epochs
        loader.set_epoch(1)
        assert check_epoch(batches, expected) == epochs[1]
        assert [i for _, ids in loader for i in ids.tolist()] == epochs[2]


@pytest.mark.parametrize("n", [16, 151])
def test_the_batch_axis_is_static_where_all_batches_are_full(path: Path, n: int) -> None:
    with loader_of(
        path,
        fields=None,
        channels=["c", "a"],
        transforms=(t.Crop(8, 10),),
        batch_size=n,
        drop_last=True,
    ) as loader:
        batches = loader.to_tf()
        assert batches.element_spec == {
            "X": tf.TensorSpec((n, 8, 10, 2), tf.float32),
            "y": tf.TensorSpec((n,), tf.float32),
            "run": tf.TensorSpec((n,), tf.int64),
        }
        found = list(batches)
        assert len(found) == len(loader)
        assert all(batch["X"].shape == (n, 8, 10, 2) for batch in found)


def test_tensors_lie_over_the_ring_and_are_not_written_into(
    path: Path, images: NDArray[np.float32]
) -> None:
    # TensorFlow may give a tensor's memory to the result of an operation; not if the memory is ours.
    with loader_of(path, shuffle=True, prefetch=1, layout="NHWC") as loader:
        held = list(loader.to_tf())
        assert loader.stats()["slots_lent"] == len(held)
        del held
        changed = loader.to_tf().map(lambda x, ids: (tf.nn.relu(x * 2 + 1), ids), 2).prefetch(2)
        step = tf.function(lambda x: tf.clip_by_value(x * 2 + 5, 0, 3), jit_compile=True)
        for _ in range(4):
            for x, _ in changed:
                step(x)
            for x, ids in loader.to_tf():
                step(x)
                np.testing.assert_array_equal(x.numpy(), images[ids.numpy()])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_leaving_early_ends_the_epoch(path: Path, images: NDArray[np.float32], layout: Any) -> None:
    with loader_of(path, shuffle=True, layout=layout) as loader:
        batches = loader.to_tf()
        for _ in range(5):
            for x, _ in batches.prefetch(2):
                del x
                break
        gc.collect()
        tf.constant(0) + 0  # TensorFlow drops references to numpy arrays when it is next called
        assert loader.stats()["slots_lent"] == 0
        assert not any(each._iterators for each in (loader, *loader._others))
        assert sorted(check_epoch(batches, images)) == list(range(N))
    with pytest.raises(tf.errors.InvalidArgumentError, match="closed"):
        next(iter(batches))


def test_errors_say_what_happened(path: Path, tmp_path: Path) -> None:
    source = next(path.glob("*.e2e"))
    data = bytearray(source.read_bytes())
    sizes = e2eio.Dataset(path).readers[0].record_sizes()
    data[64 + int(sizes[:37].sum()) + 20] ^= 4
    (tmp_path / "damaged.e2e").write_bytes(bytes(data))
    seen: list[int] = []
    with (
        loader_of(tmp_path / "damaged.e2e") as loader,
        pytest.raises(tf.errors.OpError, match=r"CorruptShardError.*sample 37"),
    ):
        for _, ids in loader.to_tf():
            seen += ids.numpy().tolist()
    assert seen == list(range(32))


def test_keras_fits_two_epochs(path: Path) -> None:
    seen: list[int] = []
    with loader_of(path, fields=("X", "y"), shuffle=True) as loader:
        batches = loader.to_tf().map(lambda x, y: (x, y / 100))
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.layers.Input((40, 48, 3)),
                keras.layers.Conv2D(2, 5, strides=4),
                keras.layers.Flatten(),
                keras.layers.Dense(1),
            ]
        )
        model.compile("adam", "mse")
        count = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: seen.append(batch)
        )
        history = model.fit(
            batches,
            epochs=2,
            shuffle=False,
            verbose=0,
            callbacks=[count],
            validation_data=loader.to_tf(),
        )
        assert len(history.history["loss"]) == 2
        assert seen == [*range(10), *range(10)]
        assert model.predict(loader.to_tf(), verbose=0).shape == (N, 1)
        assert loader.state_dict()["epoch"] == 5


PAGE = Path(__file__).parents[3] / "docs" / "jax-and-tensorflow.md"


@pytest.mark.parametrize("program", made_dataset.documented_programs(PAGE, "tf"))
def test_documented_programs_run(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_dataset.make(tmp_path / "data" / "top", 40, "X_jets")
    monkeypatch.chdir(tmp_path)
    exec(program, {})
