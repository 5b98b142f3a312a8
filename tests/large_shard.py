"""Writes a shard of any number of empty samples, quickly: for what happens at 10^8 samples."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from e2eio import _core
from reference_reader import KIND_SCHEMA, KIND_SIZES, SECTION_SEAL, ShardSchema, seal
from reference_writer import Choice, encode, record_body, schema_section, shard_bytes, trailer_bytes

__all__ = ["write_empty_samples"]

_SHARD_ID = bytes(range(16))
_SCHEMA = ShardSchema("X", (("a", "GeV"),), 8, 8, "float32", ())
_CHUNK = 1_000_000


def write_empty_samples(path: Path, n: int) -> int:
    """Write `n` samples float32 [1, 8, 8] of zeros to `path`, each with its checksum; return the file's bytes."""
    body = record_body(encode(np.zeros((1, 8, 8), np.float32), [Choice(0)]), compress=False)
    # A small shard of the same kind has the same header and schema; its other parts are replaced.
    small = shard_bytes(
        [body], {KIND_SCHEMA: schema_section(_SCHEMA), KIND_SIZES: b""}, shard_id=_SHARD_ID
    )
    with path.open("wb") as file:
        file.write(small[:64])
        for begin in range(0, n, _CHUNK):
            file.write(_records(body, begin, min(n, begin + _CHUNK)))
        _finish(file, n, 4 + len(body))
        return file.tell()


def _records(body: bytes, begin: int, end: int) -> bytes:
    records = np.empty((end - begin, 4 + len(body)), np.uint8)
    crcs = _seals(body, np.arange(begin, end, dtype=np.uint64))
    records[:, :4] = crcs.astype("<u4").view(np.uint8).reshape(-1, 4)
    records[:, 4:] = np.frombuffer(body, np.uint8)
    return records.tobytes()


def _seals(body: bytes, numbers: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Seals of one body under many record numbers: a CRC is linear in each byte of the number."""
    zero = seal(_SHARD_ID, 0, body)
    crcs = np.full(numbers.shape, zero, np.uint32)
    for byte in range(8):
        table = [seal(_SHARD_ID, value << (8 * byte), body) ^ zero for value in range(256)]
        crcs ^= np.array(table, np.uint32)[(numbers >> np.uint64(8 * byte)) & np.uint64(255)]
    return crcs


def _finish(file: BinaryIO, n: int, record_bytes: int) -> None:
    """Sections, directory and trailer."""
    records_end = file.tell()
    schema = schema_section(_SCHEMA)
    chunk = np.full(_CHUNK, record_bytes, "<u4").tobytes()
    crc = _core.crc32c(_SHARD_ID + struct.pack("<Q", SECTION_SEAL + KIND_SIZES))
    file.write(schema)
    for begin in range(0, n, _CHUNK):
        piece = chunk[: 4 * min(_CHUNK, n - begin)]
        crc = _core.crc32c(piece, crc)
        file.write(piece)
    directory = struct.pack(
        "<IIQQIIQQ",
        *(KIND_SCHEMA, seal(_SHARD_ID, SECTION_SEAL + KIND_SCHEMA, schema)),
        *(records_end, len(schema)),
        *(KIND_SIZES, crc, records_end + len(schema), 4 * n),
    )
    offset = file.tell()
    file.write(directory + trailer_bytes(offset, records_end, n, directory, _SHARD_ID))
