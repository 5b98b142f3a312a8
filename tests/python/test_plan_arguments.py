"""What the plan takes for arguments, from Python and from numpy, and what its state says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import e2eio
from e2eio import sampling
from e2eio.errors import ConfigError, StateError
from e2eio.schema import Channel, ImageField, ScalarField, Schema

N = 60


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("arguments") / "ds"
    channels = (Channel("a", "GeV"), Channel("b", "GeV"))
    schema = Schema(ImageField("X", channels, 6, 6), (ScalarField("y", "int64", ""),))
    with e2eio.write(out, schema) as writer:
        writer.append(np.ones((N, 2, 6, 6), dtype=np.float32), {"y": np.arange(N) % 4})
    return out


def make(path: Path, **options: Any) -> e2eio.Loader:
    defaults: dict[str, Any] = {"batch_size": 8, "threads": 1, "framework": "numpy"}
    return e2eio.Loader(path, **{"fields": ("X", "sample_id"), **defaults, **options})


def ids_of(batches: Any) -> list[int]:
    return [number for _, ids in batches for number in ids.tolist()]


@pytest.mark.parametrize("shuffle", [True, False, "window"])
def test_the_length_of_a_mixture_is_the_sum_of_its_parts(path: Path, shuffle: Any) -> None:
    mix = sampling.mix({"y == 0": 1, "y == 2": 2})
    with make(path, weights=mix, shuffle=shuffle) as loader:
        assert loader.state_dict()["length"] == loader.plan_description()["length"] == N // 2
        assert len(ids_of(loader)) == N // 2
        loader.set_epoch(0)
        state = loader.state_dict()
        with pytest.raises(StateError, match="damaged state: epoch 0, position 31 of 30 samples"):
            loader.load_state_dict({**state, "position": 31})
        loader.load_state_dict({**state, "position": 30})
        assert ids_of(loader) == []
    with make(path, weights=mix, samples_per_epoch=7) as loader:
        assert loader.state_dict()["length"] == len(ids_of(loader)) == 7


def test_seek_counts_the_batches_of_the_ranks_that_are_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(path) as loader:
        monkeypatch.setenv("E2EIO_RANK", "1")  # the job is set up after the loader was made
        monkeypatch.setenv("E2EIO_WORLD_SIZE", "3")
        loader.seek(0, 2)
        state = loader.state_dict()
        assert (loader.rank, state["position"]) == (1, 2 * 8 * 3)
    with make(path, rank=1, world_size=3) as other:
        other.seek(0, 2)
        assert other.state_dict() == state
        assert ids_of(other) == [52, 53, 54, 55]


def test_another_epoch_is_the_state_though_an_iterator_is_held(path: Path) -> None:
    with make(path, shuffle=True) as loader:
        held = iter(loader)
        next(held)
        loader.set_epoch(0)  # its own: nothing changes
        assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (0, 8)
        for epoch in (1, 5):
            loader.set_epoch(epoch)
            assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (epoch, 0)
            next(held)
            assert loader.state_dict()["epoch"] == epoch
        state = loader.state_dict()
        rest = ids_of(loader)
    with make(path, shuffle=True) as other:
        other.load_state_dict(state)
        assert ids_of(other) == rest


def test_numbers_of_numpy_are_numbers(path: Path) -> None:
    of_numpy: dict[str, Any] = {
        "batch_size": np.int64(4),
        "seed": np.uint32(3),
        "shuffle": np.bool_(True),
        "drop_last": np.bool_(False),
        "verify": np.bool_(True),
        "threads": np.int32(1),
        "prefetch": np.int8(2),
        "memory_limit": np.uint64(1 << 28),
        "channels": list(np.arange(2)),
        "samples_per_epoch": np.int64(50),
        "weights": sampling.flat("y", bins=np.int64(10)),
        "rank": np.int64(1),
        "world_size": np.int64(2),
        "timeout": np.float32(50),
    }
    plain = {name: value.item() for name, value in of_numpy.items() if hasattr(value, "item")}
    plain |= {"channels": [0, 1], "weights": sampling.flat("y", bins=10)}
    with make(path, **of_numpy) as loader, make(path, **plain) as other:
        loader.set_epoch(np.int64(2))
        other.set_epoch(2)
        assert loader.plan_digest() == other.plan_digest()
        assert json.loads(json.dumps(loader.state_dict())) == other.state_dict()
        assert ids_of(loader) == ids_of(other)
    assert repr(of_numpy["weights"]) == "Weights(flat('y', bins=10))"
    with make(path, transforms=[e2eio.transforms.Rot90(np.int64(1))]) as loader:
        assert len(ids_of(loader)) == N


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"timeout": "5"}, "timeout is '5'; expected seconds above 0, or None"),
        ({"timeout": True}, "timeout is True"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"batch_size": True}, "batch_size is True"),
        ({"batch_size": np.bool_(True)}, "batch_size is np.True_"),
        ({"batch_size": 4.0}, "batch_size is 4.0; expected an integer of at least 1"),
        (
            {"batch_size": 2**70},
            "batch_size is 1180591620717411303424; expected an integer of at most",
        ),
        ({"drop_last": 1}, "drop_last is 1; expected True or False"),
        ({"channels": [np.int64(2)]}, "unknown channel"),
        ({"channels": [np.bool_(True)]}, "unknown channel"),
        ({"dtype": "f4"}, "dtype is 'f4'; expected 'float32', 'float16', 'bfloat16'"),
        ({"dtype": "float64"}, "dtype is 'float64'; expected 'float32', 'float16', 'bfloat16'"),
        ({"dtype": np.float32}, "dtype is <class 'numpy.float32'>; expected 'float32'"),
    ],
)
def test_what_is_no_such_argument_is_named(path: Path, options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        make(path, **options)


def test_epochs_beyond_64_bits_are_refused_at_the_door(path: Path) -> None:
    with make(path) as loader:
        state = loader.state_dict()
        for epoch in (2**63, 2**64, 2**70):
            with pytest.raises(
                ConfigError, match=f"epoch is {epoch}; expected an integer of at most"
            ):
                loader.set_epoch(epoch)
            with pytest.raises(ConfigError, match="epoch is"):
                loader.seek(epoch, 0)
            with pytest.raises(ConfigError, match="batch is"):
                loader.seek(0, epoch)
            with pytest.raises(StateError, match=f"damaged state: epoch {epoch}"):
                loader.load_state_dict({**state, "epoch": epoch})
        assert loader.state_dict() == state
        loader.set_epoch(2**63 - 1)
        assert len(ids_of(loader)) == N
