"""Writes shards in plain Python, with every choice of docs/format.md in the caller's hand.

The tests need files that a sound writer never makes: `shard_bytes` seals whatever it is given, and `reseal` mends the
checksums of a file that was changed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import zstandard
from numpy.typing import NDArray

from reference_coder import LaneWriter, codes_section, flat_code, varint
from reference_codes import GAP_HIGH, GAP_LOW, N_ROLES, CodeBook
from reference_reader import (
    DTYPES,
    END_MAGIC,
    HEADER_SIZE,
    KIND_CODES,
    KIND_COLUMN,
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
    "fit_book",
    "parts",
    "place",
    "record_body",
    "reseal",
    "schema_section",
    "shard_bytes",
    "trailer_bytes",
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
    planes: int = 0b1100  # of a shard without codes
    places: int = 0  # of a shard with codes


@dataclass(frozen=True)
class Streams:
    """The streams of a record before compression; `lanes` of a shard with codes."""

    index: bytes
    value: bytes
    noise: bytes
    lanes: Sequence[bytes] | None = None


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


def encode(
    image: NDArray[np.float32], choices: Sequence[Choice], book: CodeBook | None = None
) -> Streams:
    """The streams of one sample [C, H, W]; with `book` as a shard with codes has them."""
    descriptors = b""
    streams = {"index": b"", "value": b"", "noise": b""}
    lanes = LaneWriter()
    for c, choice in enumerate(choices):
        values, planes, escapes = parts(image, choices, c)
        descriptors += _descriptor(choice, values, escapes, coded=book is not None)
        for role, plane in planes:
            code = book.find(c, role) if book and choice.places >> role & 1 else None
            if code is not None:
                lanes.write(plane, code)
            else:
                streams[_stream_of(role, choice, coded=book is not None)] += plane
    index = descriptors + streams["index"]
    return Streams(index, streams["value"], streams["noise"], lanes.finish() if book else None)


Part = tuple[int, bytes]  # role and bytes of a plane


def parts(
    image: NDArray[np.float32], choices: Sequence[Choice], c: int
) -> tuple[NDArray[np.float32], list[Part], int]:
    """Stored values, planes and number of escapes of channel `c`."""
    choice = choices[c]
    block = choices[choice.source].block if choice.kind == 2 else choice.block
    native = np.ascontiguousarray(image[c, ::block, ::block]).ravel()
    sparse = choice.kind in (1, 2)
    stored = native.view(np.uint32) != 0 if sparse else np.ones(native.size, bool)
    gaps, escapes = _gaps(np.flatnonzero(stored), choice.wide)
    values = native[stored]
    return values, (gaps if choice.kind == 1 else []) + _planes(values, choice), escapes


def fit_book(images: NDArray[np.float32], choices: Sequence[Sequence[Choice]]) -> CodeBook:
    """A flat code for each channel and role, of the symbols that `images` [n, C, H, W] have there."""
    n_channels = images.shape[1]
    seen: dict[tuple[int, int], set[int]] = {}
    for image, picked in zip(images, choices, strict=True):
        for c in range(n_channels):
            for role, plane in parts(image, picked, c)[1]:
                seen.setdefault((c, role), set()).update(plane)
    order = {key: k for k, key in enumerate(sorted(seen), 1)}
    slots = [(c, role) for c in range(n_channels) for role in range(N_ROLES)]
    codes = [flat_code(seen[key]) for key in order]
    return CodeBook(codes, [order.get(slot, 0) for slot in slots])


def place(
    image: NDArray[np.float32], choices: Sequence[Choice], book: CodeBook, wanted: int = 0x7F
) -> list[Choice]:
    """The choices with those bits of `wanted` as `places` that `image` and `book` allow."""
    placed = []
    for c, choice in enumerate(choices):
        roles = parts(image, choices, c)[1]
        codes = {role: book.find(c, role) for role, _ in roles}
        fits = (r for r, plane in roles if (code := codes[r]) and set(plane) <= set(code.lengths))
        places = wanted & sum(1 << role for role in fits)
        rest = any(role < GAP_LOW and not places >> role & 1 for role, _ in roles)
        placed.append(replace(choice, places=places | (wanted & 0x40 if rest else 0)))
    return placed


def _stream_of(role: int, choice: Choice, *, coded: bool) -> str:
    if role in (GAP_LOW, GAP_HIGH):
        return "index"
    if coded:
        return "value" if choice.places & 0x40 else "noise"
    return "value" if choice.coding == 1 or choice.planes >> role & 1 else "noise"


def _descriptor(choice: Choice, values: NDArray[np.float32], escapes: int, *, coded: bool) -> bytes:
    has_block = choice.block > 1
    out = bytes([choice.kind | choice.coding << 2 | choice.wide << 4 | has_block << 5])
    out += bytes([choice.block]) if has_block else b""
    if choice.kind == 1:
        out += varint(len(values)) + varint(escapes)
    if choice.kind == 2:
        out += varint(choice.source)
    if choice.kind and coded:
        exceptions = _exceptions(values.astype(np.uint8)) if choice.coding == 3 else b""
        return out + bytes([choice.places]) + exceptions
    return out + (bytes([choice.planes]) if choice.kind and choice.coding != 1 else b"")


def _exceptions(values: NDArray[np.uint8]) -> bytes:
    """Base, count, and (gap, value) of each word that is not the base."""
    base = int(np.bincount(values).argmax())
    words = np.flatnonzero(values != base)
    gaps = np.diff(words, prepend=-1) - 1
    pairs = (varint(int(g)) + bytes([values[w]]) for g, w in zip(gaps, words, strict=True))
    return bytes([base]) + varint(len(words)) + b"".join(pairs)


def _gaps(positions: NDArray[np.int64], wide: bool) -> tuple[list[Part], int]:
    """(role, bytes) of the gap planes, and how many entries are escapes."""
    marker = 65_535 if wide else 255
    entries: list[int] = []
    for gap in np.diff(positions, prepend=-1) - 1:
        entries += [marker] * int(gap // marker) + [int(gap % marker)]
    planes = [(GAP_LOW, bytes(entry & 255 for entry in entries))]
    if wide:
        planes.append((GAP_HIGH, bytes(entry >> 8 for entry in entries)))
    return planes, len(entries) - len(positions)


def _planes(values: NDArray[np.float32], choice: Choice) -> list[Part]:
    """(role, bytes) of the value planes, from the highest."""
    if choice.kind == 0 or choice.coding == 3:
        return []
    if choice.coding == 1:
        return [(0, values.astype(np.uint8).tobytes())]
    if choice.coding == 2:
        halves = _halves(values).view(np.uint16)
        words = ((halves << np.uint16(1)) | (halves >> np.uint16(15))).astype("<u2")
    else:
        bits = values.view(np.uint32)
        words = ((bits << np.uint32(1)) | (bits >> np.uint32(31))).astype("<u4")
    columns = words.view(np.uint8).reshape(len(words), -1)
    return [(p, columns[:, p].tobytes()) for p in reversed(range(columns.shape[1]))]


def _halves(values: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def record_body(streams: Streams, *, compress: bool = True, **fields: int) -> bytes:
    """A record without its checksum.

    `fields` overrides index_raw, index_stored, value_raw, value_stored, lane_0 to lane_3.
    """
    stored: list[bytes] = []
    sizes: dict[str, int] = {}
    for name, raw in (("index", streams.index), ("value", streams.value)):
        frame = zstandard.ZstdCompressor(level=3).compress(raw) if compress else b""
        frame = frame if len(frame) < len(raw) else b""
        stored.append(frame or raw)
        sizes |= {f"{name}_raw": len(raw), f"{name}_stored": len(frame)}
    lanes = streams.lanes or ()
    sizes |= {f"lane_{k}": len(lane) for k, lane in enumerate(lanes)}
    front = b"".join(varint(fields.get(name, size)) for name, size in sizes.items())
    return front + b"".join([*stored, *lanes]) + streams.noise


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
    book: CodeBook | None = None,
) -> bytes:
    """A sound shard of `images` [n, C, H, W]; `choices` has one list per sample, None: `choose`."""
    picked = choices or [choose(image, schema.precision) for image in images]
    bodies = [
        record_body(encode(image, choice, book), compress=compress)
        for image, choice in zip(images, picked, strict=True)
    ]
    sections = {KIND_SCHEMA: schema_section(schema), KIND_SIZES: b""}
    if book is not None:
        sections[KIND_CODES] = codes_section(book)
    for k, ((_, dtype, _), column) in enumerate(zip(schema.scalars, columns, strict=True)):
        sections[KIND_COLUMN + k] = column.astype(np.dtype(dtype).newbyteorder("<")).tobytes()
    required = (book is not None) | (schema.precision == "float16") << 1
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
