"""Writes shards in plain Python, with every choice of docs/format.md in the caller's hand.

The tests need files that a sound writer never makes: `shard_bytes` seals whatever it is given, and `reseal` mends the
checksums of a file that was changed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import zstandard
from numpy.typing import NDArray

from reference_reader import (
    DTYPES,
    END_MAGIC,
    HEADER_SIZE,
    KIND_COLUMN,
    KIND_DICTIONARIES,
    KIND_SCHEMA,
    KIND_SIZES,
    MAGIC,
    SECTION_SEAL,
    TRAILER_SIZE,
    VERSION,
    ShardSchema,
    crc32c,
    seal,
)

__all__ = [
    "Choice",
    "Streams",
    "choose",
    "encode",
    "record_body",
    "reseal",
    "schema_section",
    "shard_bytes",
    "trailer_bytes",
    "varint",
    "write_shard",
]


@dataclass(frozen=True)
class Choice:
    """How one channel is stored; the fields are those of the descriptor."""

    kind: int
    coding: int = 0
    wide: bool = False
    block: int = 1
    source: int = 0
    planes: int = 0b1100


@dataclass(frozen=True)
class Streams:
    """The three streams of a record before compression."""

    index: bytes
    value: bytes
    noise: bytes


def varint(value: int) -> bytes:
    """Shortest unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def choose(image: NDArray[np.float32], precision: str = "float32") -> list[Choice]:
    """A plain choice for each channel of `image` [C, H, W]: empty, shared, dense or sparse."""
    choices: list[Choice] = []
    for c, channel in enumerate(image):
        bits = channel.view(np.uint32)
        small = (np.arange(256, dtype=np.float32).view(np.uint32)[:, None] == bits.ravel()).any(0)
        coding = 1 if small.all() else 2 if precision == "float16" else 0
        planes = 0b10 if coding == 2 else 0b1100
        shared = [
            k
            for k in range(c)
            if choices[k].kind == 1 and np.array_equal(image[k].view(np.uint32) != 0, bits != 0)
        ]
        if not bits.any():
            choices.append(Choice(0))
        elif shared:
            choices.append(Choice(2, coding, source=shared[0], planes=planes))
        elif np.count_nonzero(bits) * 2 > bits.size:
            choices.append(Choice(3, coding, planes=planes))
        else:
            choices.append(Choice(1, coding, planes=planes))
    return choices


def encode(image: NDArray[np.float32], choices: Sequence[Choice]) -> Streams:
    """The streams of one sample [C, H, W]."""
    descriptors, gaps, value, noise = b"", b"", b"", b""
    for channel, choice in zip(image, choices, strict=True):
        block = choices[choice.source].block if choice.kind == 2 else choice.block
        native = np.ascontiguousarray(channel[::block, ::block]).ravel()
        stored = (
            native.view(np.uint32) != 0 if choice.kind in (1, 2) else np.ones(native.size, bool)
        )
        entries, escapes = _gaps(np.flatnonzero(stored), choice.wide)
        descriptors += _descriptor(choice, int(stored.sum()), escapes)
        if choice.kind == 1:
            gaps += entries
        for in_value, plane in _planes(native[stored], choice):
            value, noise = (value + plane, noise) if in_value else (value, noise + plane)
    return Streams(descriptors + gaps, value, noise)


def _descriptor(choice: Choice, count: int, escapes: int) -> bytes:
    has_block = choice.block > 1
    out = bytes([choice.kind | choice.coding << 2 | choice.wide << 4 | has_block << 5])
    out += bytes([choice.block]) if has_block else b""
    if choice.kind == 1:
        out += varint(count) + varint(escapes)
    if choice.kind == 2:
        out += varint(choice.source)
    return out + (bytes([choice.planes]) if choice.kind and choice.coding != 1 else b"")


