"""Single shards: their names, opening, and the statistics of their pixels."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from e2eio import _core, manifest
from e2eio.manifest import ChannelStatistics
from e2eio.remote import RemoteUrl, StorageOptions, is_url
from e2eio.schema import Schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "DEFAULT_SHARD_BYTES",
    "SHARD_NAME",
    "SLICE_BYTES",
    "decode_statistics",
    "open_shard",
    "open_writer",
    "shard_name",
    "shard_paths",
    "slice_samples",
    "written_statistics",
]

DEFAULT_SHARD_BYTES: Final = 256 << 20

#: File names that writers of this package give to shards.
SHARD_NAME: Final = re.compile(r"shard-\d{5,}\.e2e")

SLICE_BYTES: Final = 32 << 20  # dense bytes decoded or appended at a time


def slice_samples(schema: Schema) -> int:
    """Return how many samples to hold decoded at a time."""
    n_channels, height, width = schema.image.shape
    return max(1, SLICE_BYTES // (4 * n_channels * height * width))


def shard_name(index: int) -> str:
    """Return the file name of the shard number `index`.

    Examples
    --------
    >>> shard_name(42)
    'shard-00042.e2e'
    """
    return f"shard-{index:05d}.e2e"


def shard_paths(directory: str | os.PathLike[str]) -> list[Path]:
    """Return the shards in a directory, by name."""
    return sorted(Path(directory).glob("*.e2e"))


def open_shard(
    path: str | os.PathLike[str],
    *,
    io: Literal["auto", "pread", "uring"] = "auto",
    throttle: tuple[float, float] | None = None,
) -> _core.ShardReader:
    """Open one shard; its header, schema and directory are verified.

    Parameters
    ----------
    path : path
        A file ``*.e2e``, or the URL of one, which `io` and `throttle` do not concern.
    io : {"auto", "pread", "uring"}
        How it is read. "auto": as the environment variable ``E2EIO_IO`` says, else by pread. "uring" is pread
        where the kernel refuses io_uring, or the build has none; the reader's ``io`` tells.
    throttle : (float, float) or None
        Bytes per second (0: no limit) of all threads together, and seconds added to a read that does not
        begin where the last one ended. A tool for measurements and tests: it makes a slow disk or a distant
        server out of any file. The Dataset to load from takes readers: ``Dataset([open_shard(...)])``.

    Raises
    ------
    ConfigError
        `io`, ``E2EIO_IO`` or `throttle` is none of these.
    ShardNotFoundError, ShardIOError, CorruptShardError, UnsupportedFormatError
        The shard cannot be read.

    Examples
    --------
    >>> slow = open_shard("data/top/shard-00000.e2e", throttle=(100e6, 0.005))  # doctest: +SKIP
    >>> loader = e2eio.Loader(e2eio.Dataset([slow]), batch_size=64)  # doctest: +SKIP
    """
    if is_url(path):
        from e2eio.remote.opening import open_shard as open_remote  # brings in asyncio

        return open_remote(RemoteUrl(path), StorageOptions())
    return _core.ShardReader(os.fspath(path), io, throttle)


def open_writer(
    path: str | os.PathLike[str],
    schema: Schema,
    *,
    shard_id: bytes,
    compression_level: int = 3,
    overwrite: bool = False,
    nonfinite: Literal["keep", "zero", "skip"] = "keep",
) -> _core.ShardWriter:
    """Begin one shard; it gets its name when it is finished.

    `nonfinite` says what becomes of NaN and infinite pixels: kept bit for bit, made 0, or the whole
    sample left out.
    """
    return _core.ShardWriter(
        os.fspath(path), schema.to_core(), shard_id, compression_level, overwrite, nonfinite
    )


def written_statistics(writer: _core.ShardWriter) -> tuple[ChannelStatistics, ...]:
    """Return the statistics of what `writer` was given, one per channel."""
    columns = writer.statistics()
    rows = []
    for channel in range(len(columns["nonzero"])):
        nonzero = int(columns["nonzero"][channel])
        nonfinite = int(columns["nonfinite"][channel])
        finite = nonzero > nonfinite
        rows.append(
            ChannelStatistics(
                nonzero,
                nonfinite,
                float(columns["min"][channel]) if finite else None,
                float(columns["max"][channel]) if finite else None,
                float(columns["sum"][channel]),
                float(columns["sum_squares"][channel]),
            )
        )
    return tuple(rows)


def decode_statistics(reader: _core.ShardReader) -> tuple[ChannelStatistics, ...]:
    """Return the statistics of a shard by decoding it, one per channel.

    Raises
    ------
    CorruptShardError
        A record is damaged.
    """
    schema = Schema.from_core(reader.schema)
    channels = list(range(len(schema.channels)))
    step = slice_samples(schema)
    parts: list[list[ChannelStatistics]] = []
    for begin in range(0, reader.n_samples, step):
        ids = np.arange(begin, min(begin + step, reader.n_samples), dtype=np.int64)
        images = reader.decode(ids, channels)
        parts.append([_channel_statistics(images[:, channel]) for channel in channels])
    return manifest.merge_statistics(parts, len(channels))


def _channel_statistics(pixels: NDArray[np.float32]) -> ChannelStatistics:
    stored = pixels[np.ascontiguousarray(pixels).view(np.uint32) != 0]
    finite = stored[np.isfinite(stored)].astype(np.float64)
    if not finite.size:
        return ChannelStatistics(stored.size, stored.size)
    return ChannelStatistics(
        stored.size,
        stored.size - finite.size,
        float(finite.min()),
        float(finite.max()),
        float(finite.sum()),
        float(np.square(finite).sum()),
    )
