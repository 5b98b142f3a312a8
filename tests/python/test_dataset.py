from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.errors import (
    ConfigError,
    CorruptShardError,
    SchemaMismatchError,
    ShardIOError,
    ShardNotFoundError,
)
from e2eio.schema import Channel, ImageField, ScalarField, Schema

N = 70


def small_schema(image: str = "X_jets") -> Schema:
    channels = (Channel("track_pt", "GeV"), Channel("hcal", "GeV"), Channel("bpix1", "hits"))
    return Schema(
        ImageField(image, channels, 10, 10),
        (ScalarField("y", "int64", ""), ScalarField("pt", "float32", "GeV")),
    )


def small_images(n: int = N) -> NDArray[np.float32]:
    """Return [n, 3, 10, 10]: sparse floats, 5x5 blocks, small integers; sample i is told by its values."""
    rng = np.random.default_rng(7)
    images = np.zeros((n, 3, 10, 10), np.float32)
    images[:, 0][rng.random((n, 10, 10)) < 0.1] = rng.exponential(5.0)
    images[:, 0] *= 1 + np.arange(n, dtype=np.float32)[:, None, None]
    images[:, 1] = np.kron(
        rng.exponential(size=(n, 2, 2)) * (rng.random((n, 2, 2)) < 0.5), np.ones((5, 5))
    )
    images[:, 2] = rng.integers(0, 3, (n, 10, 10)) * (rng.random((n, 10, 10)) < 0.2)
    return images


def write_small(
    path: Path, images: NDArray[np.float32], first: int = 0, image: str = "X_jets"
) -> Path:
    ids = np.arange(first, first + len(images))
    with e2eio.write(path, small_schema(image)) as writer:
        writer.append(images, {"y": ids, "pt": 400 + ids.astype(np.float32)})
    return path


@pytest.fixture
def dataset_path(tmp_path: Path) -> Path:
    return write_small(tmp_path / "ds", small_images())


def test_samples_equal_what_was_written(dataset_path: Path) -> None:
    images = small_images()
    ds = e2eio.Dataset(dataset_path)
    assert len(ds) == N
    assert ds.channels == ("track_pt", "hcal", "bpix1")
    for i in (0, 17, N - 1, -1):
        sample = ds[i]
        assert list(sample) == ["X_jets", "y", "pt"]
        assert sample["X_jets"].dtype == np.float32
        np.testing.assert_array_equal(sample["X_jets"], images[i])
        assert sample["y"] == i % N
        assert sample["pt"] == np.float32(400 + i % N)


def test_several_sources_are_one_sequence(tmp_path: Path) -> None:
    images = small_images()
    first = write_small(tmp_path / "a", images[:20])
    second = write_small(tmp_path / "b", images[20:], first=20)
    ds = e2eio.Dataset([first, next(second.glob("*.e2e"))])
    wanted = [3, 69, 19, 20, 3]
    samples = ds.__getitems__(wanted)
    for number, sample in zip(wanted, samples, strict=True):
        np.testing.assert_array_equal(sample["X_jets"], images[number])
        assert sample["y"] == number
    np.testing.assert_array_equal(ds.scalars("y"), np.arange(N))


def test_many_samples_at_once_come_in_the_order_asked_for(tmp_path: Path) -> None:
    images = small_images()
    paths = [
        write_small(tmp_path / "a", images[:40]),
        write_small(tmp_path / "b", images[40:], first=40),
    ]
    ds = e2eio.Dataset(paths)
    wanted = np.random.default_rng(1).integers(-N, N, 300)
    samples = ds.__getitems__(wanted)
    assert [int(sample["y"]) for sample in samples] == (wanted % N).tolist()
    for number, sample in zip(wanted % N, samples, strict=True):
        np.testing.assert_array_equal(sample["X_jets"], images[number])
        assert sample["X_jets"].flags.writeable
    assert ds.__getitems__([]) == []


def test_scalars_touch_no_image_byte(dataset_path: Path) -> None:
    shard = next(dataset_path.glob("*.e2e"))
    data = bytearray(shard.read_bytes())
    data[64:200] = bytes(136)  # records
    shard.write_bytes(bytes(data))
    ds = e2eio.Dataset(dataset_path)
    assert ds.scalars("pt")[-1] == 400 + N - 1
    with pytest.raises(CorruptShardError, match="sample 0 at byte 64") as raised:
        ds[0]
    assert raised.value.path == str(shard)
    assert raised.value.sample == 0
    assert raised.value.offset_bytes == 64


def test_a_pickled_dataset_opens_the_same_shards(dataset_path: Path) -> None:
    ds = e2eio.Dataset(dataset_path)
    data = pickle.dumps(ds)
    assert len(data) < 1000
    assert pickle.loads(data).digest == ds.digest
    write_small(dataset_path.parent / "other", small_images(5))
    for shard in dataset_path.glob("*"):
        shard.unlink()
    for file in (dataset_path.parent / "other").glob("*"):
        shutil.copy(file, dataset_path / file.name)
    with pytest.raises(CorruptShardError, match="changed"):
        pickle.loads(data)


def test_a_plain_torch_dataloader_reads_it(dataset_path: Path) -> None:
    torch = pytest.importorskip("torch")
    loader = torch.utils.data.DataLoader(e2eio.Dataset(dataset_path), batch_size=32, num_workers=2)
    images = small_images()
    seen = 0
    for batch in loader:
        for image, label in zip(batch["X_jets"].numpy(), batch["y"].tolist(), strict=True):
            np.testing.assert_array_equal(image, images[label])
            seen += 1
    assert seen == N


def test_wrong_numbers_and_names_are_refused(dataset_path: Path) -> None:
    ds = e2eio.Dataset(dataset_path)
    for index in (N, -N - 1):
        with pytest.raises(IndexError):
            ds[index]
    with pytest.raises(TypeError, match="Loader"):
        ds[1:3]  # type: ignore[index]
    with pytest.raises(ConfigError, match="expected one of y, pt"):
        ds.scalars("m0")


def test_wrong_sources_are_refused(tmp_path: Path, dataset_path: Path) -> None:
    with pytest.raises(ShardNotFoundError, match="missing"):
        e2eio.Dataset(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ShardNotFoundError, match="e2eio convert"):
        e2eio.Dataset(tmp_path / "empty")
    with pytest.raises(ConfigError):
        e2eio.Dataset([])
    with pytest.raises(ConfigError, match="unknown protocol"):
        e2eio.Dataset("nope://bucket/top")
    with pytest.raises(ShardIOError):
        e2eio.Dataset("/dev/null")
    with pytest.raises(ConfigError, match="NUL"):
        e2eio.Dataset("a\0b")
    other = write_small(tmp_path / "other", small_images(3), image="X")
    with pytest.raises(SchemaMismatchError, match="other"):
        e2eio.Dataset([dataset_path, other])


def test_a_shard_that_is_not_the_listed_one_is_refused(tmp_path: Path, dataset_path: Path) -> None:
    other = write_small(tmp_path / "other", small_images(N) * 2)
    shard = next(dataset_path.glob("*.e2e"))
    shutil.copy(next(other.glob("*.e2e")), shard)
    with pytest.raises(CorruptShardError, match="digest"):
        e2eio.Dataset(dataset_path)