def _gaps(positions: NDArray[np.int64], wide: bool) -> tuple[bytes, int]:
    """The gap entries and how many of them are escapes."""
    marker = 65_535 if wide else 255
    entries: list[int] = []
    for gap in np.diff(positions, prepend=-1) - 1:
        entries += [marker] * int(gap // marker) + [int(gap % marker)]
    low = bytes(entry & 255 for entry in entries)
    high = bytes(entry >> 8 for entry in entries) if wide else b""
    return low + high, len(entries) - len(positions)


def _planes(values: NDArray[np.float32], choice: Choice) -> list[tuple[bool, bytes]]:
    """(in the value stream?, bytes) from the highest plane."""
    if choice.kind == 0:
        return []
    if choice.coding == 1:
        return [(True, values.astype(np.uint8).tobytes())]
    if choice.coding == 2:
        halves = _halves(values).view(np.uint16)
        words = ((halves << np.uint16(1)) | (halves >> np.uint16(15))).astype("<u2")
    else:
        bits = values.view(np.uint32)
        words = ((bits << np.uint32(1)) | (bits >> np.uint32(31))).astype("<u4")
    columns = words.view(np.uint8).reshape(len(words), -1)
    order = reversed(range(columns.shape[1]))
    return [(bool(choice.planes >> p & 1), columns[:, p].tobytes()) for p in order]


def _halves(values: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def record_body(
    streams: Streams,
    *,
    compress: bool = True,
    dictionaries: tuple[bytes, bytes] = (b"", b""),
    **fields: int,
) -> bytes:
    """A record without its checksum; `fields` overrides index_raw, index_stored, value_raw, value_stored."""
    stored, sizes = [], []
    for raw, dictionary in zip((streams.index, streams.value), dictionaries, strict=True):
        frame = _frame(raw, dictionary) if compress else b""
        frame = frame if len(frame) < len(raw) else b""
        stored.append(frame or raw)
        sizes += [len(raw), len(frame)]
    names = ("index_raw", "index_stored", "value_raw", "value_stored")
    front = b"".join(varint(fields.get(n, s)) for n, s in zip(names, sizes, strict=True))
    return front + b"".join(stored) + streams.noise


def _frame(raw: bytes, dictionary: bytes) -> bytes:
    pair = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    return zstandard.ZstdCompressor(level=3, dict_data=pair).compress(raw)


def _text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<H", len(data)) + data


def schema_section(schema: ShardSchema, **fields: int) -> bytes:
    """Section 2.4; `fields` overrides n_images, n_scalars, channels, height, width, precision, dtype."""
    c, h, w = schema.shape
    out = struct.pack(
        "<HH", fields.get("n_images", 1), fields.get("n_scalars", len(schema.scalars))
    )
    out += _text(schema.image_name)
    out += struct.pack(
        "<IIIB",
        fields.get("channels", c),
        fields.get("height", h),
        fields.get("width", w),
        fields.get("precision", 2 if schema.precision == "float16" else 1),
    )
    out += b"".join(_text(name) + _text(unit) for name, unit in schema.channels)
    for name, dtype, unit in schema.scalars:
        code = fields.get("dtype", DTYPES.index(dtype) + 1)
        out += _text(name) + bytes([code]) + _text(unit)
    return out


def shard_bytes(
    bodies: Sequence[bytes],
    sections: Mapping[int, bytes],
    *,
    shard_id: bytes,
    version: int = VERSION,
    required: int = 0,
    optional: int = 0,
) -> bytes:
    """A sealed file of any record bodies and sections (kind -> bytes, in this order), sound or not.

    The record sizes are filled in where `sections` has b"" for them.
    """
    header = struct.pack(
        "<8sHHIQQ16s12x", MAGIC, version, HEADER_SIZE, 0, required, optional, shard_id
    )
    out = header + struct.pack("<I", crc32c(header))
    for number, body in enumerate(bodies):
        out += struct.pack("<I", seal(shard_id, number, body)) + body
    records_end, directory = len(out), b""
    for kind, given in sections.items():
        section = given
        if kind == KIND_SIZES and not given:
            section = np.array([4 + len(body) for body in bodies], "<u4").tobytes()
        crc = seal(shard_id, SECTION_SEAL + kind, section)
        directory += struct.pack("<IIQQ", kind, crc, len(out), len(section))
        out += section
    return out + directory + trailer_bytes(len(out), records_end, len(bodies), directory, shard_id)


def trailer_bytes(
    offset: int, records_end: int, n_samples: int, directory: bytes, shard_id: bytes
) -> bytes:
    trailer = struct.pack(
        "<QQQQ16sII",
        records_end,
        offset,
        n_samples,
        offset + len(directory) + TRAILER_SIZE,
        shard_id,
        len(directory) // 24,
        seal(shard_id, SECTION_SEAL, directory),
    )
    return trailer + struct.pack("<I", crc32c(trailer)) + END_MAGIC


def write_shard(
    schema: ShardSchema,
    images: NDArray[np.float32],
    columns: Sequence[NDArray[np.generic]],
    *,
    shard_id: bytes,
    choices: Sequence[Sequence[Choice]] | None = None,
    compress: bool = True,
    dictionaries: tuple[bytes, bytes] | None = None,
) -> bytes:
    """A sound shard of `images` [n, C, H, W]; `choices` has one list per sample, None: `choose`."""
    picked = choices or [choose(image, schema.precision) for image in images]
    bodies = [
        record_body(
            encode(image, choice), compress=compress, dictionaries=dictionaries or (b"", b"")
        )
        for image, choice in zip(images, picked, strict=True)
    ]
    sections = {KIND_SCHEMA: schema_section(schema), KIND_SIZES: b""}
    if dictionaries is not None:
        sizes = struct.pack("<II", *map(len, dictionaries))
        sections[KIND_DICTIONARIES] = sizes + b"".join(dictionaries)
    for k, ((_, dtype, _), column) in enumerate(zip(schema.scalars, columns, strict=True)):
        sections[KIND_COLUMN + k] = column.astype(np.dtype(dtype).newbyteorder("<")).tobytes()
    required = (dictionaries is not None) | (schema.precision == "float16") << 1
    return shard_bytes(bodies, sections, shard_id=shard_id, required=required)


def reseal(data: bytes) -> bytes:
    """Correct the checksums of header, sections, directory and trailer, whatever they cover."""
    out = bytearray(data)
    shard_id = data[32:48]
    base = len(out) - TRAILER_SIZE
    _put(out, 60, crc32c(bytes(out[:60])))
    directory, n_sections = struct.unpack_from("<Q32xI", out, base + 8)
    entries = range(directory, min(directory + 24 * n_sections, base - 23), 24)
    for at in entries:
        kind, _, offset, size = struct.unpack_from("<IIQQ", out, at)
        _put(out, at + 4, seal(shard_id, SECTION_SEAL + kind, bytes(out[offset : offset + size])))
    _put(out, base + 52, seal(shard_id, SECTION_SEAL, bytes(out[directory:base])))
    _put(out, base + 56, crc32c(bytes(out[base : base + 56])))
    return bytes(out)


def _put(out: bytearray, at: int, value: int) -> None:
    struct.pack_into("<I", out, at, value)
