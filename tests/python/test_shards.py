from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from e2eio import manifest
from e2eio.errors import ConfigError, ShardExistsError
from e2eio.schema import DTYPES, Channel, ImageField, ScalarField, Schema
from e2eio.shards import decode_statistics, open_shard, shard_name, write

SCHEMA = Schema(
    ImageField("X", (Channel("a", "GeV"), Channel("b", "cm")), 6, 5),
    (ScalarField("y", "int64"), ScalarField("pt", "float32", "GeV")),
)


def make_images(n: int, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    images = random.normal(size=(n, 2, 6, 5)).astype(np.float32)
    images[random.random(images.shape) < 0.8] = 0
    return images


def same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and np.array_equal(
        np.ascontiguousarray(one).view(np.uint8), np.ascontiguousarray(other).view(np.uint8)
    )


def read_back(out: Path) -> NDArray[np.float32]:
    readers = [open_shard(out / shard.file) for shard in manifest.read(out).shards]
    return np.concatenate(
        [reader.decode(np.arange(reader.n_samples), [0, 1]) for reader in readers]
    )


def test_round_trip_over_several_shards(tmp_path: Path) -> None:
    images = make_images(23)
    images[3, 0, 0, :4] = np.array([0x7FC00001, 0x80000000, 1, 0xFF800000], np.uint32).view("f4")
    y, pt = np.arange(23), np.linspace(400, 500, 23, dtype=np.float32)
    with write(tmp_path / "d", SCHEMA, shard_samples=5) as writer:
        writer.append(images[:7], {"y": y[:7], "pt": pt[:7]})
        writer.append(images[7], {"y": 7, "pt": pt[7]})
        writer.append(images[8:], {"y": y[8:], "pt": pt[8:]})
        assert writer.n_samples == 23
    content = manifest.read(tmp_path / "d")
    assert [shard.n_samples for shard in content.shards] == [5, 5, 5, 5, 3]
    assert [shard.file for shard in content.shards] == [shard_name(k) for k in range(5)]
    assert content.schema == SCHEMA
    assert same_bits(read_back(tmp_path / "d"), images)
    readers = [open_shard(tmp_path / "d" / shard.file) for shard in content.shards]
    assert np.array_equal(np.concatenate([reader.column(0) for reader in readers]), y)
    assert same_bits(np.concatenate([reader.column(1) for reader in readers]), pt)
    for shard, reader in zip(content.shards, readers, strict=True):
        assert (shard.digest, shard.n_bytes) == (reader.digest, Path(reader.path).stat().st_size)


def test_any_strides_and_float64(tmp_path: Path) -> None:
    images = make_images(6)
    hwc = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for name, given in {
        "hwc": hwc,
        "reversed": images[::-1],
        "double": images.astype("f8"),
    }.items():
        with write(tmp_path / name, SCHEMA) as writer:
            writer.append(given, {"y": np.zeros(6, int), "pt": np.zeros(6, np.float32)})
        assert same_bits(read_back(tmp_path / name), np.ascontiguousarray(given.astype("f4")))


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype("f4", metadata={"from": "elsewhere"}),
        np.dtype("f4").newbyteorder("="),
        np.dtype("f8").newbyteorder("="),
    ],
)
def test_dtypes_are_compared_not_their_objects(tmp_path: Path, dtype: np.dtype[Any]) -> None:
    images = make_images(2)
    y = np.zeros(2, np.dtype("i8", metadata={"from": "elsewhere"}))
    with write(tmp_path / "d", SCHEMA) as writer:
        writer.append(images.astype(dtype), {"y": y, "pt": np.zeros(2, np.float32)})
    assert same_bits(read_back(tmp_path / "d"), images)


def test_size_ends_a_shard(tmp_path: Path) -> None:
    with write(tmp_path / "d", SCHEMA, shard_bytes=2_000) as writer:
        for k in range(40):
            images = make_images(64, k)
            writer.append(images, {"y": np.zeros(64, int), "pt": np.zeros(64, np.float32)})
    sizes = [shard.n_bytes for shard in manifest.read(tmp_path / "d").shards]
    assert len(sizes) > 2
    assert read_back(tmp_path / "d").shape == (2560, 2, 6, 5)


def test_statistics_written_are_those_decoded_and_those_of_numpy(tmp_path: Path) -> None:
    images = make_images(30)
    images[2, 1, 0, :3] = (np.nan, np.inf, -0.0)
    with write(tmp_path / "d", SCHEMA, shard_samples=11) as writer:
        writer.append(images, {"y": np.zeros(30, int), "pt": np.zeros(30, np.float32)})
    content = manifest.read(tmp_path / "d")
    parts = [decode_statistics(open_shard(tmp_path / "d" / s.file)) for s in content.shards]
    decoded = manifest.merge_statistics(parts, 2)
    for channel, (written, read) in enumerate(zip(content.statistics, decoded, strict=True)):
        pixels = images[:, channel]
        stored = pixels[pixels.view(np.uint32) != 0]
        finite = stored[np.isfinite(stored)].astype(np.float64)
        assert (written.nonzero, written.nonfinite) == (stored.size, stored.size - finite.size)
        assert (written.min, written.max) == (finite.min(), finite.max())
        assert written.sum == pytest.approx(finite.sum(), rel=1e-12)
        assert written.sum_squares == pytest.approx((finite**2).sum(), rel=1e-12)
        assert (read.nonzero, read.nonfinite) == (written.nonzero, written.nonfinite)
        assert (read.min, read.max) == (written.min, written.max)
        assert read.sum == pytest.approx(written.sum, rel=1e-12)
    assert content.statistics[1].nonfinite == 2


