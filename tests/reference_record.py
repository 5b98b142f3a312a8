"""Section 1 and section 3 of docs/format.md in plain Python: checksums, fields and the record."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import zstandard
from numpy.typing import NDArray

__all__ = [
    "FEATURE_FLOAT16",
    "Channel",
    "Cursor",
    "FormatError",
    "UnsupportedError",
    "crc32c",
    "read_record",
    "seal",
]

FEATURE_FLOAT16 = 2
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class FormatError(Exception):
    """The bytes break the page: `part` of the file, byte `offset` of that part's begin or of the field."""

    def __init__(self, part: str, offset: int, message: str) -> None:
        super().__init__(f"{part} at byte {offset}: {message}")
        self.part, self.offset = part, offset


class UnsupportedError(FormatError):
    """A version or a required feature that the page does not define."""


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """Castagnoli CRC of `data`."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def seal(shard_id: bytes, number: int, data: bytes) -> int:
    """Checksum that also depends on the shard and on the place in it (section 1)."""
    return crc32c(shard_id + struct.pack("<Q", number) + data)


class Cursor:
    """Reads fields one after another and refuses to pass the end."""

    def __init__(self, data: bytes, part: str, base: int = 0) -> None:
        self.data, self.part, self.base, self.pos = data, part, base, 0

    def fail(self, message: str) -> FormatError:
        return FormatError(self.part, self.base + self.pos, message)

    def take(self, n: int) -> bytes:
        if n > len(self.data) - self.pos:
            raise self.fail(f"{n} bytes needed, {len(self.data) - self.pos} left")
        self.pos += n
        return self.data[self.pos - n : self.pos]

    def uint(self, n_bytes: int) -> int:
        return int.from_bytes(self.take(n_bytes), "little")

    def varint(self) -> int:
        value = 0
        for n in range(5):
            byte = self.uint(1)
            value |= (byte & 0x7F) << (7 * n)
            if byte < 0x80:
                if (n and not byte) or value >> 32:
                    raise self.fail("a varint that is too long or too large")
                return value
        raise self.fail("a varint of more than 5 bytes")

    def text(self) -> str:
        try:
            return self.take(self.uint(2)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.fail("a name that is not UTF-8") from error

    def finish(self) -> None:
        if self.pos != len(self.data):
            raise self.fail(f"{len(self.data) - self.pos} bytes too many")


@dataclass(frozen=True)
class Channel:
    """One descriptor of section 3.1; `positions` are native pixels, None: all of them."""

    kind: int
    coding: int = 0
    block: int = 1
    wide: bool = False
    count: int = 0
    escapes: int = 0
    source: int = 0
    planes: int = 0
    positions: NDArray[np.int64] | None = None

    def plane_order(self) -> Iterator[tuple[int, bool]]:
        """(plane, in the value stream?) from the highest plane; coding 1 has one plane."""
        n_planes = {0: 4, 1: 1, 2: 2}[self.coding]
        for p in reversed(range(n_planes)):
            yield p, self.coding == 1 or bool(self.planes >> p & 1)


def _inflate(frame: bytes, n_raw: int, dictionary: bytes, cursor: Cursor) -> bytes:
    """One complete frame of exactly `n_raw` bytes."""
    try:
        if frame[:4] != ZSTD_MAGIC or zstandard.frame_content_size(frame) not in (-1, n_raw):
            raise cursor.fail("no zstd frame of the stated size")
        pair = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
        raw = zstandard.ZstdDecompressor(dict_data=pair).decompress(
            frame, max_output_size=max(n_raw, 1), allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise cursor.fail(f"zstd: {error}") from error
    if len(raw) != n_raw:
        raise cursor.fail(f"zstd frame of {len(raw)} bytes, expected {n_raw}")
    return raw


def read_record(
    data: bytes,
    *,
    number: int,
    begin: int,
    shard_id: bytes,
    shape: tuple[int, int, int],
    dictionaries: tuple[bytes, bytes] = (b"", b""),
    features: int = 0,
) -> NDArray[np.float32]:
    """The image, float32 [C, H, W], of the record `data` that begins at byte `begin` of the file."""
    cursor = Cursor(data, f"record {number}", begin)
    if cursor.uint(4) != seal(shard_id, number, data[4:]):
        raise cursor.fail("checksum")
    index_raw, index_stored, value_raw, value_stored = (cursor.varint() for _ in range(4))
    n_channels, height, width = shape
    n_bytes = 4 * n_channels * height * width
    if index_raw > 16 * n_channels + n_bytes or value_raw > n_bytes:
        raise cursor.fail("a stream is larger than the shape allows")
    if index_stored > max(index_raw - 1, 0) or value_stored > max(value_raw - 1, 0):
        raise cursor.fail("a zstd frame that is not smaller than what it holds")
    index, value = cursor.take(index_stored or index_raw), cursor.take(value_stored or value_raw)
    noise = cursor.take(len(data) - cursor.pos)
    if index_stored:
        index = _inflate(index, index_raw, dictionaries[0], cursor)
    channels = _read_index(Cursor(index, f"record {number}, index stream"), shape, features)
    if _stream_sizes(channels) != (value_raw, len(noise)):
        raise cursor.fail(f"{_stream_sizes(channels)} value and noise bytes expected")
    if value_stored:
        value = _inflate(value, value_raw, dictionaries[1], cursor)
    streams = {True: Cursor(value, "values"), False: Cursor(noise, "noise")}
    return np.stack([_read_channel(c, streams, height, width) for c in channels])


def _read_index(cursor: Cursor, shape: tuple[int, int, int], features: int) -> list[Channel]:
    n_channels, height, width = shape
    channels: list[Channel] = []
    for _ in range(n_channels):
        channels.append(_read_descriptor(cursor, channels, height, width))
        if channels[-1].coding == 2 and not features & FEATURE_FLOAT16:
            raise cursor.fail("float16 values without the feature")
    for k, c in enumerate(channels):
        if c.kind == 1:
            positions = _read_gaps(cursor, c, height * width // c.block**2)
            channels[k] = replace(c, positions=positions)
        elif c.kind == 2:
            channels[k] = replace(c, positions=channels[c.source].positions)
    cursor.finish()
    return channels


def _read_descriptor(cursor: Cursor, earlier: list[Channel], height: int, width: int) -> Channel:
    tag = cursor.uint(1)
    kind, coding, wide, has_block = tag & 3, tag >> 2 & 3, bool(tag & 16), bool(tag & 32)
    if tag >> 6 or coding == 3 or (kind == 0 and tag) or (wide and kind != 1):
        raise cursor.fail(f"tag {tag:#x}")
    if has_block and kind == 2:
        raise cursor.fail(f"tag {tag:#x}: a shared channel has the block of its source")
    block = cursor.uint(1) if has_block else 1
    if has_block and (block < 2 or height % block or width % block):
        raise cursor.fail(f"block {block} of an image of {height} x {width}")
    count, escapes, source = height * width // block**2, 0, 0
    if kind == 1:
        limit = count
        count, escapes = cursor.varint(), cursor.varint()
        if not 1 <= count <= limit:
            raise cursor.fail(f"{count} pixels stored of {limit}")
    elif kind == 2:
        source = cursor.varint()
        if source >= len(earlier) or earlier[source].kind != 1:
            raise cursor.fail(f"source {source} is no earlier sparse channel")
        block, count = earlier[source].block, earlier[source].count
    planes = cursor.uint(1) if kind and coding != 1 else 0
    if planes >> (4 if coding == 0 else 2):
        raise cursor.fail(f"planes {planes:#x}")
    return Channel(kind, coding, block, wide, count, escapes, source, planes)


def _read_gaps(cursor: Cursor, channel: Channel, n_pixels: int) -> NDArray[np.int64]:
    n = channel.count + channel.escapes
    gaps = np.frombuffer(cursor.take(n), np.uint8).astype(np.int64)
    if channel.wide:
        gaps = gaps + 256 * np.frombuffer(cursor.take(n), np.uint8).astype(np.int64)
    escape = gaps == (65_535 if channel.wide else 255)
    if int(escape.sum()) != channel.escapes or escape[-1]:
        raise cursor.fail(f"{int(escape.sum())} escapes, expected {channel.escapes}, none last")
    positions = np.cumsum(np.where(escape, gaps, gaps + 1)) - 1
    if positions[-1] >= n_pixels:
        raise cursor.fail(f"position {positions[-1]} of {n_pixels} pixels")
    stored: NDArray[np.int64] = positions[~escape]
    return stored


def _stream_sizes(channels: list[Channel]) -> tuple[int, int]:
    sizes = {True: 0, False: 0}
    for c in channels:
        for _, in_value in c.plane_order() if c.kind else ():
            sizes[in_value] += c.count
    return sizes[True], sizes[False]


def _read_channel(
    channel: Channel, streams: dict[bool, Cursor], height: int, width: int
) -> NDArray[np.float32]:
    block = channel.block
    native = np.zeros(height * width // block**2, np.float32)
    if channel.kind:
        words = np.zeros(channel.count, np.uint32)
        for p, in_value in channel.plane_order():
            plane = np.frombuffer(streams[in_value].take(channel.count), np.uint8)
            words |= plane.astype(np.uint32) << np.uint32(8 * p)
        where = slice(None) if channel.positions is None else channel.positions
        native[where] = _values(words, channel.coding)
    grid = native.reshape(height // block, width // block)
    image: NDArray[np.float32] = grid.repeat(block, axis=0).repeat(block, axis=1)
    return image


def _values(words: NDArray[np.uint32], coding: int) -> NDArray[np.float32]:
    values: NDArray[np.float32]
    if coding == 0:
        values = (words >> np.uint32(1) | words << np.uint32(31)).view(np.float32)
        return values
    if coding == 1:
        return words.astype(np.float32)
    halves = (words >> np.uint32(1) | words << np.uint32(15)).astype(np.uint16)
    values = halves.view(np.float16).astype(np.float32)
    return values
