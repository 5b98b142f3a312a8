"""The content digest against docs/format.md, section 7.1, in plain numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio import _core, manifest
from e2eio.cli.main import main
from e2eio.schema import Channel, ImageField, ScalarField, Schema
from e2eio.shards import open_shard, open_writer

MODULUS = 2**127 - 1
BASE = 0x5851F42D4C957F2D14057B7EF767814F


def mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        value = value + np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ value >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ value >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        mixed: NDArray[np.uint64] = value ^ value >> np.uint64(31)
        return mixed


def of_pixels(image: NDArray[np.float32]) -> int:
    words = np.ascontiguousarray(image).view(np.uint32).ravel().astype(np.uint64)
    places = np.flatnonzero(words).astype(np.uint64)
    return int(mix(places << np.uint64(32) | words[places.astype(int)]).sum(dtype=np.uint64))


def of_scalar(name: str, value: Any) -> int:
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 % 2**64
    number = value.item()
    if isinstance(number, float) and not (number.is_integer() and -(2**63) <= number < 2**63):
        kind, bits = 2, int(np.float64(number).view(np.uint64))
    elif isinstance(number, float) and number == 0 and np.signbit(number):
        kind, bits = 2, 1 << 63
    else:
        kind, bits = int(int(number) >= 2**63), int(number) % 2**64
    inner = mix(np.array([(key + kind) % 2**64], np.uint64))
    return int(mix(inner ^ np.uint64(bits))[0])


def make_images(n: int, channels: int, edge: int) -> NDArray[np.float32]:
    random = np.random.default_rng(3)
    images = random.normal(size=(n, channels, edge, edge)).astype(np.float32)
    images[random.random(images.shape) < 0.8] = 0
    images[:, 1] = np.kron(images[:, 1, ::5, ::5], np.ones((5, 5)))[:, :edge, :edge]  # blocks
    images[::3, 2] = random.normal(size=images[::3, 2].shape)  # dense
    images[1, 0, 0, :4] = (np.nan, np.inf, -0.0, 1e-45)
    return images


def make_schema(scalars: tuple[ScalarField, ...], **image: Any) -> Schema:
    channels = tuple(Channel(name) for name in ("a", "b", "c"))
    return Schema(ImageField("X", channels, 10, 10, **image), scalars)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float32", [0.5, -0.0, np.nan, 3.0, -np.inf, 0.1]),
        ("float64", [0.1, 1e300, -7.0, 2.0**63, -(2.0**63), 0.0]),
        ("int8", [-128, 127, 0, 1, 2, 3]),
        ("int64", [-(2**63), 2**63 - 1, 0, 1, 2, 3]),
        ("uint64", [2**64 - 1, 2**63, 0, 1, 2, 3]),
        ("uint16", [65535, 0, 1, 2, 3, 4]),
        ("bool", [True, False, True, False, True, True]),
    ],
)
def test_each_dtype_as_the_page_says(tmp_path: Path, dtype: str, values: list[Any]) -> None:
    schema = make_schema((ScalarField("\u03b7", dtype),))
    images, column = make_images(6, 3, 10), np.array(values, dtype)
    writer = open_writer(tmp_path / "a.e2e", schema, shard_id=bytes(16))
    writer.append(images, [column])
    writer.finish()
    expected = [
        (of_pixels(image) + of_scalar("\u03b7", value)) % 2**64
        for image, value in zip(images, column, strict=True)
    ]
    assert writer.sample_digests().tolist() == expected
    reader = open_shard(tmp_path / "a.e2e")
    assert reader.sample_digests(0, 6).tolist() == expected
    assert reader.sample_digests(2, 5).tolist() == expected[2:5]
    value = 0
    for digest in expected:
        value = (value * BASE + digest + 1) % MODULUS
    assert manifest.content_digest(reader.sample_digests(0, 6)) == f"{value:032x}"


def write_dataset(out: Path, dtypes: dict[str, str], **options: Any) -> manifest.Manifest:
    schema = make_schema(tuple(ScalarField(name, dtype) for name, dtype in dtypes.items()))
    with e2eio.write(out, schema, **options) as writer:
        writer.append(make_images(20, 3, 10), {name: np.arange(20) % 2 for name in dtypes})
    return manifest.read(out)


def test_equal_for_equal_samples_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_dataset(tmp_path / "1", {"y": "int64", "pt": "float64"}, shard_samples=20)
    other = write_dataset(
        tmp_path / "2", {"pt": "float32", "y": "bool"}, shard_samples=7, compression_level=9
    )
    assert one.content == other.content
    assert one.digest != other.digest
    assert len(other.contents or ()) == 3
    renamed = write_dataset(tmp_path / "3", {"label": "int64", "pt": "float64"})
    assert renamed.content != one.content
    assert main(["inspect", str(tmp_path / "1")]) == 0
    assert f"content: {one.content}" in capsys.readouterr().out


def test_every_change_of_a_sample_changes_it(tmp_path: Path) -> None:
    images = make_images(4, 3, 10)
    changed = {"none": images}
    for name, at, bits in (("sign", (2, 0, 3, 3), 1 << 31), ("last bit", (2, 0, 3, 3), 1)):
        changed[name] = images.copy()
        changed[name].view(np.uint32)[at] ^= np.uint32(bits)
    changed["order"] = images[[1, 0, 2, 3]]
    changed["channels"] = images[:, [1, 0, 2]]
    changed["transposed"] = images.transpose(0, 1, 3, 2)
    changed["one less"] = images[:3]
    changed["one empty more"] = np.concatenate([images, np.zeros_like(images[:1])])
    digests = {}
    for name, given in changed.items():
        writer = open_writer(tmp_path / name, make_schema(()), shard_id=bytes(16))
        writer.append(given, [])
        writer.finish()
        digests[name] = manifest.content_digest(writer.sample_digests())
    assert len(set(digests.values())) == len(changed)


def test_float16_is_digested_as_it_is_stored(tmp_path: Path) -> None:
    images = np.abs(np.nan_to_num(make_images(4, 3, 10), posinf=1.0)) + 0.1
    writer = open_writer(
        tmp_path / "a.e2e", make_schema((), precision="float16"), shard_id=bytes(16)
    )
    writer.append(images, [])
    writer.finish()
    expected = [of_pixels(image) for image in images.astype("f2").astype("f4")]
    assert writer.sample_digests().tolist() == expected
    assert open_shard(tmp_path / "a.e2e").sample_digests(0, 4).tolist() == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_writer_zeroes_or_leaves_out_what_is_not_finite(tmp_path: Path, dtype: str) -> None:
    images = make_images(5, 3, 10).astype(dtype)
    images[3, 2, 9, 9] = -np.inf
    for policy, left_out in (("keep", []), ("zero", []), ("skip", [1, 3])):
        writer = open_writer(
            tmp_path / policy,
            make_schema(()),
            shard_id=bytes(16),
            nonfinite=policy,  # type: ignore[arg-type]
        )
        assert writer.append(images, []).tolist() == left_out
        writer.finish()
        expected = images.astype(np.float32)
        if policy == "zero":
            expected = np.where(np.isfinite(expected), expected, np.float32(0))
        expected = np.delete(expected, left_out, axis=0)
        found = open_shard(tmp_path / policy).decode(np.arange(len(expected)), [0, 1, 2])
        assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))
        assert writer.n_zeroed == (3 if policy == "zero" else 0)
    with pytest.raises(e2eio.errors.ConfigError, match="keep, zero or skip"):
        _core.ShardWriter("x", make_schema(()).to_core(), bytes(16), 3, True, "drop")


def test_wrong_range(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", {})
    reader = open_shard(tmp_path / "d" / "shard-00000.e2e")
    with pytest.raises(e2eio.errors.ConfigError, match="expected within"):
        reader.sample_digests(3, 21)
