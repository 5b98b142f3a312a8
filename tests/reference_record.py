"""Section 3 of docs/format.md in plain Python: the record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import zstandard
from numpy.typing import NDArray

from reference_codes import GAP_HIGH, GAP_LOW, N_LANES, CodeBook, Lanes
from reference_fields import Cursor, seal

__all__ = ["FEATURE_CODES", "FEATURE_FLOAT16", "Channel", "read_record"]

FEATURE_CODES = 1
FEATURE_FLOAT16 = 2
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
N_PLANES = {0: 4, 1: 1, 2: 2, 3: 0}  # of a coding
Planes = dict[tuple[int, int], bytes]  # (channel, role) -> its bytes


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
    in_lanes: int = 0  # bit r: the plane of role r
    in_value: int = 0  # bit p: value plane p
    base: int = 0
    exceptions: tuple[tuple[int, int], ...] = ()  # (word, value)
    positions: NDArray[np.int64] | None = None

    def roles(self) -> Iterator[tuple[int, int]]:
        """(role, bytes) of each plane, in the order of section 3.3."""
        if self.kind == 1:
            yield GAP_LOW, self.count + self.escapes
        if self.kind == 1 and self.wide:
            yield GAP_HIGH, self.count + self.escapes
        for p in reversed(range(N_PLANES[self.coding] if self.kind else 0)):
            yield p, self.count

    def stream_of(self, role: int) -> str:
        """Where the plane stands."""
        if self.in_lanes >> role & 1:
            return "lanes"
        if role in (GAP_LOW, GAP_HIGH):
            return "index"
        return "value" if self.in_value >> role & 1 else "noise"


def _inflate(frame: bytes, n_raw: int, cursor: Cursor) -> bytes:
    """One complete frame of exactly `n_raw` bytes."""
    try:
        if frame[:4] != ZSTD_MAGIC or zstandard.frame_content_size(frame) not in (-1, n_raw):
            raise cursor.fail("no zstd frame of the stated size")
        raw = zstandard.ZstdDecompressor().decompress(
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
    book: CodeBook | None = None,
    features: int = 0,
) -> NDArray[np.float32]:
    """The image, float32 [C, H, W], of the record `data` that begins at byte `begin` of the file."""
    cursor = Cursor(data, f"record {number}", begin)
    if cursor.uint(4) != seal(shard_id, number, data[4:]):
        raise cursor.fail("checksum")
    index_raw, index_stored, value_raw, value_stored = (cursor.varint() for _ in range(4))
    lane_bytes = [cursor.varint() for _ in range(N_LANES if book else 0)]
    n_channels, height, width = shape
    n_bytes = 4 * n_channels * height * width
    if index_raw > 16 * n_channels + n_bytes or value_raw > n_bytes:
        raise cursor.fail("a stream is larger than the shape allows")
    if index_stored > max(index_raw - 1, 0) or value_stored > max(value_raw - 1, 0):
        raise cursor.fail("a zstd frame that is not smaller than what it holds")
    index, value = cursor.take(index_stored or index_raw), cursor.take(value_stored or value_raw)
    lanes = Lanes([cursor.take(n) for n in lane_bytes], cursor)
    noise = cursor.take(len(data) - cursor.pos)
    streams = {
        "index": Cursor(_inflate(index, index_raw, cursor) if index_stored else index, "index"),
        "value": Cursor(_inflate(value, value_raw, cursor) if value_stored else value, "value"),
        "noise": Cursor(noise, "noise"),
    }
    channels: list[Channel] = []
    for _ in range(n_channels):
        descriptor = _read_descriptor(streams["index"], channels, (height, width), features)
        channels.append(descriptor)
    planes = _read_planes(channels, streams, lanes, book)
    return _to_image(channels, planes, height, width, cursor)


def _read_planes(
    channels: list[Channel], streams: dict[str, Cursor], lanes: Lanes, book: CodeBook | None
) -> Planes:
    """Every plane of the record; all streams and lanes are used up by them."""
    planes: Planes = {}
    for c, channel in enumerate(channels):
        for role, n in channel.roles():
            stream = channel.stream_of(role)
            if stream != "lanes":
                planes[c, role] = streams[stream].take(n)
                continue
            code = book.find(c, role) if book else None
            if code is None:
                raise lanes.cursor.fail(f"channel {c}: the shard has no code for plane {role}")
            planes[c, role] = lanes.take(n, code)
    for stream_cursor in streams.values():
        stream_cursor.finish()
    if book:
        lanes.finish()
    return planes


def _read_descriptor(
    cursor: Cursor, earlier: list[Channel], sides: tuple[int, int], features: int
) -> Channel:
    height, width = sides
    tag = cursor.uint(1)
    kind, coding, wide, has_block = tag & 3, tag >> 2 & 3, bool(tag & 16), bool(tag & 32)
    if tag >> 6 or (kind == 0 and tag) or (wide and kind != 1):
        raise cursor.fail(f"tag {tag:#x}")
    if (coding == 3 and not features & FEATURE_CODES) or (
        coding == 2 and not features & FEATURE_FLOAT16
    ):
        raise cursor.fail(f"coding {coding} without its feature")
    if has_block and kind == 2:
        raise cursor.fail(f"tag {tag:#x}: a shared channel has the block of its source")
    if kind == 0:
        return Channel(0)
    block = cursor.uint(1) if has_block else 1
    if has_block and (block < 2 or height % block or width % block):
        raise cursor.fail(f"block {block} of an image of {height} x {width}")
    count, escapes, source = height * width // block**2, 0, 0
    if kind == 1:
        limit = count
        count, escapes = cursor.varint(), cursor.varint()
        if not 1 <= count <= limit or escapes > limit // 255:
            raise cursor.fail(f"{count} pixels stored of {limit}, {escapes} escapes")
    elif kind == 2:
        source = cursor.varint()
        if source >= len(earlier) or earlier[source].kind != 1:
            raise cursor.fail(f"source {source} is no earlier sparse channel")
        block, count = earlier[source].block, earlier[source].count
    channel = Channel(kind, coding, block, wide, count, escapes, source)
    return _read_places(cursor, channel, coded=bool(features & FEATURE_CODES))


def _read_places(cursor: Cursor, channel: Channel, *, coded: bool) -> Channel:
    """The end of a descriptor: where the planes are, and the exceptions of coding 3."""
    values = (1 << N_PLANES[channel.coding]) - 1
    if not coded:
        planes = values if channel.coding == 1 else cursor.uint(1)
        if planes & ~values:
            raise cursor.fail(f"planes {planes:#x}")
        return replace(channel, in_value=planes)
    places = cursor.uint(1)
    in_lanes, rest = places & 0x3F, bool(places & 0x40)
    allowed = sum(1 << role for role, _ in channel.roles())
    raw_values = values & ~in_lanes
    if places >> 7 or in_lanes & ~allowed or (rest and not raw_values):
        raise cursor.fail(f"places {places:#x}")
    channel = replace(channel, in_lanes=in_lanes, in_value=raw_values if rest else 0)
    if channel.coding != 3:
        return channel
    base, n_exceptions, word = cursor.uint(1), cursor.varint(), -1
    exceptions = []
    for _ in range(n_exceptions):
        word += 1 + cursor.varint()
        value = cursor.uint(1)
        if word >= channel.count or value == base:
            raise cursor.fail(f"exception {value} to {base} at word {word} of {channel.count}")
        exceptions.append((word, value))
    return replace(channel, base=base, exceptions=tuple(exceptions))


def _to_image(
    channels: list[Channel], planes: Planes, height: int, width: int, cursor: Cursor
) -> NDArray[np.float32]:
    image = np.zeros((len(channels), height, width), np.float32)
    placed: list[Channel] = []
    for c, channel in enumerate(channels):
        positions = None
        if channel.kind == 1:
            positions = _positions(channel, c, planes, height * width // channel.block**2, cursor)
        elif channel.kind == 2:
            positions = placed[channel.source].positions
        placed.append(replace(channel, positions=positions))
        image[c] = _read_channel(placed[c], c, planes, height, width)
    return image


def _positions(
    channel: Channel, c: int, planes: Planes, n_pixels: int, cursor: Cursor
) -> NDArray[np.int64]:
    gaps = np.frombuffer(planes[c, GAP_LOW], np.uint8).astype(np.int64)
    if channel.wide:
        gaps = gaps + 256 * np.frombuffer(planes[c, GAP_HIGH], np.uint8).astype(np.int64)
    escape = gaps == (65_535 if channel.wide else 255)
    if int(escape.sum()) != channel.escapes or escape[-1]:
        raise cursor.fail(f"{int(escape.sum())} escapes, expected {channel.escapes}, none last")
    positions = np.cumsum(np.where(escape, gaps, gaps + 1)) - 1
    if positions[-1] >= n_pixels:
        raise cursor.fail(f"position {positions[-1]} of {n_pixels} pixels")
    stored: NDArray[np.int64] = positions[~escape]
    return stored


def _read_channel(
    channel: Channel, c: int, planes: Planes, height: int, width: int
) -> NDArray[np.float32]:
    block = channel.block
    native = np.zeros(height * width // block**2, np.float32)
    if channel.kind:
        words = np.full(channel.count, channel.base, np.uint32)
        for word, value in channel.exceptions:
            words[word] = value
        for p in range(N_PLANES[channel.coding]):
            plane = np.frombuffer(planes[c, p], np.uint8)
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
    if coding in (1, 3):
        return words.astype(np.float32)
    halves = (words >> np.uint32(1) | words << np.uint32(15)).astype(np.uint16)
    values = halves.view(np.float16).astype(np.float32)
    return values
