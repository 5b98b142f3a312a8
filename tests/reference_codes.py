"""Section 2.6 and section 3.3 of docs/format.md in plain Python: the prefix codes of a shard and the four lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from reference_fields import Cursor

__all__ = [
    "GAP_HIGH",
    "GAP_LOW",
    "MAX_CODES",
    "MAX_CODE_BITS",
    "N_LANES",
    "N_ROLES",
    "Code",
    "CodeBook",
    "Lanes",
    "canonical_codes",
    "read_code_book",
]

MAX_CODES = 1024
MAX_CODE_BITS = 11
N_LANES = 4
N_ROLES = 6
GAP_LOW, GAP_HIGH = 4, 5  # roles 0 to 3 are the value planes


def canonical_codes(lengths: Mapping[int, int]) -> dict[int, int]:
    """Symbol -> its bits, the first one lowest, for symbol -> number of bits (section 2.6)."""
    codes: dict[int, int] = {}
    code, last = 0, 0
    for symbol in sorted(lengths, key=lambda s: (lengths[s], s)):
        length = lengths[symbol]
        code <<= length - last
        last = length
        codes[symbol] = int(f"{code:0{length}b}"[::-1], 2) if length else 0
        code += 1
    return codes


@dataclass(frozen=True)
class Code:
    """A complete prefix code: symbol -> number of bits; a single symbol takes none."""

    lengths: Mapping[int, int]

    @cached_property
    def longest(self) -> int:
        return max(self.lengths.values())

    @cached_property
    def table(self) -> list[tuple[int, int]]:
        """(symbol, its number of bits) for each value that the next `longest` bits can have."""
        table = [(-1, 0)] * (1 << self.longest)
        for symbol, code in canonical_codes(self.lengths).items():
            length = self.lengths[symbol]
            for rest in range(1 << (self.longest - length)):
                table[rest << length | code] = symbol, length
        return table


@dataclass(frozen=True)
class CodeBook:
    """The codes, and for each channel and role 0 or 1 + the number of its code."""

    codes: Sequence[Code]
    numbers: Sequence[int]

    def find(self, channel: int, role: int) -> Code | None:
        number = self.numbers[N_ROLES * channel + role]
        return self.codes[number - 1] if number else None


def read_code_book(cursor: Cursor, n_channels: int) -> CodeBook:
    """The section `codes`."""
    n_codes = cursor.varint()
    if n_codes > MAX_CODES:
        raise cursor.fail(f"{n_codes} codes, at most {MAX_CODES}")
    codes = [_read_code(cursor) for _ in range(n_codes)]
    numbers = [cursor.varint() for _ in range(N_ROLES * n_channels)]
    if max(numbers) > n_codes:
        raise cursor.fail(f"code {max(numbers)} of {n_codes}")
    cursor.finish()
    return CodeBook(codes, numbers)


def _read_code(cursor: Cursor) -> Code:
    first, last = cursor.uint(1), cursor.uint(1)
    if first > last:
        raise cursor.fail(f"symbols {first} to {last}")
    n = last - first + 1
    halves = [half for byte in cursor.take((n + 1) // 2) for half in (byte & 15, byte >> 4)]
    if any(halves[n:]):
        raise cursor.fail("an unused half that is not zero")
    if n == 1 and not halves[0]:
        return Code({first: 0})
    if not halves[0] or not halves[n - 1]:
        raise cursor.fail("the first or the last symbol has no code")
    lengths = {first + k: length for k, length in enumerate(halves[:n]) if length}
    space = sum(2.0**-length for length in lengths.values())
    if space != 1 or max(lengths.values()) > MAX_CODE_BITS:
        raise cursor.fail("lengths that make no complete code, or a code that is too long")
    return Code(lengths)


class Lanes:
    """Four bit streams, lowest bit first; symbol i of a plane comes from lane i mod 4."""

    def __init__(self, lanes: Sequence[bytes], cursor: Cursor) -> None:
        self.lanes, self.cursor = lanes, cursor
        self.at = [0] * N_LANES  # bits

    def take(self, n: int, code: Code) -> bytes:
        """The next plane, of n bytes."""
        table, mask = code.table, (1 << code.longest) - 1
        plane = bytearray(n)
        for k, lane in enumerate(self.lanes):
            at = self.at[k]
            for i in range(k, n, N_LANES):
                window = int.from_bytes(lane[at >> 3 : (at >> 3) + 3], "little") >> (at & 7)
                plane[i], length = table[window & mask]
                at += length
            if at > 8 * len(lane):
                raise self.cursor.fail(f"lane {k}: {at} bits used of {len(lane)} bytes")
            self.at[k] = at
        return bytes(plane)

    def finish(self) -> None:
        """Refuse bytes left over, and bits that are not zero after the last symbol."""
        for k, (lane, at) in enumerate(zip(self.lanes, self.at, strict=True)):
            if (at + 7) // 8 != len(lane) or int.from_bytes(lane, "little") >> at:
                raise self.cursor.fail(f"lane {k}: {at} bits used of {len(lane)} bytes")
