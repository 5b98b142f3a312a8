"""docs/format.md, its worked example and the reference reader say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import make_format_example as example
import reference_codes
import reference_reader as reader
import reference_record
from e2eio import _core

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def text() -> str:
    return (DOCS / "format.md").read_text(encoding="utf-8")


def magic_after(text: str, row: str) -> bytes:
    """The bytes in backquotes of the table row `row`."""
    found = re.search(rf"\| {row} \| [^|]+ \| `([0-9A-F ]+)`", text)
    assert found is not None, row
    return bytes.fromhex(found.group(1))


def number(words: str) -> int:
    """The value of "65,536 bytes", "2^30 bytes" or "16 MiB"."""
    found = re.match(r"(2\^)?([\d,]+)( MiB)?", words)
    assert found is not None, words
    value = int(found.group(2).replace(",", ""))
    return (1 << value if found.group(1) else value) << (20 if found.group(3) else 0)


def limit(text: str, what: str) -> int:
    found = re.search(rf"^\| {what} \| (.+) \|$", text[text.index("## 6 Limits") :], re.MULTILINE)
    assert found is not None, what
    return number(found.group(1))


def test_example_is_up_to_date() -> None:
    stored = example.PAGE.read_text(encoding="utf-8")
    assert stored == example.page(), "run python tests/make_format_example.py"


def test_example_rows_cover_every_byte_once() -> None:
    data = example.example_shard()
    rows = [row for _, part in example.annotate(data) for row in part]
    ends = [0, *(end for _, end, _ in rows)]
    assert [begin for begin, _, _ in rows] == ends[:-1]
    assert ends[-1] == len(data)


def test_hex_of_the_page_is_a_shard_that_reads_back(tmp_path: Path) -> None:
    stored = example.PAGE.read_text(encoding="utf-8")
    data = b"".join(map(bytes.fromhex, re.findall(r"\| `([0-9A-F ]+)` \|", stored)))
    assert data == example.example_shard()
    shard = reader.read_shard(data)
    assert shard.images().tobytes() == example.example_images().tobytes()
    assert shard.columns["pt"].tolist() == [450.5, 512.0, 399.25]
    path = tmp_path / "example.e2e"
    path.write_bytes(data)
    core = _core.ShardReader(str(path))
    core.check(0, 3)
    assert core.decode(core.column(0).astype("i8"), [0, 1]).shape == (3, 2, 4, 4)


def test_magic_of_the_page_is_that_of_the_reader(text: str) -> None:
    assert magic_after(text, "magic") == reader.MAGIC
    assert magic_after(text, "end_magic") == reader.END_MAGIC


def test_sizes_of_the_page_are_those_of_the_reader(text: str) -> None:
    assert re.search(rf"\| header +{reader.HEADER_SIZE} bytes +\|", text)
    assert re.search(rf"\| trailer +{reader.TRAILER_SIZE} bytes +\|", text)
    assert re.search(rf"\| directory +{reader.DIRECTORY_ENTRY_SIZE} bytes per section", text)
    assert f"| 8 | version | u16 | {reader.VERSION} |" in text
    assert f"| 10 | header_size | u16 | {reader.HEADER_SIZE} |" in text
    trailer = f"{reader.DIRECTORY_ENTRY_SIZE} * n_sections + {reader.TRAILER_SIZE} = file_size"
    assert trailer in text


def test_table_offsets_follow_from_the_field_sizes(text: str) -> None:
    sizes = {"u16": 2, "u32": 4, "u64": 8}
    for section, total in (("2.1", 64), ("2.2", 64), ("2.3", 24)):
        part = text[text.index(f"### {section} ") :].split("\n### ")[0]
        at = 0
        for offset, kind in re.findall(r"^\| (\d+) \| \w+ \| ([^|]+) \|", part, re.MULTILINE):
            assert int(offset) == at, (section, offset)
            at += sizes[kind] if kind in sizes else int(kind.split()[0])
        assert at == total, section


def test_limits_of_the_page_are_those_of_the_reader(text: str) -> None:
    assert limit(text, "dense sample") == reader.MAX_IMAGE_BYTES
    assert limit(text, "schema section") == reader.MAX_SCHEMA_BYTES
    assert limit(text, "codes") == reference_codes.MAX_CODES
    assert limit(text, "bits of a code") == reference_codes.MAX_CODE_BITS
    assert limit(text, "sections") == reader.MAX_SECTIONS


def test_dtype_codes_of_the_page_are_those_of_the_reader(text: str) -> None:
    listed = text[text.index("Dtype codes:") :].split("(one")[0]
    pairs = re.findall(r"(\d+) ([a-z]+\d*)", listed)
    assert [(int(code), name) for code, name in pairs] == list(enumerate(reader.DTYPES, 1))


def test_kinds_and_features_of_the_page_are_those_of_the_reader(text: str) -> None:
    assert (
        f"{reader.KIND_SCHEMA} schema, {reader.KIND_SIZES} record sizes, "
        f"{reader.KIND_CODES} codes, `{reader.KIND_COLUMN:#x} + k` scalar column k"
    ) in text
    bits = {name: int(bit) for bit, name in re.findall(r"\| required (\d) \| (\w+) \|", text)}
    assert 1 << bits["codes"] == reference_record.FEATURE_CODES
    assert 1 << bits["float16"] == reference_record.FEATURE_FLOAT16


def test_roles_of_the_page_are_those_of_the_reader(text: str) -> None:
    rows = dict(re.findall(r"^\| (\d) \| (low|high) bytes of the gaps \|$", text, re.MULTILINE))
    assert rows == {str(reference_codes.GAP_LOW): "low", str(reference_codes.GAP_HIGH): "high"}


def test_crc_example_of_the_page_is_right(text: str) -> None:
    found = re.search(r'crc32c\("(\d+)"\) = (0x[0-9A-F]{8})', text)
    assert found is not None
    assert reader.crc32c(found.group(1).encode()) == int(found.group(2), 16)
    assert _core.crc32c(found.group(1).encode()) == int(found.group(2), 16)
