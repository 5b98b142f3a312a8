"""Section 1 of docs/format.md in plain Python: errors, checksums and fields."""

from __future__ import annotations

import struct

__all__ = ["Cursor", "FormatError", "UnsupportedError", "crc32c", "seal"]


class FormatError(Exception):
    """The bytes break the page: `part` of the file, byte `offset` of that part's begin or of the field."""

    def __init__(self, part: str, offset: int, message: str) -> None:
        super().__init__(f"{part} at byte {offset}: {message}")
        self.part, self.offset = part, offset


class UnsupportedError(FormatError):
    """A version or a required feature that the page does not define."""


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """Castagnoli CRC of `data`."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def seal(shard_id: bytes, number: int, data: bytes) -> int:
    """Checksum that also depends on the shard and on the place in it (section 1)."""
    return crc32c(shard_id + struct.pack("<Q", number) + data)


class Cursor:
    """Reads fields one after another and refuses to pass the end."""

    def __init__(self, data: bytes, part: str, base: int = 0) -> None:
        self.data, self.part, self.base, self.pos = data, part, base, 0

    def fail(self, message: str) -> FormatError:
        return FormatError(self.part, self.base + self.pos, message)

    def take(self, n: int) -> bytes:
        if n > len(self.data) - self.pos:
            raise self.fail(f"{n} bytes needed, {len(self.data) - self.pos} left")
        self.pos += n
        return self.data[self.pos - n : self.pos]

    def uint(self, n_bytes: int) -> int:
        return int.from_bytes(self.take(n_bytes), "little")

    def varint(self) -> int:
        value = 0
        for n in range(5):
            byte = self.uint(1)
            value |= (byte & 0x7F) << (7 * n)
            if byte < 0x80:
                if (n and not byte) or value >> 32:
                    raise self.fail("a varint that is too long or too large")
                return value
        raise self.fail("a varint of more than 5 bytes")

    def text(self) -> str:
        try:
            return self.take(self.uint(2)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.fail("a name that is not UTF-8") from error

    def finish(self) -> None:
        if self.pos != len(self.data):
            raise self.fail(f"{len(self.data) - self.pos} bytes too many")
