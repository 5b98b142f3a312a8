"""docs/format.md in plain Python: slow, strict, and the oracle of the tests.

It shares no line with the C++ core. Where the two disagree, the page decides.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reference_codes import CodeBook, read_code_book
from reference_fields import Cursor, FormatError, UnsupportedError, crc32c, seal
from reference_record import FEATURE_CODES, FEATURE_FLOAT16, read_record

__all__ = [
    "DIRECTORY_ENTRY_SIZE",
    "DTYPES",
    "END_MAGIC",
    "HEADER_SIZE",
    "KIND_CODES",
    "KIND_COLUMN",
    "KIND_SCHEMA",
    "KIND_SIZES",
    "MAGIC",
    "MAX_IMAGE_BYTES",
    "MAX_SCHEMA_BYTES",
    "MAX_SECTIONS",
    "SECTION_SEAL",
    "TRAILER_SIZE",
    "VERSION",
    "FormatError",
    "Shard",
    "ShardSchema",
    "UnsupportedError",
    "crc32c",
    "read_shard",
    "seal",
]

MAGIC = b"\x89E2E\r\n\x1a\n"
END_MAGIC = b"E2E\n"
VERSION = 1
HEADER_SIZE = 64
TRAILER_SIZE = 64
DIRECTORY_ENTRY_SIZE = 24
SECTION_SEAL = 1 << 63
KIND_SCHEMA, KIND_SIZES, KIND_CODES, KIND_COLUMN = 1, 2, 3, 0x100
MAX_IMAGE_BYTES = 1 << 30
MAX_SCHEMA_BYTES = 16 << 20
MAX_SECTIONS = 65_536
MIN_RECORD_BYTES = 5
DTYPES = (
    *("float32", "float64", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "bool"),
)  # the code is the place in this list, from 1


@dataclass(frozen=True)
class ShardSchema:
    """Section 2.4. `channels`: (name, unit); `scalars`: (name, numpy dtype name, unit)."""

    image_name: str
    channels: tuple[tuple[str, str], ...]
    height: int
    width: int
    precision: str
    scalars: tuple[tuple[str, str, str], ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.channels), self.height, self.width


@dataclass
class Shard:
    """An open shard: sections are verified, records when `image` reads them."""

    data: bytes
    shard_id: bytes
    schema: ShardSchema
    n_samples: int
    columns: dict[str, NDArray[np.generic]]
    sizes: NDArray[np.int64]
    book: CodeBook | None
    features: int
    digest: str

    def image(self, i: int) -> NDArray[np.float32]:
        """Sample `i`, float32 [C, H, W]."""
        begin = HEADER_SIZE + int(self.sizes[:i].sum())
        return read_record(
            self.data[begin : begin + int(self.sizes[i])],
            number=i,
            begin=begin,
            shard_id=self.shard_id,
            shape=self.schema.shape,
            book=self.book,
            features=self.features,
        )

    def images(self) -> NDArray[np.float32]:
        """All samples, float32 [n, C, H, W]."""
        out = np.zeros((self.n_samples, *self.schema.shape), np.float32)
        for i in range(self.n_samples):
            out[i] = self.image(i)
        return out


def read_shard(source: Path | str | bytes) -> Shard:
    """Open a shard and verify all but its records."""
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if len(data) < HEADER_SIZE + TRAILER_SIZE:
        raise FormatError("file", 0, f"{len(data)} bytes, too short for header and trailer")
    shard_id, features = _read_header(data[:HEADER_SIZE])
    records_end, n_samples, entries = _read_trailer(data, shard_id)
    sections = _read_sections(data, shard_id, records_end, entries)
    schema = _read_schema(Cursor(sections[KIND_SCHEMA][1], "schema", sections[KIND_SCHEMA][0]))
    wanted = {KIND_SCHEMA, KIND_SIZES} | {KIND_COLUMN + k for k in range(len(schema.scalars))}
    if set(sections) - {KIND_CODES} != wanted:
        raise FormatError("directory", 0, f"kinds {sorted(sections)} do not suit the schema")
    if bool(features & FEATURE_CODES) != (KIND_CODES in sections):
        raise FormatError("header", 16, "feature codes and the sections disagree")
    if bool(features & FEATURE_FLOAT16) != (schema.precision == "float16"):
        raise FormatError("header", 16, "feature float16 and the schema disagree")
    sizes = _read_sizes(*sections[KIND_SIZES], n_samples, records_end, schema)
    columns = {
        name: _read_column(*sections[KIND_COLUMN + k], n_samples, dtype)
        for k, (name, dtype, _) in enumerate(schema.scalars)
    }
    book = None
    if KIND_CODES in sections:
        offset, section = sections[KIND_CODES]
        book = read_code_book(Cursor(section, "codes", offset), len(schema.channels))
    digest = f"{int.from_bytes(data[-8:-4], 'little'):08x}-{shard_id.hex()}"
    return Shard(data, shard_id, schema, n_samples, columns, sizes, book, features, digest)


def _read_header(data: bytes) -> tuple[bytes, int]:
    magic, version, size, zero, required, _, shard_id, zeros, crc = struct.unpack(
        "<8sHHIQQ16s12sI", data
    )
    if magic != MAGIC:
        raise FormatError("header", 0, f"magic {magic!r}, expected {MAGIC!r}")
    if crc != crc32c(data[:60]):
        raise FormatError("header", 60, "checksum")
    if version != VERSION:
        raise UnsupportedError("header", 8, f"version {version}")
    if required & ~(FEATURE_CODES | FEATURE_FLOAT16):
        raise UnsupportedError("header", 16, f"required features {required:#x}")
    if size != HEADER_SIZE or zero or any(zeros):
        raise FormatError("header", 10, "header size or reserved bytes")
    return shard_id, required


def _read_trailer(data: bytes, shard_id: bytes) -> tuple[int, int, list[tuple[int, ...]]]:
    base = len(data) - TRAILER_SIZE
    trailer = data[base:]
    records_end, directory, n_samples, file_size, own_id, n_sections, directory_crc, crc, magic = (
        struct.unpack("<QQQQ16sIII4s", trailer)
    )
    if magic != END_MAGIC:
        raise FormatError("trailer", base + 60, f"magic {magic!r}, expected {END_MAGIC!r}")
    if crc != crc32c(trailer[:56]):
        raise FormatError("trailer", base + 56, "checksum")
    if own_id != shard_id:
        raise FormatError("trailer", base + 32, "shard id differs from the header's")
    if file_size != len(data) or n_samples >> 63 or n_sections > MAX_SECTIONS:
        raise FormatError("trailer", base, "file size, or a number beyond its limit")
    if directory + DIRECTORY_ENTRY_SIZE * n_sections + TRAILER_SIZE != file_size:
        raise FormatError("trailer", base + 8, "the directory does not end at the trailer")
    if not HEADER_SIZE <= records_end <= directory:
        raise FormatError("trailer", base, "records_end is out of order")
    block = data[directory:base]
    if directory_crc != seal(shard_id, SECTION_SEAL, block):
        raise FormatError("directory", directory, "checksum")
    return records_end, n_samples, list(struct.iter_unpack("<IIQQ", block))


def _read_sections(
    data: bytes, shard_id: bytes, records_end: int, entries: list[tuple[int, ...]]
) -> dict[int, tuple[int, bytes]]:
    """Kind -> (offset, bytes), once tiling, order and checksums are right."""
    sections: dict[int, tuple[int, bytes]] = {}
    end, last_kind = records_end, 0
    directory = len(data) - TRAILER_SIZE - DIRECTORY_ENTRY_SIZE * len(entries)
    for kind, crc, offset, size in entries:
        if kind <= last_kind or offset != end or size > directory - offset:
            raise FormatError("directory", directory, f"section {kind:#x} is out of order")
        section = data[offset : offset + size]
        if crc != seal(shard_id, SECTION_SEAL + kind, section):
            raise FormatError(f"section {kind:#x}", offset, "checksum")
        sections[kind] = (offset, section)
        end, last_kind = offset + size, kind
    if end != directory or KIND_SCHEMA not in sections or KIND_SIZES not in sections:
        raise FormatError("directory", directory, "a gap, or a section is missing")
    return sections


def _read_schema(cursor: Cursor) -> ShardSchema:
    if len(cursor.data) > MAX_SCHEMA_BYTES:
        raise cursor.fail(f"more than {MAX_SCHEMA_BYTES} bytes")
    n_images, n_scalars = cursor.uint(2), cursor.uint(2)
    image_name = cursor.text()
    n_channels, height, width = (cursor.uint(4) for _ in range(3))
    precision = {1: "float32", 2: "float16"}.get(cursor.uint(1))
    sides = (n_channels, height, width)
    if n_images != 1 or precision is None or not all(1 <= n <= 65_535 for n in sides):
        raise cursor.fail(f"{n_images} images of {sides}, precision {precision}")
    if 4 * n_channels * height * width > MAX_IMAGE_BYTES:
        raise cursor.fail(f"a sample of more than {MAX_IMAGE_BYTES} bytes")
    channels = tuple((cursor.text(), cursor.text()) for _ in range(n_channels))
    scalars = []
    for _ in range(n_scalars):
        name, code = cursor.text(), cursor.uint(1)
        if not 1 <= code <= len(DTYPES):
            raise cursor.fail(f"dtype code {code}")
        scalars.append((name, DTYPES[code - 1], cursor.text()))
    for names in ([c[0] for c in channels], [image_name, *(s[0] for s in scalars)]):
        if "" in names or len(set(names)) != len(names):
            raise cursor.fail("an empty name, or one that occurs twice")
    cursor.finish()
    return ShardSchema(image_name, channels, height, width, precision, tuple(scalars))


def _read_sizes(
    offset: int, section: bytes, n_samples: int, records_end: int, schema: ShardSchema
) -> NDArray[np.int64]:
    if len(section) != 4 * n_samples:
        raise FormatError("record sizes", offset, f"{len(section)} bytes for {n_samples} samples")
    sizes = np.frombuffer(section, "<u4").astype(np.int64)
    c, h, w = schema.shape
    if ((sizes < MIN_RECORD_BYTES) | (sizes > 64 + c * (16 + 12 * h * w))).any():
        raise FormatError("record sizes", offset, "a size that no record can have")
    if int(sizes.sum()) != records_end - HEADER_SIZE:
        raise FormatError("record sizes", offset, "the sizes do not add up to records_end")
    return sizes


def _read_column(offset: int, section: bytes, n: int, dtype: str) -> NDArray[np.generic]:
    kind = np.dtype(dtype).newbyteorder("<")
    if len(section) != n * kind.itemsize:
        raise FormatError("column", offset, f"{len(section)} bytes for {n} values of {dtype}")
    if dtype == "bool" and any(byte > 1 for byte in section):
        raise FormatError("column", offset, "a bool that is neither 0 nor 1")
    return np.frombuffer(section, kind)
