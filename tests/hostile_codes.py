"""Shards with codes that no sound writer makes: right checksums, one statement of sections 2.6 and 3 broken."""

from __future__ import annotations

from collections.abc import Sequence

from hostile_shards import Case, Expected, Part
from reference_coder import LaneWriter, codes_section, flat_code, varint
from reference_codes import Code, CodeBook
from reference_reader import KIND_CODES, KIND_SCHEMA, KIND_SIZES, ShardSchema
from reference_writer import Streams, record_body, schema_section, shard_bytes
from sound_shards import SHARD_ID

__all__ = ["CODE_CASES", "LARGEST", "SOUND_CODED", "coded_shard"]

CODE_CASES: dict[str, Case] = {}
# For each channel: value plane 0 and the low bytes of gaps have a code of 0, 1, 2 and 255; the high bytes are all 0.
_FOUR = Code({0: 1, 1: 2, 2: 3, 255: 3})
_ROLES = [1, 0, 0, 0, 1, 2]
Lanes = Sequence[bytes]


def coded_shard(
    body: bytes,
    shape: tuple[int, int, int] = (1, 4, 4),
    codes: bytes | None = None,
    precision: str = "float32",
) -> bytes:
    """One record without scalars, in a shard whose section codes is `codes`."""
    c, h, w = shape
    schema = ShardSchema("X", tuple((f"c{k}", "") for k in range(c)), h, w, precision, ())
    book = CodeBook([_FOUR, Code({0: 0})], _ROLES * c)
    sections = {
        KIND_SCHEMA: schema_section(schema),
        KIND_SIZES: b"",
        KIND_CODES: codes_section(book) if codes is None else codes,
    }
    required = 1 | (precision == "float16") << 1
    return shard_bytes([body], sections, shard_id=SHARD_ID, required=required)


def _refuse(name: str, data: bytes, seen_in: Part, expected: Expected = "corrupt") -> None:
    if name in CODE_CASES:
        raise ValueError(name)
    CODE_CASES[name] = Case(data, expected, seen_in)


def _lanes(*planes: list[int]) -> Lanes:
    writer = LaneWriter()
    for plane in planes:
        writer.write(bytes(plane), _FOUR)
    return writer.finish()


def _body(index: list[int], lanes: Lanes, *, tail: tuple[bytes, bytes] = (b"", b"")) -> bytes:
    return record_body(Streams(bytes(index), *tail, lanes), compress=False)


# Two pixels of 1 at 0 and 2: coding 3, the gaps in the lanes.
_INDEX = [13, 2, 0, 0x10, 1, 0]
_GAPS = _lanes([0, 1])
SOUND_CODED = coded_shard(_body(_INDEX, _GAPS))


def _record(
    name: str,
    index: list[int],
    lanes: Lanes = _GAPS,
    *,
    tail: tuple[bytes, bytes] = (b"", b""),
    shape: tuple[int, int, int] = (1, 4, 4),
    precision: str = "float32",
) -> None:
    """`tail`: value stream and noise."""
    data = coded_shard(_body(index, lanes, tail=tail), shape, precision=precision)
    _refuse(f"coded_record_{name}", data, "record")


def _sizes(name: str, **fields: int) -> None:
    body = record_body(Streams(bytes(_INDEX), b"", b"", _GAPS), compress=False, **fields)
    _refuse(f"coded_record_{name}", coded_shard(body), "record")


_NONE = _lanes()
_record("lane_missing", _INDEX, (b"", *_GAPS[1:]))
_record("lane_too_short", [13, 9, 0, 0x10, 1, 0], (b"\xff", *_lanes([2] * 9)[1:]), shape=(1, 8, 8))
_record("lane_too_long", _INDEX, (_GAPS[0] + b"\0", *_GAPS[1:]))
_record("lane_of_nothing", _INDEX, (*_GAPS[:3], b"\0"))
_record("lane_padded_with_a_bit", _INDEX, (b"\x02", *_GAPS[1:]))
_record("lane_padded_with_the_highest_bit", _INDEX, (b"\x80", *_GAPS[1:]))
_record("lanes_of_an_empty_sample", [0], (b"\0", b"", b"", b""))
_record("lanes_missing", _INDEX, _NONE)
_sizes("lane_goes_on_in_the_next", lane_0=0, lane_1=2)
_sizes("lane_beyond_the_record", lane_3=1)
_sizes("lane_huge", lane_0=2**32 - 1)
_sizes("lanes_wrap", lane_0=2**31, lane_1=2**31, lane_2=2)
_sizes("lane_taken_for_noise", lane_1=0)
_FRONT = bytes([len(_INDEX), 0, 0, 0])
for _name, _given in {
    "overlong_lane_size": _FRONT + b"\x81\0\1\0\0" + bytes(_INDEX) + b"".join(_GAPS),
    "ends_in_its_lane_sizes": _FRONT + b"\1\1\0",
    "without_lane_sizes": _FRONT + bytes([13, 2, 0, 0, 1, 0, 0, 1]),
}.items():
    _refuse(f"coded_record_{_name}", coded_shard(_given), "record")

