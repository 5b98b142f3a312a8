"""Writes docs/format-example.md: a shard of three samples, byte by byte.

Run `python tests/make_format_example.py` from the repository's root after a change of docs/format.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reference_codes import GAP_LOW, N_LANES, N_ROLES, Code, CodeBook, canonical_codes
from reference_fields import Cursor
from reference_reader import HEADER_SIZE, TRAILER_SIZE, ShardSchema, read_shard
from reference_writer import Choice, parts, write_shard

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
    # Sparse floats, gaps and exponents in the lanes; at the same pixels 1 hit, with an exception.
    (Choice(1, places=0x18), Choice(2, 3, source=0)),
    (Choice(0), Choice(3, 1, places=0x40)),  # empty; dense integers in the value stream
    (Choice(1, wide=True, places=0x08), Choice(1, 3, block=2, places=0x10)),
)
BOOK = CodeBook(
    [Code({0x7B: 2, 0x7D: 2, 0x7F: 1}), Code({5: 1, 6: 1}), Code({2: 0})],
    [0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 3, 0],
)
ROLES = (
    "value plane 0",
    "value plane 1",
    "value plane 2",
    "value plane 3",
    "low gaps",
    "high gaps",
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
        SCHEMA,
        example_images(),
        columns,
        shard_id=SHARD_ID,
        choices=CHOICES,
        compress=False,
        book=BOOK,
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
        "8:magic|2:version 1|2:header_size 64|4:reserved|8:required_features: codes"
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


def _record(data: bytes, at: int, i: int, image: NDArray[np.float32]) -> list[Row]:
    walk, choices = _Walk(data, at), CHOICES[i]
    walk.take(4, "crc")
    for stream in ("index", "value"):
        walk.varint(f"{stream}_raw")
        walk.varint(f"{stream}_stored")
    sizes = [walk.varint(f"lane_bytes {k}:") for k in range(N_LANES)]
    for c, choice in enumerate(choices):
        _descriptor(walk, c, choice)
    planes = [
        (c, role, plane) for c in range(len(choices)) for role, plane in parts(image, choices, c)[1]
    ]
    raw = [p for p in planes if not choices[p[0]].places >> p[1] & 1]
    for c, role, plane in raw:
        if role >= GAP_LOW:
            walk.take(len(plane), f"channel {c}: {ROLES[role]}")
    for c, role, plane in raw:
        if role < GAP_LOW and choices[c].places & 0x40:
            walk.take(len(plane), f"value stream: channel {c}: integers")
    for k, size in enumerate(sizes):
        walk.take(size, f"lane {k}: {_lane(k, [p for p in planes if p not in raw])}")
    for c, role, plane in raw:
        if role < GAP_LOW and not choices[c].places & 0x40:
            walk.take(len(plane), f"noise: channel {c}: {ROLES[role]}")
    return walk.rows


def _lane(k: int, planes: list[tuple[int, int, bytes]]) -> str:
    """The symbols of a lane and their bits."""
    words = []
    for c, role, plane in planes:
        code = BOOK.find(c, role)
        for symbol in plane[k::N_LANES] if code else b"":
            length = code.lengths[symbol] if code else 0
            bits = f"{canonical_codes(code.lengths)[symbol]:0{length}b}"[::-1] if code else ""
            written = f"bits {bits}" if length else "no bits"
            words.append(f"channel {c} {ROLES[role]} {symbol:02X} ({written})")
    return ", ".join(words)


def _descriptor(walk: _Walk, c: int, choice: Choice) -> None:
    kind = ("empty", "sparse", "shared", "dense")[choice.kind]
    words = [kind, f"coding {choice.coding}"] if choice.kind else [kind]
    words += ["wide gaps"] * choice.wide + ["block"] * (choice.block > 1)
    walk.take(1, f"channel {c}: tag: {', '.join(words)}")
    if choice.block > 1:
        walk.uint(1, f"channel {c}: block")
    if choice.kind == 1:
        walk.varint(f"channel {c}: count")
        walk.varint(f"channel {c}: escapes")
    if choice.kind == 2:
        walk.varint(f"channel {c}: source: channel")
    if choice.kind:
        walk.take(1, f"channel {c}: places: {_places(choice)}")
    if choice.coding == 3:
        walk.uint(1, f"channel {c}: base")
        for _ in range(walk.varint(f"channel {c}: number of exceptions")):
            walk.varint(f"channel {c}: exception: gap")
            walk.uint(1, f"channel {c}: exception: value")


def _places(choice: Choice) -> str:
    words = [f"{ROLES[role]} in the lanes" for role in range(N_ROLES) if choice.places >> role & 1]
    if choice.coding != 3:
        words.append("rest in the " + ("value stream" if choice.places & 0x40 else "noise"))
    return ", ".join(words) or "none"


def _codes(data: bytes, at: int) -> list[Row]:
    walk = _Walk(data, at)
    walk.varint("n_codes")
    for k, code in enumerate(BOOK.codes, 1):
        walk.take(1, f"code {k}: first symbol")
        walk.take(1, f"code {k}: last symbol")
        bits = ", ".join(f"{s:02X}: {n}" for s, n in sorted(code.lengths.items()))
        n = max(code.lengths) - min(code.lengths) + 1
        walk.take((n + 1) // 2, f"code {k}: lengths in halves, low one first: {bits}")
    for c in range(len(SCHEMA.channels)):
        for role in ROLES:
            walk.varint(f"channel {c}: {role}: code")
    return walk.rows


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
    found: list[tuple[str, list[Row]]] = [("Header", list(_header()))]
    at = HEADER_SIZE
    for i, size in enumerate(shard.sizes.tolist()):
        found.append((f"Record {i}", _record(data, at, i, shard.image(i))))
        at += size
    found.append(("Section: schema", _schema(data, at)))
    at = found[-1][1][-1][1]
    sizes = "|".join(f"4:size of record {i}: {s}" for i, s in enumerate(shard.sizes))
    found.append(("Section: record sizes", list(_fields(at, sizes))))
    found.append(("Section: codes", _codes(data, found[-1][1][-1][1])))
    for k, (name, column) in enumerate(shard.columns.items()):
        at = found[-1][1][-1][1]
        values = "|".join(f"{column.itemsize}:sample {i}: {v}" for i, v in enumerate(column))
        found.append((f"Section: scalar column {k} ({name})", list(_fields(at, values))))
    at = found[-1][1][-1][1]
    kinds = ("schema", "record sizes", "codes", "column 0", "column 1")
    entries = "|".join(f"4:{k}: kind|4:{k}: crc|8:{k}: offset|8:{k}: size" for k in kinds)
    found.append(("Directory", list(_fields(at, entries))))
    trailer = (
        "8:records_end|8:directory_offset|8:n_samples|8:file_size|16:shard_id"
        "|4:n_sections|4:directory_crc|4:trailer_crc|4:end_magic"
    )
    found.append(("Trailer", list(_fields(len(data) - TRAILER_SIZE, trailer))))
    return found


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
        f"`pt`: {len(data)} bytes. No stream is a zstd frame, so that every field can be read here.",
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
