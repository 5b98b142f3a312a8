"""The room `tfrecord`: checksums, framing, and the Example message beside protobuf's own parser."""

from __future__ import annotations

import io
import struct
import threading
from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2eio import _core
from e2eio.errors import ConfigError
from e2eio.tfrecord import (
    MessageError,
    RecordError,
    RecordReader,
    RecordWriter,
    begins_like_a_record,
    masked_crc32c,
    read_example,
    write_example,
)


class Bytes(io.BytesIO):
    def skip(self, n_bytes: int, /) -> int:
        return len(self.read(n_bytes))


def framed(*payloads: bytes) -> bytes:
    stream = io.BytesIO()
    with RecordWriter(stream) as writer:
        for payload in payloads:
            writer.write(payload)
    return stream.getvalue()


def records(data: bytes) -> list[bytes]:
    reader = RecordReader(Bytes(data))
    found = []
    while (payload := reader.read()) is not None:
        found.append(bytes(payload))
    return found


# RFC 3720, appendix B.4; the last one is its SCSI read command.
ISCSI = bytes.fromhex(
    "01c00000000000000000000000000000140000000000040000000014000000182800000000000000"
    "0200000000000000"
)
VECTORS = [
    (b"", 0),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (ISCSI, 0xD9963A56),
]


@pytest.mark.parametrize(("data", "crc"), VECTORS)
def test_crc32c_of_known_vectors(data: bytes, crc: int) -> None:
    assert _core.crc32c(data) == crc
    for cut in range(len(data) + 1):
        assert _core.crc32c(data[cut:], _core.crc32c(data[:cut])) == crc


def test_crc32c_of_every_kind_of_buffer() -> None:
    data = np.random.default_rng(1).integers(0, 256, 200_000, np.uint8)  # the GIL is released
    crc = _core.crc32c(data.tobytes())
    for buffer in (bytearray(data), memoryview(data.tobytes()), data, data.view(np.float32)):
        assert _core.crc32c(buffer) == crc
    with pytest.raises((BufferError, ValueError)):
        _core.crc32c(data[::2])
    with pytest.raises(TypeError):
        _core.crc32c("text")  # type: ignore[arg-type]