_record("places_bit_7", [13, 2, 0, 0x90, 1, 0])
_record("places_high_gaps_of_narrow_ones", [13, 2, 0, 0x30, 1, 0])
_record("places_rest_of_no_plane", [13, 2, 0, 0x50, 1, 0])
_record("places_value_plane_of_coding_3", [13, 2, 0, 0x11, 1, 0], _lanes([0, 1], [1, 1]))
_record("places_value_plane_1_of_integers", [5, 2, 0, 0x12], _lanes([0, 1], [1, 1]))
_record("places_rest_of_coded_integers", [5, 2, 0, 0x51], _lanes([0, 1], [1, 1]))
_record("places_missing", [13, 2, 0], _NONE)
_record(
    "places_plane_2_of_float16",
    [9, 2, 0, 0x14],
    _lanes([0, 1], [1, 1]),
    tail=(b"", bytes(4)),
    precision="float16",
)
_record("places_gaps_of_a_shared_channel", [*_INDEX, 14, 0, 0x10, 1, 0], shape=(2, 4, 4))
_record("places_gaps_of_a_dense_channel", [15, 0x10, 1, 0], _lanes([0] * 16))
_record("plane_without_a_code", [1, 2, 0, 0x18], _lanes([0, 1], [1, 1]), tail=(b"", bytes(6)))
_record("float16_values_without_the_feature", [9, 2, 0, 0x10], tail=(b"", bytes(4)))

_record("gap_beyond_the_image", [13, 6, 0, 0x10, 1, 0], _lanes([2] * 6))
_record("escape_beyond_the_image", [13, 1, 1, 0x10, 1, 0], _lanes([255, 0]))
_record("escapes_too_few", [13, 2, 0, 0x10, 1, 0], _lanes([255, 0]), shape=(1, 20, 20))
_record("escapes_too_many", [13, 1, 1, 0x10, 1, 0], _lanes([0, 0]), shape=(1, 20, 20))
_record("last_entry_is_an_escape", [13, 1, 1, 0x10, 1, 0], _lanes([0, 255]), shape=(1, 20, 20))
_record("count_above_the_pixels", [13, 17, 0, 0x10, 1, 0], _lanes([0] * 17))
_record("count_huge", [13, *varint(2**32 - 1), 0, 0x20, 1, 0], _NONE)
_record("coded_gaps_in_the_index_too", [*_INDEX, 0, 1])
_record("raw_gaps_missing", [13, 2, 0, 0, 1, 0], _NONE)
_record("value_missing", [5, 2, 0, 0x50], tail=(b"\1", b""))
_record("value_left_over", [5, 2, 0, 0x50], tail=(b"\1\1\1", b""))
_record("value_in_the_noise", [5, 2, 0, 0x50], tail=(b"", b"\1\1"))
_record("noise_missing", [5, 2, 0, 0x10], tail=(b"", b"\1"))
_record("noise_left_over", _INDEX, tail=(b"", b"\1"))
_record("noise_in_the_value_stream", [5, 2, 0, 0x10], tail=(b"\1\1", b""))

_record("exception_equal_to_the_base", [13, 2, 0, 0x10, 1, 1, 0, 1])
_record("exception_beyond_the_words", [13, 2, 0, 0x10, 1, 1, 2, 3])
_record("exceptions_add_up_beyond_the_words", [13, 2, 0, 0x10, 1, 2, 1, 3, 0, 3])
_record("exceptions_more_than_words", [13, 2, 0, 0x10, 1, 3, 0, 3, 0, 3, 0, 3])
_record("exception_gap_huge", [13, 2, 0, 0x10, 1, 1, *varint(2**32 - 1), 3])
_record("exception_gaps_wrap", [13, 2, 0, 0x10, 1, 2, 0, 3, *varint(2**32 - 1), 3])
_record("exceptions_huge", [13, 2, 0, 0x10, 1, *varint(2**32 - 1)])
_record("exceptions_missing", [13, 2, 0, 0x10, 1])
_record("exceptions_cut", [13, 2, 0, 0x10, 1, 2, 0, 3])
_record("exception_of_a_block", [45, 2, 2, 0, 0x10, 1, 1, 2, 3])

# The section.


def _section(
    name: str, codes: list[int], numbers: Sequence[int] = _ROLES, more: bytes = b""
) -> None:
    data = coded_shard(_body([0], _NONE), codes=bytes([*codes, *numbers]) + more)
    _refuse(f"codes_{name}", data, "open")


_ZERO = [0] * 6
_section("empty", [], [])
_section("cut", [1], [])
_section("of_too_few_numbers", [0], [0] * 5)
_section("with_a_byte_left", [0], _ZERO, b"\0")
_section("unknown_number", [1, 7, 7, 0], [0, 0, 2, 0, 0, 0])
_section("number_of_no_code", [0], [1, 0, 0, 0, 0, 0])
_section("number_huge", [1, 7, 7, 0], [0] * 5, varint(2**32 - 1))
_section("overlong_number", [0], [0] * 5, b"\x80\0")
_section("last_before_first", [1, 9, 7, 0x21, 0x02], _ZERO)
_section("first_without_a_length", [1, 7, 9, 0x10, 0x01], _ZERO)
_section("last_without_a_length", [1, 7, 9, 0x11, 0x00], _ZERO)
_section("all_without_a_length", [1, 7, 9, 0, 0], _ZERO)
_section("incomplete", [1, 7, 9, 0x21, 0x03], _ZERO)
_section("over_full", [1, 7, 9, 0x11, 0x02], _ZERO)
_section("one_symbol_that_takes_bits", [1, 7, 7, 1], _ZERO)
_section("one_symbol_that_takes_bits_in_use", [1, 7, 7, 1], [1] * 6)
_section("unused_half_set", [1, 7, 9, 0x21, 0x12], _ZERO)
_section("length_of_12", [1, 0, 12, 0x21, 0x43, 0x65, 0x87, 0xA9, 0xCB, 0x0C], _ZERO)
_section("lengths_cut", [1, 0, 255, *[0x88] * 127], [])
_section("too_many", [*varint(1025), *[7, 7, 0] * 1025], _ZERO)
_section("number_huge_of_codes", list(varint(2**32 - 1)), _ZERO)

_MANY = CodeBook([flat_code([k % 256]) for k in range(1024)], [1024] * 6)
LARGEST = coded_shard(
    _body([0], _NONE), codes=codes_section(_MANY)
)  # as many codes as there may be
