"""Small datasets of any bits, and what the verbs on datasets make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

import e2eio
from e2eio import manifest
from e2eio.manifest import Manifest
from e2eio.reshard import merge, repack, shuffle, split
from e2eio.schema import Channel, ImageField, Precision, ScalarField, Schema
from e2eio.shards import open_shard

QUIET: dict[str, Any] = {"progress": False}
SCALARS = (
    ScalarField("y", "int8"),
    ScalarField("pt", "float32", "GeV"),
    ScalarField("event", "uint64"),
)
VERBS = ("merge", "shuffle", "repack", "split")


def schema_of(extent: tuple[int, int, int], precision: Precision = "float32") -> Schema:
    channels = tuple(Channel(name, "GeV") for name in "abcde"[: extent[0]])
    return Schema(ImageField("X", channels, extent[1], extent[2], precision), SCALARS)


def bits_of(n: int, extent: tuple[int, int, int], seed: int) -> NDArray[np.float32]:
    """Sparse images of any bits: NaN with payloads, infinities, -0.0, denormals."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 1 << 32, (n, *extent), np.uint32)
    special = np.array([0x80000000, 0x7FC12345, 0xFF800000, 1, 0x3F800000], np.uint32)
    bits = np.where(random.random(bits.shape) < 0.5, random.choice(special, bits.shape), bits)
    bits[random.random(bits.shape) < 0.7] = 0
    return bits.view(np.float32)


def columns_of(n: int, seed: int) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed + 1)
    pt = random.integers(0, 1 << 32, n, np.uint32).view(np.float32)
    return {
        "y": random.integers(0, 3, n).astype(np.int8),
        "pt": pt,
        "event": random.integers(0, max(1, n // 3), n).astype(np.uint64),
    }


def make(
    path: Path,
    n: int,
    *,
    extent: tuple[int, int, int] = (2, 4, 4),
    seed: int = 0,
    precision: Precision = "float32",
    shard_samples: int = 7,
) -> Path:
    with e2eio.write(
        path, schema_of(extent, precision), shard_samples=shard_samples, dataset_id=bytes(16)
    ) as writer:
        if n:
            images = bits_of(n, extent, seed)
            if precision == "float16":
                half = (images.view(np.uint32) >> 16).astype(np.uint16).view(np.float16)
                images = half.astype(np.float32)
            writer.append(images, columns_of(n, seed))
    return path


Samples = tuple[NDArray[np.uint32], dict[str, NDArray[Any]]]


def samples_of(path: Path) -> Samples:
    """Bits of all pixels and scalar fields, in order; the shards are those that dataset.json lists."""
    content = manifest.read(path)
    readers = [open_shard(path / shard.file) for shard in content.shards]
    channels = range(len(content.schema.channels))
    images = [reader.decode(np.arange(reader.n_samples), list(channels)) for reader in readers]
    columns = {
        field.name: np.concatenate([reader.column(k) for reader in readers])
        for k, field in enumerate(content.schema.scalars)
    }
    bits = {name: column.view(f"u{column.itemsize}") for name, column in columns.items()}
    return np.concatenate(images).view(np.uint32), bits


def same_samples(found: Samples, expected: Samples, ids: NDArray[np.int64] | None = None) -> bool:
    where = slice(None) if ids is None else ids
    return np.array_equal(found[0], expected[0][where]) and all(
        np.array_equal(found[1][name], column[where]) for name, column in expected[1].items()
    )


def apply(verb: str, source: Path, out: Path, **options: Any) -> dict[Path, Manifest]:
    options = {**QUIET, **options}
    if verb == "split":
        parts = split(source, out, fractions={"a": 0.5, "b": 0.5}, **options)
        return {out / name: content for name, content in parts.items()}
    function = cast(
        "Callable[..., Manifest]", {"merge": merge, "shuffle": shuffle, "repack": repack}[verb]
    )
    return {out: function(source, out, **options)}


def assert_divided(out: Path, whole: Samples, sizes: dict[str, int]) -> None:
    """Each part is a subsequence of the whole, and together they are all of it."""
    keys = [row.tobytes() for row in rows(whole)]
    left = dict.fromkeys(keys, 0)
    for key in keys:
        left[key] += 1
    for name, n in sizes.items():
        part = rows(samples_of(out / name))
        assert len(part) == n
        place = iter(keys)
        for row in part:
            left[row.tobytes()] -= 1
            assert any(key == row.tobytes() for key in place), "not in file order"
    assert set(left.values()) <= {0}


def rows(samples: Samples) -> NDArray[np.uint8]:
    images, columns = samples
    n = len(images)
    parts = [images.reshape(n, -1).view(np.uint8)]
    parts += [np.ascontiguousarray(c)[:, None].view(np.uint8) for c in columns.values()]
    return np.concatenate(parts, axis=1)
