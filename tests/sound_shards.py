"""The sound shard that the tests damage."""

from __future__ import annotations

import numpy as np

from reference_reader import ShardSchema
from reference_writer import choose, fit_book, place, write_shard

__all__ = ["SHARD_ID", "base_images", "base_schema", "base_shard"]

SHARD_ID = bytes(range(100, 116))


def base_schema() -> ShardSchema:
    """[3, 12, 12] and two scalars."""
    channels = (("track_pt", "GeV"), ("d0", "cm"), ("bpix1", "hits"))
    return ShardSchema("X", channels, 12, 12, "float32", (("y", "int64", ""), ("b", "bool", "")))


def base_images() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Four samples: empty, sparse with a shared support, dense, one pixel."""
    images = np.zeros((4, 3, 12, 12), np.float32)
    rng = np.random.default_rng(7)
    where = rng.random((12, 12)) < 0.1
    images[1, 0, where], images[1, 1, where] = 0.25, -1.5
    images[1, 2, 3, 4:7] = [1, 2, 255]
    images[2, 0] = rng.integers(1, 5, (12, 12)) / 3
    images[3, 2, 11, 11] = -0.0
    return images


def base_shard(shard_id: bytes = SHARD_ID, *, compress: bool = True, coded: bool = False) -> bytes:
    """A sound shard of about 2 kB; `coded`: with codes, and most planes in the lanes."""
    images, schema = base_images(), base_schema()
    columns = [np.arange(4), np.array([True, False, True, True])]
    choices = [choose(image) for image in images]
    book = fit_book(images, choices) if coded else None
    if book:
        wanted = (0x7F, 0x7F, 0x4C, 0x3F)
        sets = zip(images, choices, wanted, strict=True)
        choices = [place(image, picked, book, mask) for image, picked, mask in sets]
    return write_shard(
        schema, images, columns, shard_id=shard_id, choices=choices, compress=compress, book=book
    )