def test_empty_channel_has_no_range(tmp_path: Path) -> None:
    images = make_images(3)
    images[:, 1] = 0
    with write(tmp_path / "d", SCHEMA) as writer:
        writer.append(images, {"y": np.zeros(3, int), "pt": np.zeros(3, np.float32)})
    assert manifest.read(tmp_path / "d").statistics[1] == manifest.ChannelStatistics()


def test_no_samples_is_a_dataset_too(tmp_path: Path) -> None:
    with write(tmp_path / "d", SCHEMA):
        pass
    content = manifest.read(tmp_path / "d")
    assert (content.n_samples, len(content.shards)) == (0, 1)
    assert open_shard(tmp_path / "d" / content.shards[0].file).n_samples == 0


def test_same_bytes_with_a_dataset_id_and_others_without(tmp_path: Path) -> None:
    digests = []
    for name, dataset_id in (("a", b"k"), ("b", b"k"), ("c", None), ("d", None)):
        with write(tmp_path / name, SCHEMA, dataset_id=dataset_id) as writer:
            writer.append(make_images(4), {"y": np.zeros(4, int), "pt": np.zeros(4, np.float32)})
        digests.append(manifest.read(tmp_path / name).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_precision_argument_is_recorded(tmp_path: Path) -> None:
    images = make_images(4)
    with write(tmp_path / "d", SCHEMA, precision="float16") as writer:
        writer.append(images, {"y": np.zeros(4, int), "pt": np.zeros(4, np.float32)})
    assert manifest.read(tmp_path / "d").schema.image.precision == "float16"
    assert same_bits(read_back(tmp_path / "d"), images.astype(np.float16).astype(np.float32))


def test_an_error_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with write(tmp_path / "d", SCHEMA, shard_samples=2) as writer:
            writer.append(make_images(5), {"y": np.zeros(5, int), "pt": np.zeros(5, np.float32)})
            assert list((tmp_path / "d").glob("shard-0000?.e2e"))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert list((tmp_path / "d").iterdir()) == []


def test_existing_dataset_is_kept_unless_overwritten(tmp_path: Path) -> None:
    for _ in range(2):
        with write(tmp_path / "d", SCHEMA, shard_samples=1, overwrite=True) as writer:
            writer.append(make_images(3), {"y": np.zeros(3, int), "pt": np.zeros(3, np.float32)})
    before = manifest.read(tmp_path / "d")
    with pytest.raises(ShardExistsError, match=r"dataset\.json"):
        write(tmp_path / "d", SCHEMA)
    assert manifest.read(tmp_path / "d") == before
    with write(tmp_path / "d", SCHEMA, overwrite=True) as writer:
        writer.append(make_images(1), {"y": 1, "pt": 1.5})
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [
        "dataset.json",
        "shard-00000.e2e",
    ]


def test_wrong_arguments(tmp_path: Path) -> None:
    good = {"y": np.zeros(2, int), "pt": np.zeros(2, np.float32)}
    with write(tmp_path / "d", SCHEMA) as writer:
        for images in (make_images(2)[:, :1], make_images(2).astype(np.int32), np.zeros(3, "f4")):
            with pytest.raises(ConfigError, match="expected float32 or float64"):
                writer.append(images, good)
        for scalars in ({}, {"y": good["y"]}, {**good, "z": good["y"]}):
            with pytest.raises(ConfigError, match="wrong scalars"):
                writer.append(make_images(2), scalars)
        for wrong in (np.zeros(3, int), np.array([0.5, 1]), np.array(["a", "b"]), 1):
            with pytest.raises(ConfigError, match="wrong scalar 'y'"):
                writer.append(make_images(2), {**good, "y": wrong})
        assert writer.n_samples == 0
    with pytest.raises(ConfigError, match="after finish"):
        writer.append(make_images(2), good)
    with pytest.raises(ConfigError, match="shard size"):
        write(tmp_path / "e", SCHEMA, shard_bytes=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalars_of_every_dtype(tmp_path: Path, dtype: str) -> None:
    schema = Schema(SCHEMA.image, (ScalarField("s", dtype),))
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        values = np.array([np.iinfo(kind).min, np.iinfo(kind).max, 1], kind)
    else:
        values = np.array([0, 1, np.nan if kind.kind == "f" else 1], kind)
    with write(tmp_path / "d", schema) as writer:
        writer.append(make_images(3), {"s": values})
    column = open_shard(tmp_path / "d" / shard_name(0)).column(0)
    assert column.dtype == kind
    assert same_bits(column, values)


def test_integers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    schema = Schema(SCHEMA.image, (ScalarField("s", "int8"),))
    with write(tmp_path / "d", schema) as writer:
        with pytest.raises(ConfigError, match="int8"):
            writer.append(make_images(1), {"s": 300})
        writer.append(make_images(1), {"s": -128})
