"""Writes docs/format-example.md: a shard of three samples, byte by byte.

Run `python tests/make_format_example.py` from the repository's root after a change of docs/format.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reference_reader import HEADER_SIZE, TRAILER_SIZE, ShardSchema, read_shard
from reference_record import Cursor
from reference_writer import Choice, write_shard

__all__ = ["PAGE", "SHARD_ID", "annotate", "example_images", "example_shard", "page"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "format-example.md"
SHARD_ID = bytes.fromhex("e2e1000102030405060708090a0b0c0d")
Row = tuple[int, int, str]  # [begin, end) and the meaning

SCHEMA = ShardSchema(
    "X_jets",
    (("track_pt", "GeV"), ("bpix1", "hits")),
    4,
    4,
    "float32",
    (("y", "uint8", ""), ("pt", "float32", "GeV")),
)
CHOICES = (
    (Choice(1), Choice(2, 1, source=0)),  # sparse floats; hits at the same pixels
    (Choice(0), Choice(3, 1)),  # empty; dense integers
    (Choice(1, wide=True, planes=0b1000), Choice(1, 1, block=2)),
)


def example_images() -> NDArray[np.float32]:
    """Float32 [3, 2, 4, 4]."""
    images = np.zeros((3, 2, 4, 4), np.float32)
    images[0, 0, 1, 2], images[0, 0, 3, 0] = 1.5, -0.25
    images[0, 1, 1, 2], images[0, 1, 3, 0] = 2, 1
    images[1, 1] = np.arange(16).reshape(4, 4)
    images[2, 0, 0, 0] = 0.1
    images[2, 1, 2:, :2] = 7
    return images


def example_shard() -> bytes:
    """The shard that the page shows."""
    columns: list[NDArray[np.generic]] = [
        np.array([1, 0, 1], np.uint8),
        np.array([450.5, 512.0, 399.25], np.float32),
    ]
    return write_shard(
        SCHEMA, example_images(), columns, shard_id=SHARD_ID, choices=CHOICES, compress=False
    )


def _fields(at: int, layout: str) -> Iterator[Row]:
    """Rows of fixed fields from "size:meaning|size:meaning"."""
    for field in layout.split("|"):
        size, meaning = field.split(":", 1)
        yield at, at + int(size), meaning.strip()
        at += int(size)


def _header() -> Iterator[Row]:
    yield from _fields(
        0,
        "8:magic|2:version 1|2:header_size 64|4:reserved|8:required_features: none"
        "|8:optional_features: none|16:shard_id|12:reserved|4:header_crc",
    )


class _Walk:
    """A cursor that notes what it passes."""

    def __init__(self, data: bytes, at: int) -> None:
        self.cursor, self.at, self.rows = Cursor(data[at:], "example"), at, list[Row]()

    def note(self, begin: int, meaning: str) -> None:
        self.rows.append((self.at + begin, self.at + self.cursor.pos, meaning))

    def uint(self, n: int, meaning: str) -> int:
        begin = self.cursor.pos
        value = self.cursor.uint(n)
        self.note(begin, f"{meaning} {value}")
        return value

    def varint(self, meaning: str) -> int:
        begin = self.cursor.pos
        value = self.cursor.varint()
        self.note(begin, f"{meaning} {value}")
        return value

    def text(self, meaning: str) -> None:
        begin = self.cursor.pos
        text = self.cursor.text()
        self.note(begin, f'{meaning} "{text}"')

    def take(self, n: int, meaning: str) -> bytes:
        begin = self.cursor.pos
        data = self.cursor.take(n)
        if n:
            self.note(begin, meaning)
        return data


def _record(data: bytes, at: int, choices: tuple[Choice, ...], counts: list[int]) -> list[Row]:
    walk = _Walk(data, at)
    walk.take(4, "crc")
    for stream in ("index", "value"):
        walk.varint(f"{stream}_raw")
        walk.varint(f"{stream}_stored")
    for c, choice in enumerate(choices):
        _descriptor(walk, c, choice)
    for c, (choice, n) in enumerate(zip(choices, counts, strict=True)):
        if choice.kind == 1:
            walk.take(n, f"channel {c}: gaps" + (", low bytes" if choice.wide else ""))
            walk.take(n if choice.wide else 0, f"channel {c}: gaps, high bytes")
    for in_value in (True, False):
        for c, (choice, n) in enumerate(zip(choices, counts, strict=True)):
            _planes(walk, c, choice, n, in_value=in_value)
    return walk.rows


def _descriptor(walk: _Walk, c: int, choice: Choice) -> None:
    kind = ("empty", "sparse", "shared", "dense")[choice.kind]
    parts = [kind, f"coding {choice.coding}"] if choice.kind else [kind]
    parts += ["wide gaps"] * choice.wide + ["block"] * (choice.block > 1)
    walk.take(1, f"channel {c}: tag: {', '.join(parts)}")
    if choice.block > 1:
        walk.uint(1, f"channel {c}: block")
    if choice.kind == 1:
        walk.varint(f"channel {c}: count")
        walk.varint(f"channel {c}: escapes")
    if choice.kind == 2:
        walk.varint(f"channel {c}: source: channel")
    if choice.kind and choice.coding == 0:
        walk.take(1, f"channel {c}: planes {choice.planes:04b} in the value stream")


def _planes(walk: _Walk, c: int, choice: Choice, n: int, *, in_value: bool) -> None:
    if not choice.kind:
        return
    if choice.coding == 1:
        walk.take(n if in_value else 0, f"value stream: channel {c}: integers")
        return
    stream = "value stream" if in_value else "noise"
    for p in (3, 2, 1, 0):
        if bool(choice.planes >> p & 1) == in_value:
            walk.take(n, f"{stream}: channel {c}: plane {p}")


def _schema(data: bytes, at: int) -> list[Row]:
    walk = _Walk(data, at)
    walk.uint(2, "n_images")
    n_scalars = walk.uint(2, "n_scalars")
    walk.text("image name")
    n_channels = walk.uint(4, "n_channels")
    walk.uint(4, "height")
    walk.uint(4, "width")
    walk.uint(1, "precision")
    for c in range(n_channels):
        walk.text(f"channel {c}: name")
        walk.text(f"channel {c}: unit")
    for s in range(n_scalars):
        walk.text(f"scalar {s}: name")
        walk.uint(1, f"scalar {s}: dtype code")
        walk.text(f"scalar {s}: unit")
    return walk.rows


def annotate(data: bytes) -> list[tuple[str, list[Row]]]:
    """The parts of the example and the rows of each; together they cover every byte once."""
    shard = read_shard(data)
    parts: list[tuple[str, list[Row]]] = [("Header", list(_header()))]
    at = HEADER_SIZE
    for i, size in enumerate(shard.sizes.tolist()):
        counts = [_count(image, c) for image, c in zip(shard.image(i), CHOICES[i], strict=True)]
        parts.append((f"Record {i}", _record(data, at, CHOICES[i], counts)))
        at += size
    parts.append(("Section: schema", _schema(data, at)))
    at = parts[-1][1][-1][1]
    sizes = "|".join(f"4:size of record {i}: {s}" for i, s in enumerate(shard.sizes))
    parts.append(("Section: record sizes", list(_fields(at, sizes))))
    for k, (name, column) in enumerate(shard.columns.items()):
        at = parts[-1][1][-1][1]
        values = "|".join(f"{column.itemsize}:sample {i}: {v}" for i, v in enumerate(column))
        parts.append((f"Section: scalar column {k} ({name})", list(_fields(at, values))))
    at = parts[-1][1][-1][1]
    kinds = ("schema", "record sizes", "column 0", "column 1")
    entries = "|".join(f"4:{k}: kind|4:{k}: crc|8:{k}: offset|8:{k}: size" for k in kinds)
    parts.append(("Directory", list(_fields(at, entries))))
    trailer = (
        "8:records_end|8:directory_offset|8:n_samples|8:file_size|16:shard_id"
        "|4:n_sections|4:directory_crc|4:trailer_crc|4:end_magic"
    )
    parts.append(("Trailer", list(_fields(len(data) - TRAILER_SIZE, trailer))))
    return parts


def _count(image: NDArray[np.float32], choice: Choice) -> int:
    native = image[:: choice.block, :: choice.block]
    return native.size if choice.kind == 3 else int(np.count_nonzero(native.view(np.uint32)))


def _value(field: bytes, meaning: str) -> str:
    """The meaning, with the number where the field is one of directory or trailer."""
    word = meaning.rsplit(" ", 1)[-1]
    names = ("records_end", "directory_offset", "n_samples", "file_size", "n_sections")
    if word in (*names, "kind", "offset", "size"):
        value = int.from_bytes(field, "little")
        return f"{meaning} {value:#x}" if word == "kind" else f"{meaning} {value}"
    if word.endswith("crc"):
        return f"{meaning} {struct.unpack('<I', field)[0]:#010x}"
    return meaning


def page() -> str:
    """The whole page."""
    data = example_shard()
    lines = [
        "# A shard, byte by byte",
        "",
        "Generated by `tests/make_format_example.py`; do not edit. The fields are those of `format.md`.",
        "",
        "Three samples of the image field `X_jets`, float32 [2, 4, 4], and the scalars `y` and",
        f"`pt`: {len(data)} bytes. No stream is compressed, so that every field can be read here.",
        "Channel 0 is `track_pt`, channel 1 `bpix1`.",
        "",
        "- Sample 0: track_pt 1.5 GeV at pixel (1, 2) with 2 hits, -0.25 GeV at (3, 0) with 1 hit.",
        "- Sample 1: no tracks; 0 to 15 hits, row by row.",
        "- Sample 2: a track of 0.1 GeV at (0, 0); 7 hits in each of the 2 x 2 pixels at the lower left.",
    ]
    for title, rows in annotate(data):
        lines += ["", f"## {title}", "", "| offset | bytes | meaning |", "|---:|---|---|"]
        for begin, end, meaning in rows:
            field = data[begin:end]
            lines.append(f"| {begin} | `{field.hex(' ').upper()}` | {_value(field, meaning)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
