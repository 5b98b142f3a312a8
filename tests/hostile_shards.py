"""Shards that no sound writer makes: every checksum is right, and one statement of docs/format.md is broken."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import zstandard

from reference_coder import varint
from reference_reader import KIND_CODES, KIND_COLUMN, KIND_SCHEMA, KIND_SIZES, ShardSchema
from reference_writer import (
    Streams,
    record_body,
    reseal,
    schema_section,
    shard_bytes,
)
from sound_shards import SHARD_ID, base_schema, base_shard

__all__ = ["CASES", "SOUND", "Case", "Expected", "Part"]

Expected = Literal["corrupt", "unsupported", "frame"]
Part = Literal["open", "record", "column"]


@dataclass(frozen=True)
class Case:
    """A malformed file, what must be raised, and what must raise it at the latest."""

    data: bytes
    expected: Expected
    seen_in: Part


CASES: dict[str, Case] = {}


def _refuse(
    name: str, data: bytes, expected: Expected = "corrupt", *, seen_in: Part = "open"
) -> None:
    if name in CASES:
        raise ValueError(name)
    CASES[name] = Case(data, expected, seen_in)


# Records: one sample of [C, H, W], the body given byte by byte.


def _plain_schema(c: int, h: int, w: int, precision: str = "float32") -> ShardSchema:
    return ShardSchema("X", tuple((f"c{k}", "") for k in range(c)), h, w, precision, ())


def _one_record(body: bytes, shape: tuple[int, int, int], precision: str = "float32") -> bytes:
    sections = {KIND_SCHEMA: schema_section(_plain_schema(*shape, precision)), KIND_SIZES: b""}
    required = 2 if precision == "float16" else 0
    return shard_bytes([body], sections, shard_id=SHARD_ID, required=required)


def _record(
    name: str,
    index: bytes | list[int],
    value: bytes = b"",
    noise: bytes = b"",
    shape: tuple[int, int, int] = (1, 4, 4),
    precision: str = "float32",
) -> None:
    body = record_body(Streams(bytes(index), value, noise), compress=False)
    _refuse(f"record_{name}", _one_record(body, shape, precision), seen_in="record")


_V4 = b"\x01\x02\x03\x04"
SOUND = _one_record(record_body(Streams(bytes([1, 1, 0, 15, 5]), _V4, b"")), (1, 4, 4))

_record("position_beyond_the_image", [1, 1, 0, 15, 16], _V4)
_record("positions_add_up_beyond_the_image", [1, 2, 0, 15, 9, 9], _V4 * 2)
_record("escape_beyond_the_image", [1, 1, 1, 15, 255, 0], _V4)
_record("wide_position_beyond_the_image", [17, 1, 0, 15, 0, 1], _V4)
_record("block_position_beyond_the_native_grid", [33, 2, 1, 0, 15, 4], _V4)
_record("count_zero", [1, 0, 0, 15])
_record("count_above_the_pixels", [1, 17, 0, 15, *[0] * 17], _V4 * 17)
_record("count_above_the_native_pixels", [33, 2, 5, 0, 15, *[0] * 5], _V4 * 5)
_record("count_huge", [1, *varint(2**32 - 1), 0, 15, 0], _V4)
_record("escapes_huge", [1, 1, *varint(2**32 - 1), 15, 0], _V4)
_record("count_and_escapes_wrap", [1, 1, *varint(2**32 - 1), 15], _V4)
_record("escapes_too_few", [1, 2, 0, 15, 255, 0], _V4 * 2, shape=(1, 20, 20))
_record("escapes_too_many", [1, 1, 1, 15, 0, 0], _V4, shape=(1, 20, 20))
_record("last_entry_is_an_escape", [1, 1, 1, 15, 0, 255], _V4, shape=(1, 20, 20))
_record("gaps_missing", [1, 2, 0, 15, 0], _V4 * 2)
_record("wide_gaps_missing_their_high_bytes", [17, 2, 0, 15, 0, 0], _V4 * 2)
_record("index_has_bytes_left", [1, 1, 0, 15, 0, 0], _V4)
_record("index_ends_in_a_descriptor", [1, 1])
_record("index_empty", [])
_record("descriptor_of_a_channel_missing", [0], shape=(2, 4, 4))
_record("value_missing", [1, 1, 0, 15, 0], _V4[:3])
_record("value_has_bytes_left", [1, 1, 0, 15, 0], _V4 + b"\0")
_record("noise_missing", [1, 1, 0, 8, 0], _V4[:1], _V4[:2])
_record("noise_has_bytes_left", [1, 1, 0, 8, 0], _V4[:1], _V4)
_record("noise_of_an_empty_sample", [0], b"", b"\0")
_record("shares_with_itself", [2, 0, 15], shape=(2, 4, 4))
_record("shares_with_a_later_channel", [2, 1, 15, 1, 1, 0, 15, 0], _V4 * 2, shape=(2, 4, 4))
_record("shares_with_an_empty_channel", [0, 2, 0, 15], shape=(2, 4, 4))
_record("shares_with_a_dense_channel", [3, 15, 2, 0, 15], _V4 * 32, shape=(2, 4, 4))
_record(
    "shares_with_a_shared_channel",
    [1, 1, 0, 15, 2, 0, 15, 2, 1, 15, 0],
    _V4 * 3,
    shape=(3, 4, 4),
)
_record(
    "shares_with_no_channel", [1, 1, 0, 15, 2, *varint(2**32 - 1), 15, 0], _V4 * 2, shape=(2, 4, 4)
)
_record("shared_with_wide_gaps", [1, 1, 0, 15, 18, 0, 15, 0], _V4 * 2, shape=(2, 4, 4))
_record("shared_with_a_block", [1, 1, 0, 15, 34, 2, 0, 15, 0], _V4 * 2, shape=(2, 4, 4))
for _name, _tag in {"coding": 4, "wide_gaps": 16, "block": 32, "bit_6": 64, "bit_7": 128}.items():
    _record(f"empty_with_{_name}", [_tag, *([2] if _tag == 32 else [])])
_record("dense_with_wide_gaps", [19, 15], _V4 * 16)
_record("tag_with_bit_6", [65, 1, 0, 15, 0], _V4)
_record("tag_with_bit_7", [129, 1, 0, 15, 0], _V4)
_record("coding_3_without_the_feature", [13, 1, 0, 0, 1, 0, 0])
_record("coding_3_without_the_feature_with_planes", [13, 1, 0, 15, 0], _V4)
_record("float16_values_without_the_feature", [9, 1, 0, 3, 0], b"\1\1")
_record("float32_with_five_planes", [1, 1, 0, 31, 0], _V4 + b"\0")
_record("float16_with_three_planes", [9, 1, 0, 7, 0], b"\1\1\1", precision="float16")
for _block in (0, 1, 3, 5, 8, 255):
    _record(f"block_of_{_block}", [33, _block, 1, 0, 15, 0], _V4)
_record("block_divides_only_the_height", [33, 4, 1, 0, 15, 0], _V4, shape=(1, 4, 6))
_record("block_divides_only_the_width", [33, 4, 1, 0, 15, 0], _V4, shape=(1, 6, 4))
_record("dense_block_that_does_not_divide", [35, 3, 15], _V4)
_record("varint_overlong_count", [1, 0x81, 0, 0, 15, 0], _V4)
_record("varint_overlong_zero", [1, 1, 0x80, 0, 15, 0], _V4)
_record("varint_beyond_32_bits", [1, 0x81, 0x80, 0x80, 0x80, 0x10, 0, 15, 0], _V4)
_record("varint_of_six_bytes", [1, 0x81, 0x80, 0x80, 0x80, 0x80, 0, 0, 15, 0], _V4)


def _body(name: str, body: bytes, expected: Expected = "corrupt", edge: int = 4) -> None:
    _refuse(f"record_{name}", _one_record(body, (1, edge, edge)), expected, seen_in="record")


_INDEX = bytes([1, 1, 0, 15, 5])
_refuse("record_without_a_body", _one_record(b"", (1, 4, 4)))
_body("ends_in_its_sizes", b"\5\0\4")
_body("overlong_size", b"\x85\0\0\4\0" + _INDEX + _V4)
_body("index_longer_than_the_record", b"\x10\0\4\0" + _INDEX + _V4)
_body("value_longer_than_the_record", b"\5\0\x10\0" + _INDEX + _V4)
_body("stored_sizes_wrap", b"\5\xff\xff\xff\xff\x0f\4\xff\xff\xff\xff\x0f" + _INDEX + _V4)
for _huge in (81, 2**31, 2**32 - 1):
    _body(f"index_raw_of_{_huge}", record_body(Streams(_INDEX, _V4, b""), index_raw=_huge))
    _body(f"value_raw_of_{_huge}", record_body(Streams(_INDEX, _V4, b""), value_raw=_huge))


_SPARSE = Streams(bytes([1, 40, 0, 15, *[9] * 40]), _V4 * 40, b"")  # every tenth of 400 pixels


def _frame(name: str, frame: Callable[[bytes], bytes]) -> None:
    """The same malformed frame, once for the index stream and once for the value stream."""
    index, value = frame(_SPARSE.index), frame(_SPARSE.value)
    sizes = varint(len(_SPARSE.index)), varint(len(_SPARSE.value))
    front = sizes[0] + varint(len(index)) + sizes[1] + b"\0"
    for stream, body in {
        "index": front + index + _SPARSE.value,
        "value": sizes[0] + b"\0" + sizes[1] + varint(len(value)) + _SPARSE.index + value,
    }.items():
        _body(f"{stream}_frame_{name}", body, "frame", 20)


def _zstd(raw: bytes, *, with_size: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=with_size).compress(raw)


def _uncompressed(raw: bytes) -> tuple[bytes, ...]:
    """A sound frame of one raw block (RFC 8878), longer than what it holds."""
    block = struct.pack("<I", len(raw) << 3 | 1)[:3]
    return b"\x28\xb5\x2f\xfd", b"\x20", bytes([len(raw)]), block, raw


_SKIPPABLE = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
_frame("of_one_byte_less", lambda raw: _zstd(raw[:-1]))
_frame("of_one_byte_more", lambda raw: _zstd(raw + raw[-1:]))
_frame("of_one_byte_less_without_content_size", lambda raw: _zstd(raw[:-1], with_size=False))
_frame("of_one_byte_more_without_content_size", lambda raw: _zstd(raw + b"\x09", with_size=False))
_frame("of_a_mebibyte", lambda _: _zstd(bytes(2**20))[:40])
_frame("of_a_mebibyte_without_content_size", lambda _: _zstd(bytes(2**18), with_size=False)[:40])
_frame("that_is_garbage", lambda _: bytes(range(30)))
_frame("that_is_cut", lambda raw: _zstd(raw)[:-1])
_frame("followed_by_a_byte", lambda raw: _zstd(raw) + b"\0")
_frame("in_two_frames", lambda raw: _zstd(raw[:20]) + _zstd(raw[20:]))
_frame("after_a_skippable_one", lambda raw: _SKIPPABLE + _zstd(raw))
_frame("before_a_skippable_one", lambda raw: _zstd(raw) + _SKIPPABLE)
_frame("only_skippable", lambda _: _SKIPPABLE)
_frame("not_smaller_than_what_it_holds", lambda raw: b"".join(_uncompressed(raw)))


_MIXED = bytes([1, 40, 0, 15, *(7 * k % 10 for k in range(40))])
_NEEDY = zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(_MIXED)).compress(_MIXED)
_body(
    "frame_of_a_dictionary",
    bytes([44, len(_NEEDY), *varint(160), 0]) + _NEEDY + _V4 * 40,
    "frame",
    20,
)

# Sections: the base shard with one of them replaced, left out or added.


def _sections(**changes: bytes | None) -> dict[int, bytes]:
    parts: dict[str, tuple[int, bytes]] = {
        "schema": (KIND_SCHEMA, schema_section(base_schema())),
        "sizes": (KIND_SIZES, b""),
        "codes": (KIND_CODES, b""),
        "y": (KIND_COLUMN, np.arange(4).astype("<i8").tobytes()),
        "b": (KIND_COLUMN + 1, b"\1\0\1\1"),
        "extra": (KIND_COLUMN + 2, b""),
        "unknown": (0x50, b""),
    }
    given: dict[str, bytes | None] = {"codes": None, "extra": None, "unknown": None}
    given.update(changes)
    out = {kind: given.get(name, section) for name, (kind, section) in parts.items()}
    return {kind: section for kind, section in sorted(out.items()) if section is not None}


_BODIES = [record_body(Streams(b"\0\0\0", b"", b""))] * 4


def _file(sections: Mapping[int, bytes], required: int = 0) -> bytes:
    return shard_bytes(_BODIES, sections, shard_id=SHARD_ID, required=required)


def _schema(name: str, section: bytes) -> None:
    _refuse(f"schema_{name}", _file(_sections(schema=section)))


_GOOD = schema_section(base_schema())
for _field, _values in {
    "n_images": (0, 2, 65_535),
    "n_scalars": (0, 1, 3, 65_535),
    "channels": (0, 2, 4, 65_536, 2**32 - 1),
    "height": (0, 65_536, 2**32 - 1),
    "width": (0, 65_536, 2**32 - 1),
    "precision": (0, 3, 255),
    "dtype": (0, 12, 255),
}.items():
    for _value in _values:
        _schema(f"with_{_field}_{_value}", schema_section(base_schema(), **{_field: _value}))
_schema("of_more_than_a_gigabyte", schema_section(base_schema(), height=65_535, width=65_535))
_schema("cut", _GOOD[:-1])
_schema("empty", b"")
_schema("with_a_byte_left", _GOOD + b"\0")
_BASE = base_schema()
_schema("without_image_name", schema_section(replace(_BASE, image_name="")))
_schema("scalar_named_as_the_image", schema_section(replace(_BASE, image_name="y")))
for _name, _channels in {
    "channel_name_empty": (("", ""), ("b", ""), ("c", "")),
    "channel_name_twice": (("a", ""), ("b", ""), ("a", "")),
}.items():
    _schema(_name, schema_section(replace(_BASE, channels=_channels)))
for _name, _scalars in {
    "scalar_name_empty": (("y", "int64", ""), ("", "bool", "")),
    "scalar_name_twice": (("y", "int64", ""), ("y", "bool", "")),
}.items():
    _schema(_name, schema_section(replace(_BASE, scalars=_scalars)))
for _name, _text in {
    "invalid": b"\xff\xfe",
    "cut": b"a\xc3",
    "overlong": b"\xc0\x80",
    "beyond_unicode": b"\xf5\x80",
}.items():
    _schema(f"name_not_utf8_{_name}", _GOOD.replace(b"\2\0d0", b"\2\0" + _text))
_schema("unit_not_utf8_surrogate", _GOOD.replace(b"\2\0cm", b"\3\0\xed\xa0\x80"))
_schema("name_longer_than_the_section", _GOOD.replace(b"\2\0cm", b"\xff\xffcm"))

for _name, _missing in {
    "schema": "schema",
    "sizes": "sizes",
    "column": "b",
    "first_column": "y",
}.items():
    _refuse(f"sections_without_{_name}", _file(_sections(**{_missing: None})))
_refuse("sections_with_a_column_of_no_field", _file(_sections(extra=bytes(4))))
_refuse("sections_with_an_unknown_kind", _file(_sections(unknown=b"x")))
_refuse("sections_out_of_order", _file(dict(reversed(_sections().items()))))
_refuse("sections_none", _file({}))
_refuse("column_cut", _file(_sections(y=bytes(31))), seen_in="column")
_refuse("column_too_long", _file(_sections(y=bytes(33))), seen_in="column")
_refuse("column_empty", _file(_sections(y=b"")), seen_in="column")
_refuse("column_bool_of_2", _file(_sections(b=b"\1\0\2\1")), seen_in="column")
_S = 4 + len(_BODIES[0])
for _name, _sizes in {
    "cut": [_S] * 3,
    "too_many": [_S] * 4 + [0],
    "sum_too_large": [_S] * 3 + [_S + 1],
    "sum_too_small": [_S] * 3 + [_S - 1],
    "sum_wraps_at_32_bits": [_S + 2**31, _S + 2**31, _S, _S],
}.items():
    _refuse(f"sizes_{_name}", _file(_sections(sizes=np.array(_sizes, "<u4").tobytes())))
_shifted = np.array([_S - 1, _S + 1, _S, _S], "<u4").tobytes()
_refuse("sizes_shifted", _file(_sections(sizes=_shifted)), seen_in="record")
_whole = np.array([0, 2 * _S, _S, _S], "<u4").tobytes()
_refuse("sizes_of_an_empty_record", _file(_sections(sizes=_whole)))
_refuse("codes_without_the_feature", _file(_sections(codes=bytes(19))))
_refuse("feature_codes_without_the_section", _file(_sections(), required=1))
_refuse("feature_float16_of_a_float32_shard", _file(_sections(), required=2))
_half = schema_section(replace(_BASE, precision="float16"))
_refuse("float16_without_the_feature", _file(_sections(schema=_half)))

# Header, trailer and directory: fields of the sound base shard changed, checksums mended.


def _patched(changes: Mapping[int, tuple[str, int]]) -> bytes:
    data = bytearray(base_shard())
    for at, (code, value) in changes.items():
        struct.pack_into("<" + code, data, at % len(data), value)
    return reseal(bytes(data))


def _patch(name: str, at: int, code: str, value: int, expected: Expected = "corrupt") -> None:
    _refuse(name, _patched({at: (code, value)}), expected)


_N = len(base_shard())
_END, _DIR, _COUNT, _SIZE = struct.unpack_from("<QQQQ", base_shard(), _N - 64)
for _value in (0, 2, 0x100, 0xFFFF):
    _patch(f"header_version_{_value}", 8, "H", _value, "unsupported")
for _bit in (2, 3, 32, 63):
    _patch(f"header_required_feature_{_bit}", 16, "Q", 1 << _bit, "unsupported")
for _value in (0, 63, 65, 0xFFFF):
    _patch(f"header_size_{_value}", 10, "H", _value)
_patch("header_magic", 0, "B", 0x88)
_patch("header_magic_of_a_text_transfer", 4, "B", 0x0A)
for _at in (12, 15, 48, 59):
    _patch(f"header_reserved_byte_{_at}", _at, "B", 1)
_patch("trailer_magic", -4, "B", 0x46)
_patch("trailer_shard_id", -64 + 32, "B", 0)
for _field, _at, _code, _values in (
    ("records_end", -64, "Q", (0, 63, _END - 1, _END + 1, _DIR + 1, _N, 2**63, 2**64 - 1)),
    ("directory_offset", -56, "Q", (0, _DIR - 24, _DIR - 1, _DIR + 1, _N, 2**63, 2**64 - 24)),
    ("n_samples", -48, "Q", (0, 3, 5, 2**32 + 4, 2**62, 2**63, 2**64 - 1)),
    ("file_size", -40, "Q", (0, _N - 1, _N + 1, 2**64 - 1)),
    ("n_sections", -16, "I", (0, 1, 3, 5, 65_536, 65_537, 2**32 - 1)),
):
    for _value in _values:
        _patch(f"trailer_{_field}_{_value}", _at, _code, _value)


def _entry(k: int) -> tuple[int, int, int, int]:
    kind, crc, offset, size = struct.unpack_from("<IIQQ", base_shard(), _DIR + 24 * k)
    return int(kind), int(crc), int(offset), int(size)


def _directory(name: str, k: int, field: Callable[[int, int, int], tuple[int, int, int]]) -> None:
    kind, _, offset, size = _entry(k)
    kind, offset, size = field(kind, offset, size)
    at = _DIR + 24 * k
    data = _patched({at: ("I", kind), at + 8: ("Q", offset), at + 16: ("Q", size)})
    _refuse(f"directory_{name}", data)


_directory("section_overlaps_the_one_before", 1, lambda k, o, s: (k, o - 1, s + 1))
_directory("section_leaves_a_gap", 1, lambda k, o, s: (k, o + 1, s - 1))
_directory("section_in_the_records", 0, lambda k, _, s: (k, 64, s))
_directory("section_of_too_many_bytes", 3, lambda k, o, s: (k, o, s + 1))
_directory("section_of_too_few_bytes", 3, lambda k, o, s: (k, o, s - 1))
_directory("section_size_2_63", 3, lambda k, o, _: (k, o, 2**63))
_directory("section_end_wraps", 3, lambda k, o, _: (k, o, 2**64 - o))
_directory("section_offset_beyond_the_file", 3, lambda k, _, s: (k, 2**40, s))
_directory("kind_twice", 3, lambda _, o, s: (KIND_COLUMN, o, s))
_directory("kind_zero", 0, lambda _, o, s: (0, o, s))
_directory("kind_unknown", 3, lambda _, o, s: (0x7FFFFFFF, o, s))
_directory("kind_out_of_order", 0, lambda _, o, s: (9, o, s))
