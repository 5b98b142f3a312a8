"""Shards with codes, mutated under right checksums: the core and the page refuse or read the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from e2eio import _core
from e2eio.errors import CorruptShardError
from make_format_example import example_shard
from reference_coder import codes_section, flat_code, one_code_for_all
from reference_codes import Code, canonical_codes, read_code_book
from reference_fields import Cursor
from reference_reader import KIND_CODES, FormatError, read_shard
from reference_writer import choose, fit_book, place, shard_bytes, write_shard
from sound_shards import SHARD_ID, base_images, base_schema, base_shard

Images = NDArray[np.float32]
T = TypeVar("T")


def parts_of(data: bytes) -> tuple[list[bytes], dict[int, bytes], bytes]:
    """Record bodies, sections and id of a sound shard."""
    shard = read_shard(data)
    ends = 64 + np.concatenate([[0], np.cumsum(shard.sizes)])
    bodies = [data[a + 4 : b] for a, b in pairwise(ends)]
    directory = int.from_bytes(data[-56:-48], "little")
    sections = {}
    for at in range(directory, len(data) - 64, 24):
        entry = np.frombuffer(data[at : at + 24], "<u4,<u4,<u8,<u8")[0]
        sections[int(entry[0])] = data[int(entry[2]) : int(entry[2] + entry[3])]
    return bodies, sections, shard.shard_id


def mutations(data: bytes, n: int, seed: int) -> Iterator[bytes]:
    """The shard with one to three bytes of its records or codes changed and the checksums made anew."""
    rng = random.Random(seed)
    bodies, sections, shard_id = parts_of(data)
    for _ in range(n):
        pieces = [bytearray(body) for body in bodies] + [bytearray(sections[KIND_CODES])]
        for _ in range(rng.randint(1, 3)):
            piece = rng.choice(pieces)
            piece[rng.randrange(len(piece))] = rng.choice([0, 1, 255, rng.randrange(256)])
        changed = sections | {KIND_CODES: bytes(pieces[-1])}
        yield shard_bytes([bytes(p) for p in pieces[:-1]], changed, shard_id=shard_id, required=1)


def attempt(read: Callable[[], T], refusals: tuple[type[Exception], ...]) -> T | None:
    """None: refused."""
    try:
        return read()
    except refusals:
        return None


def read_by_page(data: bytes) -> list[Images | None] | None:
    """Each image, None where the record is refused; None: the shard is."""
    shard = attempt(lambda: read_shard(data), (FormatError,))
    if shard is None:
        return None
    readers = [partial(shard.image, i) for i in range(shard.n_samples)]
    return [attempt(read, (FormatError,)) for read in readers]


def read_by_core(path: Path) -> list[Images | None] | None:
    reader = attempt(lambda: _core.ShardReader(str(path)), (CorruptShardError,))
    if reader is None:
        return None
    channels = range(len(reader.schema.channel_names))
    samples = [partial(reader.decode, np.array([i]), channels) for i in range(reader.n_samples)]
    images = [attempt(decode, (CorruptShardError,)) for decode in samples]
    return [None if image is None else image[0] for image in images]


def as_bytes(images: list[Images | None] | None) -> list[bytes | None] | None:
    if images is None:
        return None
    return [None if image is None else image.tobytes() for image in images]


@pytest.mark.parametrize("seed", range(4))
def test_core_and_page_agree_on_mutated_shards(tmp_path: Path, seed: int) -> None:
    # No zstd frames: releases of the library differ in which malformed frames they notice.
    sound = [base_shard(coded=True, compress=False), example_shard()]
    path = tmp_path / "mutated.e2e"
    n_read = 0
    for data in mutations(sound[seed % 2], 150, seed):
        path.write_bytes(data)
        by_core, by_page = read_by_core(path), read_by_page(data)
        assert as_bytes(by_core) == as_bytes(by_page), data.hex()
        n_read += any(image is not None for image in by_page or ())
    assert n_read > 0


@pytest.mark.parametrize("wanted", [0, 0x7F, 0x3F, 0x40, 0x08, 0x30, 0x4C])
@pytest.mark.parametrize("compress", [False, True])
def test_any_places_read_back_in_both_readers(tmp_path: Path, wanted: int, compress: bool) -> None:
    images = base_images()
    choices = [choose(image) for image in images]
    for book in (fit_book(images, choices), one_code_for_all(flat_code(range(256)), 3)):
        placed = [place(i, c, book, wanted) for i, c in zip(images, choices, strict=True)]
        columns = [np.arange(4), np.ones(4, bool)]
        data = write_shard(
            base_schema(),
            images,
            columns,
            shard_id=SHARD_ID,
            choices=placed,
            compress=compress,
            book=book,
        )
        path = tmp_path / "places.e2e"
        path.write_bytes(data)
        assert read_shard(data).images().tobytes() == images.tobytes()
        assert _core.ShardReader(str(path)).decode(np.arange(4), range(3)).tobytes() == (
            images.tobytes()
        )
        path.unlink()


def test_canonical_codes_are_those_of_the_page() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    assert canonical_codes({97: 2, 98: 3, 99: 1, 100: 3}) == {
        99: 0,
        97: 0b01,
        98: 0b011,
        100: 0b111,
    }
    assert "`a` 2, `b` 3, `c` 1, `d` 3" in text
    assert "`c` 0, `a` 10, `b` 110, `d` 111" in text


def test_codes_section_reads_back() -> None:
    codes = [Code({7: 0}), flat_code(range(256)), flat_code([3, 9, 200]), flat_code([0, 255])]
    book = one_code_for_all(codes[0], 2)
    section = codes_section(type(book)(codes, book.numbers))
    read = read_code_book(Cursor(section, "codes"), 2)
    assert [dict(code.lengths) for code in read.codes] == [dict(code.lengths) for code in codes]
    assert read.find(1, 5) == codes[0]