def test_crc32c_in_several_threads() -> None:
    data = bytes(range(256)) * 4096
    crc, found = _core.crc32c(data), []
    threads = [threading.Thread(target=lambda: found.append(_core.crc32c(data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [crc] * 8


def test_framing_is_that_of_the_specification() -> None:
    data = framed(b"abc")
    assert data[:8] == struct.pack("<Q", 3)
    assert data[8:12] == struct.pack("<I", masked_crc32c(data[:8]))
    assert data[12:15] == b"abc"
    assert data[15:] == struct.pack("<I", masked_crc32c(b"abc"))
    crc = _core.crc32c(b"abc")
    assert masked_crc32c(b"abc") == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    assert begins_like_a_record(data)
    assert not begins_like_a_record(data[1:])
    assert not begins_like_a_record(data[:11])


def test_records_come_back() -> None:
    payloads = [b"", b"a", bytes(1000), b"z" * 70_000]
    assert records(framed(*payloads)) == payloads
    assert records(b"") == []
    reader = RecordReader(Bytes(framed(*payloads)))
    offsets = [reader.offset_bytes]
    while reader.skip():
        offsets.append(reader.offset_bytes)
    assert offsets == [0, 16, 33, 1049, 71_065]


def test_reading_and_skipping_mix() -> None:
    reader = RecordReader(Bytes(framed(b"one", b"two", b"three", b"four")))
    assert reader.skip()
    assert bytes(reader.read() or b"") == b"two"
    assert reader.skip()
    assert bytes(reader.read() or b"") == b"four"
    assert not reader.skip()
    assert reader.read() is None


def test_every_flipped_bit_is_found() -> None:
    data = framed(b"first", b"second one")
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RecordError):
            records(bytes(damaged))


def test_truncation_is_found_wherever_it_is() -> None:
    data = framed(b"first", b"second one")
    whole = {0: 0, 21: 1, len(data): 2}
    for size in range(len(data) + 1):
        if size in whole:
            assert len(records(data[:size])) == whole[size]
            continue
        with pytest.raises(RecordError, match="truncated record") as caught:
            records(data[:size])
        assert caught.value.offset_bytes == (0 if size < 21 else 21)


def test_length_is_limited_before_anything_is_read() -> None:
    length = struct.pack("<Q", 1 << 40)
    data = length + struct.pack("<I", masked_crc32c(length)) + bytes(100)
    with pytest.raises(RecordError, match=r"too long: found 1099511627776 bytes, expected at most"):
        records(data)


def test_unknown_compression() -> None:
    with pytest.raises(ConfigError, match="GZIP"):
        RecordWriter(io.BytesIO(), "BZ2")  # type: ignore[arg-type]


# ---- the message

_SCALARS = {"floats": ("TYPE_FLOAT", 2), "ints": ("TYPE_INT64", 3), "texts": ("TYPE_BYTES", 1)}


@pytest.fixture(scope="module")
def example_class() -> Any:
    """protobuf's own class for the message, from a description made here."""
    pytest.importorskip("google.protobuf", reason="protobuf is not installed")
    pb = import_module("google.protobuf.descriptor_pb2")
    pool_module = import_module("google.protobuf.descriptor_pool")
    factory = import_module("google.protobuf.message_factory")
    kinds = pb.FieldDescriptorProto
    file = pb.FileDescriptorProto(name="example_of_the_test.proto", package="t", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, str, str, bool]) -> Any:
        made = file.message_type.add(name=name)
        for field, number, kind, of, many in fields:
            label = kinds.LABEL_REPEATED if many else kinds.LABEL_OPTIONAL
            made.field.add(
                name=field, number=number, type=getattr(kinds, kind), type_name=of, label=label
            )
        return made

    message("BytesList", ("value", 1, "TYPE_BYTES", "", True))
    message("FloatList", ("value", 1, "TYPE_FLOAT", "", True))
    message("Int64List", ("value", 1, "TYPE_INT64", "", True))
    feature = message(
        "Feature",
        ("bytes_list", 1, "TYPE_MESSAGE", ".t.BytesList", False),
        ("float_list", 2, "TYPE_MESSAGE", ".t.FloatList", False),
        ("int64_list", 3, "TYPE_MESSAGE", ".t.Int64List", False),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message("Features", ("feature", 1, "TYPE_MESSAGE", ".t.Features.Entry", True))
    entry = features.nested_type.add(name="Entry")
    entry.options.map_entry = True
    entry.field.add(
        name="key", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL, type_name=""
    )
    entry.field.add(
        name="value",
        number=2,
        type=kinds.TYPE_MESSAGE,
        label=kinds.LABEL_OPTIONAL,
        type_name=".t.Feature",
    )
    features.field[0].name = "entry"  # the nested type's name has to follow from the field's
    message("Example", ("features", 1, "TYPE_MESSAGE", ".t.Features", False))
    for made in file.message_type:
        for field in made.field:
            if not field.type_name:
                field.ClearField("type_name")
    entry.field[0].ClearField("type_name")
    features.nested_type[0].name = "EntryEntry"
    features.field[0].type_name = ".t.Features.EntryEntry"
    pool = pool_module.DescriptorPool()
    pool.Add(file)
    return factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


def ours(message: bytes) -> dict[str, tuple[str, Any]]:
    found: dict[str, tuple[str, Any]] = {}
    for name, feature in read_example(message).items():
        if feature.kind == "none":
            found[name] = ("none", None)
        elif feature.kind == "bytes":
            found[name] = ("bytes", [bytes(text) for text in feature.texts()])
        else:
            values = feature.numbers()
            bits = values.view(np.uint32) if feature.kind == "float" else values
            found[name] = (feature.kind, bits.tolist())
    return found


def theirs(example_class: Any, message: bytes) -> dict[str, tuple[str, Any]]:
    parsed = example_class.FromString(message)
    found: dict[str, tuple[str, Any]] = {}
    for name, feature in parsed.features.entry.items():
        kind = feature.WhichOneof("kind")
        if kind is None:
            found[name] = ("none", None)
        elif kind == "bytes_list":
            found[name] = ("bytes", list(feature.bytes_list.value))
        elif kind == "float_list":
            values = np.array(feature.float_list.value, np.float32)
            found[name] = ("float", values.view(np.uint32).tolist())
        else:
            found[name] = ("int64", list(feature.int64_list.value))
    return found


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


FLOAT = st.floats(width=32, allow_nan=False)
UNKNOWN = st.one_of(
    st.binary(max_size=6).map(lambda b: field(15, b)),
    st.integers(0, 2**64 - 1).map(lambda v: varint(9 << 3) + varint(v)),
    st.binary(min_size=4, max_size=4).map(lambda b: varint(2000 << 3 | 5) + b),
    st.binary(min_size=8, max_size=8).map(lambda b: varint(7 << 3 | 1) + b),
    st.binary(max_size=4).map(
        lambda b: varint(11 << 3 | 3) + field(1, b) + bytes((0x1B, 0x1C)) + varint(11 << 3 | 4)
    ),
)


def pieces(packed: Any, single: Any) -> Any:
    """A list as protobuf may write it: pieces packed and single, unknown fields between them."""
    return st.lists(st.one_of(packed, single, UNKNOWN), min_size=1, max_size=6).map(b"".join)


FLOATS = pieces(
    st.lists(FLOAT, max_size=5).map(lambda v: field(1, np.array(v, "<f4").tobytes())),
    FLOAT.map(lambda v: b"\x0d" + struct.pack("<f", v)),
)
INTS = pieces(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5).map(
        lambda v: field(1, b"".join(varint(i % 2**64) for i in v))
    ),
    st.integers(-(2**63), 2**63 - 1).map(lambda v: b"\x08" + varint(v % 2**64)),
)
TEXTS = pieces(st.binary(max_size=5).map(lambda b: field(1, b)), UNKNOWN)
MEMBER = st.one_of(
    TEXTS.map(lambda b: field(1, b)),
    FLOATS.map(lambda b: field(2, b)),
    INTS.map(lambda b: field(3, b)),
    UNKNOWN,
)
FEATURE = st.lists(MEMBER, min_size=1, max_size=3).map(b"".join)
KEY = st.sampled_from(["a", "X_jets", "", "\u03b7"]).map(lambda name: field(1, name.encode()))
VALUE = FEATURE.map(lambda b: field(2, b))
# No unknown fields here: protobuf's implementations differ, and Python's drops such an entry.
ENTRY = st.one_of(
    st.tuples(KEY, VALUE),
    st.tuples(VALUE, KEY),
    st.tuples(KEY, VALUE, VALUE, KEY),
    st.lists(st.one_of(KEY, VALUE), max_size=3),
).map(b"".join)
FEATURES = st.lists(st.one_of(ENTRY.map(lambda b: field(1, b)), UNKNOWN), min_size=1, max_size=4)
EXAMPLE = st.lists(
    st.one_of(FEATURES.map(lambda parts: field(1, b"".join(parts))), UNKNOWN), max_size=3
).map(b"".join)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(message=EXAMPLE)
def test_messages_read_as_protobuf_reads_them(example_class: Any, message: bytes) -> None:
    assert ours(message) == theirs(example_class, message)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(message=EXAMPLE, data=st.data())
def test_damaged_messages_give_features_or_one_kind_of_error(
    message: bytes, data: st.DataObject
) -> None:
    if not message:
        return
    damaged = bytearray(message)
    damaged[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MessageError):
        ours(bytes(damaged))


@settings(max_examples=100, deadline=None)
@given(
    floats=st.lists(FLOAT, max_size=20),
    ints=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    texts=st.lists(st.binary(max_size=20), max_size=5),
    name=st.text(max_size=5).filter(lambda t: t not in ("i", "b")),
)
def test_what_is_written_comes_back(
    example_class: Any, floats: list[float], ints: list[int], texts: list[bytes], name: str
) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    message = write_example(
        {name: np.array(floats, np.float32), "i": np.array(ints, np.int64), "b": texts}
    )
    expected = {
        name: ("float", np.array(floats, np.float32).view(np.uint32).tolist()),
        "i": ("int64", ints),
        "b": ("bytes", texts),
    }
    assert ours(message) == expected
    assert theirs(example_class, message) == expected


def test_packed_floats_are_a_view_and_keep_their_bits() -> None:
    bits = np.array([0x80000000, 1, 0x7FC01234, 0x7F800001, 0xFF800000], np.uint32)
    values = read_example(write_example({"X": bits.view(np.float32)}))["X"].numbers()
    assert not values.flags.owndata
    assert np.array_equal(values.view(np.uint32), bits)
    unpacked = b"".join(b"\x0d" + b.tobytes() for b in bits)
    message = field(1, field(1, field(1, b"X") + field(2, field(2, unpacked))))
    assert np.array_equal(read_example(message)["X"].numbers().copy().view(np.uint32), bits)


def feature(content: bytes) -> bytes:
    return field(1, field(1, field(1, b"X") + field(2, content)))


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (b"\x0a", "end in the middle"),
        (b"\x0a\x05abc", "field of 5 bytes"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "expected at most"),
        (b"\x0a" + b"\xff" * 11, "more than 10 bytes"),
        (b"\x02\x00", "a tag 2"),
        (b"\xff\xff\xff\xff\xff\x0f\x00", "a tag"),
        (b"\x0e", "wire type 6"),
        (b"\x0c", "wire type 4"),
        (b"\x0b", "end in the middle"),
        (b"\x0b\x14", "another group"),
        (b"\x0b" * 101, "100 groups"),
        (b"\x0d\x00\x00", "field of 4 bytes"),
        (field(1, field(1, field(1, b"\xff"))), "UTF-8"),
        (feature(field(2, field(1, b"abcde"))), "packed floats of 5 bytes"),
        (feature(field(2, b"\x0dabc")), "middle of a float"),
        (feature(field(3, field(1, b"\x01\x80"))), "middle of an integer"),
        (feature(field(3, field(1, b"\x80" * 10 + b"\x01"))), "more than 10 bytes"),
        (feature(field(1, b"\x0a\x05abc")), "field of 5 bytes"),
        (feature(b""), "kind none"),
    ],
)
def test_messages_that_are_none(message: bytes, what: str) -> None:
    with pytest.raises(MessageError, match=what):
        for found in read_example(message).values():
            found.texts() if found.kind == "bytes" else found.numbers()


@pytest.mark.timeout(60)  # a second; many minutes if each run looks ahead in full
def test_alternating_floats_take_no_quadratic_time() -> None:
    content = b"\x0d\x00\x00\x80\x3f\x10\x01" * 200_000
    assert read_example(feature(field(2, content)))["X"].numbers().sum() == 200_000


@pytest.mark.parametrize("value", [np.zeros(2), np.array([2**63], np.uint64), np.array(["a"])])
def test_what_the_message_cannot_hold(value: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="'X'"):
        write_example({"X": value})
