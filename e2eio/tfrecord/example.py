"""The Example message: named features, each a list of floats, of integers or of bytes.

    message BytesList { repeated bytes value = 1; }
    message FloatList { repeated float value = 1 [packed = true]; }
    message Int64List { repeated int64 value = 1 [packed = true]; }
    message Feature { oneof kind { BytesList bytes_list = 1; FloatList float_list = 2;
                                   Int64List int64_list = 3; } }
    message Features { map<string, Feature> feature = 1; }
    message Example { Features features = 1; }

as in tensorflow/core/example. Everything that protobuf allows is read: fields in any order, fields
that are not known, lists packed, unpacked or in several pieces, keys that occur twice (the last one
counts). The numbers of a list in one packed piece are a view of the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from e2eio.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Feature", "MessageError", "read_example", "write_example"]

Kind = Literal["none", "bytes", "float", "int64"]
Buffer = bytes | bytearray | memoryview

_KINDS: Final[dict[int, Kind]] = {1: "bytes", 2: "float", 3: "int64"}
_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)
_LIST: Final = 1 << 3 | _BYTES  # field 1, wire type 2: the tag of most that is in an Example
_ENTRY_VALUE: Final = 2 << 3 | _BYTES
_UNPACKED_FLOAT: Final = 1 << 3 | _FIXED32
_UNPACKED_INT: Final = 1 << 3 | _VARINT
_TAGGED_FLOAT: Final = np.dtype([("tag", "u1"), ("value", "<f4")])
_MAX_VARINT: Final = 10  # bytes
_MAX_TAG: Final = (1 << 32) - 1
_MAX_DEPTH: Final = 100  # of groups; protobuf's own limit


class MessageError(Exception):
    """Bytes that are no Example.

    Parameters
    ----------
    what : str
    offset_bytes : int
        Within the message.
    """

    def __init__(self, what: str, offset_bytes: int) -> None:
        super().__init__(f"{what} at byte {offset_bytes} of the message")
        self.what = what
        self.offset_bytes = offset_bytes


class Feature:
    """One feature of a message; its list is decoded when it is asked for.

    Attributes
    ----------
    kind : {"none", "bytes", "float", "int64"}
    """

    __slots__ = ("_buffer", "_ranges", "kind")

    def __init__(self, buffer: Buffer, ranges: Iterable[tuple[int, int]]) -> None:
        """Take the Feature messages at `ranges`, merged."""
        self._buffer = buffer
        self._ranges: list[tuple[int, int]] = []
        self.kind: Kind = "none"
        for at, end in ranges:
            while at < end:
                tag, begin, at = _field(buffer, at, end)
                kind = _KINDS.get(tag >> 3) if tag & 7 == _BYTES else None
                if kind is None:
                    continue
                if kind != self.kind:  # the last member of a oneof counts
                    self.kind = kind
                    self._ranges = []
                self._ranges.append((begin, at))

    def numbers(self) -> NDArray[Any]:
        """Return the numbers: float32 or int64 [n], read-only, of any alignment.

        Raises
        ------
        MessageError
            The list is damaged, or has no numbers.
        """
        if self.kind not in ("float", "int64"):
            raise MessageError(f"a list of kind {self.kind}, expected numbers", self._at())
        decode = _floats if self.kind == "float" else _integers
        pieces: list[NDArray[Any]] = []
        for begin, end in self._ranges:
            decode(self._buffer, begin, end, pieces)
        if len(pieces) == 1:
            return pieces[0]
        dtype = np.float32 if self.kind == "float" else np.int64
        return np.concatenate(pieces) if pieces else np.empty(0, dtype)

    def texts(self) -> list[memoryview]:
        """Return the elements of a list of bytes.

        Raises
        ------
        MessageError
            The list is damaged, or of numbers.
        """
        if self.kind != "bytes":
            raise MessageError(f"a list of kind {self.kind}, expected bytes", self._at())
        view = memoryview(self._buffer)
        found = []
        for at, end in self._ranges:
            while at < end:
                tag, begin, at = _field(self._buffer, at, end)
                if tag == _LIST:
                    found.append(view[begin:at])
        return found

    def _at(self) -> int:
        return self._ranges[0][0] if self._ranges else 0


def read_example(message: Buffer) -> dict[str, Feature]:
    """Return the features of a message by name.

    Raises
    ------
    MessageError
        It is no Example.

    Examples
    --------
    >>> message = write_example({"m0": np.float32([173.5]), "y": np.array([1])})
    >>> features = read_example(message)
    >>> {name: (feature.kind, feature.numbers().tolist()) for name, feature in features.items()}
    {'m0': ('float', [173.5]), 'y': ('int64', [1])}
    """
    features: dict[str, Feature] = {}
    at, end = 0, len(message)
    while at < end:
        tag, entry, at = _field(message, at, end)
        if tag != _LIST:
            continue
        stop = at
        while entry < stop:
            tag, begin, entry = _field(message, entry, stop)
            if tag == _LIST:
                name, feature = _entry(message, begin, entry)
                features[name] = feature
    return features


def _entry(message: Buffer, at: int, end: int) -> tuple[str, Feature]:
    name, values = "", []
    while at < end:
        tag, begin, at = _field(message, at, end)
        if tag == _LIST:
            try:
                name = str(message[begin:at], "utf-8")
            except UnicodeDecodeError:
                raise MessageError("a name that is no UTF-8", begin) from None
        elif tag == _ENTRY_VALUE:
            values.append((begin, at))
    return name, Feature(message, values)


def _field(buffer: Buffer, at: int, end: int) -> tuple[int, int, int]:
    """Return tag, begin and end of the content of the field at `at`."""
    first = at
    tag, at = _varint(buffer, at, end)
    if tag > _MAX_TAG or at - first > 5 or tag < 8:
        raise MessageError(f"a tag {tag}, expected a field number and wire type", first)
    wire = tag & 7
    if wire == _BYTES:
        size, at = _varint(buffer, at, end)
        stop = at + size
    elif wire == _VARINT:
        _, stop = _varint(buffer, at, end)
    elif wire == _FIXED32:
        stop = at + 4
    elif wire == _FIXED64:
        stop = at + 8
    elif wire == _GROUP:
        stop = _group_end(buffer, at, end, tag >> 3)
    else:
        raise MessageError(f"wire type {wire}, expected 0 to 3 or 5", first)
    if stop > end:
        raise MessageError(f"a field of {stop - at} bytes, expected at most {end - at}", first)
    return tag, at, stop


def _varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    first = at
    value = shift = 0
    while at < end:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift == 7 * _MAX_VARINT:
            raise MessageError(f"an integer of more than {_MAX_VARINT} bytes", first)
    raise MessageError("the end in the middle of an integer", first)


def _group_end(buffer: Buffer, at: int, end: int, number: int) -> int:
    """Return where a group ends, its last tag included; groups are history, but legal."""
    open_groups = [number]
    while open_groups:
        tag, after = _varint(buffer, at, end)
        if tag & 7 == _END_GROUP:
            if tag >> 3 != open_groups.pop():
                raise MessageError("the end of another group", at)
            at = after
        elif tag & 7 == _GROUP:
            open_groups.append(tag >> 3)
            if len(open_groups) > _MAX_DEPTH:
                raise MessageError(f"more than {_MAX_DEPTH} groups in one another", at)
            at = after
        else:
            _, _, at = _field(buffer, at, end)
    return at


def _floats(buffer: Buffer, at: int, end: int, pieces: list[NDArray[Any]]) -> None:
    while at < end:
        if buffer[at] == _UNPACKED_FLOAT:
            at = _float_run(buffer, at, end, pieces)
            continue
        tag, begin, at = _field(buffer, at, end)
        if tag == _LIST:
            n_values, rest = divmod(at - begin, 4)
            if rest:
                raise MessageError(f"packed floats of {at - begin} bytes, not 4 each", begin)
            pieces.append(np.frombuffer(buffer, "<f4", n_values, begin))
        elif tag == _UNPACKED_FLOAT:
            pieces.append(np.frombuffer(buffer, "<f4", 1, begin))


def _float_run(buffer: Buffer, at: int, end: int, pieces: list[NDArray[Any]]) -> int:
    """Take unpacked floats as far as they follow one another: a byte of tag and 4 of value each."""
    step = 16
    while True:
        n_values = min(step, (end - at) // _TAGGED_FLOAT.itemsize)
        if n_values == 0:
            if at < end and buffer[at] == _UNPACKED_FLOAT:
                raise MessageError("the end in the middle of a float", at)
            return at
        run = np.frombuffer(buffer, _TAGGED_FLOAT, n_values, at)
        other = np.flatnonzero(run["tag"] != _UNPACKED_FLOAT)
        n_run = int(other[0]) if other.size else n_values
        if n_run:
            pieces.append(run["value"][:n_run])
        at += n_run * _TAGGED_FLOAT.itemsize
        if n_run < n_values:
            return at
        step *= 4  # looking far ahead at once would be quadratic where runs are short


def _integers(buffer: Buffer, at: int, end: int, pieces: list[NDArray[Any]]) -> None:
    while at < end:
        tag, begin, at = _field(buffer, at, end)
        if tag in (_LIST, _UNPACKED_INT) and begin < at:
            pieces.append(_varints(buffer, begin, at))


def _varints(buffer: Buffer, begin: int, end: int) -> NDArray[np.int64]:
    data = np.frombuffer(buffer, np.uint8, end - begin, begin)
    last = np.flatnonzero(data < 0x80)
    if not last.size or int(last[-1]) != data.size - 1:
        raise MessageError("the end in the middle of an integer", begin)
    first = np.concatenate([[0], last[:-1] + 1])
    sizes = last - first + 1
    if int(sizes.max()) > _MAX_VARINT:
        raise MessageError(f"an integer of more than {_MAX_VARINT} bytes", begin)
    place = np.arange(data.size) - np.repeat(first, sizes)
    bits = (data & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    values: NDArray[np.int64] = np.add.reduceat(bits, first).view(np.int64)
    return values


def write_example(
    features: Mapping[str, NDArray[Any] | bytes | Iterable[bytes]],
) -> bytes:
    """Return an Example with these features, in their order; the same bytes on every machine.

    Parameters
    ----------
    features : mapping
        Arrays of float32 or float16 become lists of floats, arrays of integers and booleans lists
        of int64, bytes lists of bytes. Arrays of any shape are written in C order.

    Raises
    ------
    ConfigError
        An array is of another kind, or an integer does not fit.

    Examples
    --------
    >>> write_example({"y": np.float32([1])}).hex()
    '0a0f0a0d0a0179120812060a040000803f'
    """
    entries = []
    for name, value in features.items():
        key = name.encode()
        feature = _feature(name, value)
        entry = b"".join((_tagged(_LIST, key), _tagged(_ENTRY_VALUE, feature)))
        entries.append(_tagged(_LIST, entry))
    return _tagged(_LIST, b"".join(entries))


def _feature(name: str, value: NDArray[Any] | bytes | Iterable[bytes]) -> bytes:
    if isinstance(value, bytes):
        value = [value]
    if not isinstance(value, np.ndarray | np.generic):
        return _tagged(_LIST, b"".join(_tagged(_LIST, element) for element in value))
    if value.dtype.kind == "f" and value.dtype.itemsize <= 4:
        return _tagged(2 << 3 | _BYTES, _tagged(_LIST, value.astype("<f4", copy=False).tobytes()))
    if value.dtype.kind not in "iub" or (value.size and int(value.max()) >= 1 << 63):
        raise ConfigError(
            f"wrong kind of feature: {name!r}: found {value.dtype}, expected float32, or integers "
            "that fit into int64; convert it"
        )
    packed = b"".join(_encoded(int(number) & (1 << 64) - 1) for number in value.ravel())
    return _tagged(3 << 3 | _BYTES, _tagged(_LIST, packed))


def _tagged(tag: int, content: bytes) -> bytes:
    return b"".join((bytes((tag,)), _encoded(len(content)), content))


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
