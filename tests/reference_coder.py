"""Section 2.6 and section 3.3 of docs/format.md, the other way: code books and lanes of any choice to bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reference_codes import N_LANES, N_ROLES, Code, CodeBook, canonical_codes

__all__ = ["LaneWriter", "code_section", "codes_section", "flat_code", "one_code_for_all", "varint"]


def varint(value: int) -> bytes:
    """Shortest unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def code_section(lengths: Mapping[int, int]) -> bytes:
    """One code of the section: first and last symbol, then the lengths in halves of a byte."""
    first, last = min(lengths), max(lengths)
    halves = [lengths.get(symbol, 0) for symbol in range(first, last + 1)]
    halves += [0] * (len(halves) % 2)
    pairs = zip(halves[::2], halves[1::2], strict=True)
    return bytes([first, last, *(low | high << 4 for low, high in pairs)])


def codes_section(book: CodeBook) -> bytes:
    """The section `codes`."""
    codes = b"".join(code_section(code.lengths) for code in book.codes)
    return varint(len(book.codes)) + codes + b"".join(map(varint, book.numbers))


def flat_code(symbols: Iterable[int]) -> Code:
    """A complete code whose lengths differ by one at most; the lowest symbols have the short ones."""
    ordered = sorted(set(symbols))
    depth = (len(ordered) - 1).bit_length()
    n_short = (1 << depth) - len(ordered)
    return Code({s: depth - (k < n_short) for k, s in enumerate(ordered)})


def one_code_for_all(code: Code, n_channels: int) -> CodeBook:
    """A book in which every plane of every channel uses `code`."""
    return CodeBook([code], [1] * (N_ROLES * n_channels))


class LaneWriter:
    """Four bit streams, lowest bit first; symbol i of a plane goes to lane i mod 4."""

    def __init__(self) -> None:
        self.bits = [0] * N_LANES
        self.n = [0] * N_LANES

    def write(self, plane: bytes, code: Code) -> None:
        codes = canonical_codes(code.lengths)
        for i, symbol in enumerate(plane):
            lane = i % N_LANES
            self.bits[lane] |= codes[symbol] << self.n[lane]
            self.n[lane] += code.lengths[symbol]

    def finish(self) -> Sequence[bytes]:
        """The bytes of each lane; zero bits after the last symbol."""
        pairs = zip(self.bits, self.n, strict=True)
        return tuple(bits.to_bytes((n + 7) // 8, "little") for bits, n in pairs)
