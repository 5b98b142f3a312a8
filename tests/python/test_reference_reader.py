"""The page's two plain-Python halves agree with each other and with the compiled core, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from e2eio import _core
from reference_codes import N_ROLES, Code, CodeBook
from reference_reader import DTYPES, ShardSchema, crc32c, read_shard
from reference_writer import Choice, choose, encode, fit_book, place, record_body, write_shard

SHARD_ID = bytes(range(16))
SPECIAL_BITS = (
    0x80000000,  # -0.0
    0x00000001,  # the smallest denormal
    0x807FFFFF,  # the largest negative denormal
    0x7F800000,  # inf
    0x7FC00001,  # a quiet NaN with payload
    0xFF800001,  # a signalling NaN
    0x437F0000,  # 255.0
    0x3F800000,  # 1.0
)
Images = NDArray[np.float32]


def make_schema(
    shape: tuple[int, int, int],
    scalars: tuple[tuple[str, str, str], ...] = (),
    precision: str = "float32",
) -> ShardSchema:
    channels = tuple((f"c{k}", "GeV") for k in range(shape[0]))
    return ShardSchema("X", channels, shape[1], shape[2], precision, scalars)


def same_bits(left: Images, right: Images) -> bool:
    return left.shape == right.shape and bool((left.view("u4") == right.view("u4")).all())


def to_core(schema: ShardSchema) -> _core.Schema:
    return _core.Schema(
        schema.image_name,
        schema.height,
        schema.width,
        [name for name, _ in schema.channels],
        [unit for _, unit in schema.channels],
        [name for name, _, _ in schema.scalars],
        [dtype for _, dtype, _ in schema.scalars],
        [unit for _, _, unit in schema.scalars],
        schema.precision,
    )


def core_images(path: Path, schema: ShardSchema) -> Images:
    reader = _core.ShardReader(str(path))
    reader.check(0, reader.n_samples)
    return reader.decode(np.arange(reader.n_samples), range(schema.shape[0]))


def words(n: int) -> st.SearchStrategy[Images]:
    """n float32 values of any bits, the special ones often."""
    one = st.one_of(st.sampled_from(SPECIAL_BITS), st.integers(0, 2**32 - 1))
    return st.lists(one, min_size=n, max_size=n).map(
        lambda bits: np.array(bits, np.uint32).view(np.float32)
    )


@st.composite
def channels(
    draw: st.DrawFn, earlier: list[Images], choices: list[Choice], h: int, w: int, coded: bool
) -> Choice:
    """Append one channel to `earlier` and return a choice that represents it."""
    edges = [k for k in range(2, 7) if h % k == 0 and w % k == 0]
    block = draw(st.sampled_from([1, *edges]))
    grid = np.zeros((h // block) * (w // block), np.float32)
    kind = draw(st.integers(0, 3))
    sources = [k for k, choice in enumerate(choices) if choice.kind == 1]
    if kind == 2 and not sources:
        kind = 1
    source = draw(st.sampled_from(sources)) if kind == 2 else 0
    if kind == 2:
        block = choices[source].block
        grid = earlier[source][::block, ::block].ravel().copy()
        where = np.flatnonzero(grid.view("u4"))
    elif kind == 1:
        pixels = st.sets(st.integers(0, grid.size - 1), min_size=1, max_size=min(grid.size, 12))
        where = np.array(sorted(draw(pixels)))
    else:
        where = np.arange(grid.size if kind == 3 else 0)
    coding = draw(st.sampled_from([0, 1, 3] if coded else [0, 1]))
    if coding:
        low = 0 if kind == 3 else 1
        values = st.lists(st.integers(low, 255), min_size=len(where), max_size=len(where))
        grid[where] = draw(values)
    else:
        drawn = draw(words(len(where)))
        if kind in (1, 2):
            drawn = np.where(drawn.view("u4") == 0, np.float32(-0.0), drawn)
        grid[where] = drawn
    earlier.append(grid.reshape(h // block, -1).repeat(block, 0).repeat(block, 1))
    planes = draw(st.integers(0, 15))
    wide = kind == 1 and draw(st.booleans())
    return Choice(kind, coding if kind else 0, wide, block if kind in (1, 3) else 1, source, planes)


@st.composite
def complete_codes(draw: st.DrawFn) -> Code:
    """Any complete code of 1 to 256 symbols, most of them lopsided."""
    n = draw(st.sampled_from([1, 2, 5, 60, 256, 256]))
    rng = draw(st.randoms(use_true_random=False))
    leaves = [0]
    while len(leaves) < n:
        k = rng.choice([k for k, depth in enumerate(leaves) if depth < 11])
        leaves[k] += 1
        leaves.append(leaves[k])
    return Code(dict(zip(rng.sample(range(256), n), leaves, strict=True)))


@st.composite
def books(draw: st.DrawFn, n_channels: int) -> CodeBook:
    codes = draw(st.lists(complete_codes(), max_size=4))
    n = N_ROLES * n_channels
    numbers = st.lists(st.integers(0, len(codes)), min_size=n, max_size=n)
    return CodeBook(codes, draw(numbers))


Drawn = tuple[ShardSchema, Images, list[list[Choice]], bool, CodeBook | None]


@st.composite
def shards(draw: st.DrawFn) -> Drawn:
    """(schema, images, choices, compress, book)."""
    n, c = draw(st.integers(0, 3)), draw(st.integers(1, 4))
    h, w = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    images = np.zeros((n, c, h, w), np.float32)
    book = draw(st.none() | books(c))
    picked: list[list[Choice]] = []
    for image in images:
        rows: list[Images] = []
        choices: list[Choice] = []
        for _ in range(c):
            choices.append(draw(channels(rows, choices, h, w, book is not None)))
        image[:] = np.stack(rows)
        picked.append(place(image, choices, book, draw(st.integers(0, 127))) if book else choices)
    return make_schema((c, h, w)), images, picked, draw(st.booleans()), book


def test_crc32c_is_the_castagnoli_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


@settings(max_examples=60, deadline=None)
@given(shards())
def test_any_choice_reads_back(case: Drawn) -> None:
    schema, images, choices, compress, book = case
    data = write_shard(
        schema, images, [], shard_id=SHARD_ID, choices=choices or None, compress=compress, book=book
    )
    assert same_bits(read_shard(data).images(), images)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shards())
def test_core_reads_any_choice(tmp_path: Path, case: Drawn) -> None:
    schema, images, choices, compress, book = case
    path = tmp_path / "any.e2e"
    data = write_shard(
        schema, images, [], shard_id=SHARD_ID, choices=choices or None, compress=compress, book=book
    )
    path.write_bytes(data)
    assert same_bits(core_images(path, schema), images)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shards())
def test_reference_reads_what_the_core_writes(tmp_path: Path, case: Drawn) -> None:
    schema, images, *_ = case
    path = tmp_path / "core.e2e"
    path.unlink(missing_ok=True)
    writer = _core.ShardWriter(str(path), to_core(schema), SHARD_ID, 3, True)
    writer.append(images, [])
    writer.finish()
    shard = read_shard(path)
    assert shard.shard_id == SHARD_ID
    assert shard.schema == schema
    assert shard.digest == writer.digest
    assert same_bits(shard.images(), images)


def sparse_images(n: int, shape: tuple[int, int, int], seed: int) -> Images:
    rng = np.random.default_rng(seed)
    images = np.zeros((n, *shape), np.float32)
    mask = rng.random(images.shape) < 0.02
    images[mask] = rng.exponential(1.0, int(mask.sum())).astype(np.float32)
    return images


CASES: dict[str, tuple[Images, list[Choice]]] = {}


def _case(name: str, image: NDArray[np.floating[Any]], *choices: Choice) -> None:
    CASES[name] = (image.astype(np.float32), list(choices))


def _point(shape: tuple[int, int], at: int) -> Images:
    image = np.zeros((1, *shape), np.float32)
    image.ravel()[at] = 2.5
    return image


_case("gap_of_254", _point((20, 20), 254), Choice(1))
_case("gap_of_255_is_an_escape", _point((20, 20), 255), Choice(1))
_case("gap_of_510_is_two_escapes", _point((25, 25), 510), Choice(1))
_case("wide_gap_of_300", _point((20, 20), 300), Choice(1, wide=True))
_case("wide_gap_of_65534", _point((300, 300), 65_534), Choice(1, wide=True))
_case("wide_gap_of_65535_is_an_escape", _point((300, 300), 65_535), Choice(1, wide=True))
_case("last_pixel", _point((300, 300), 89_999), Choice(1))
_case("one_pixel_image", np.ones((1, 1, 1)), Choice(1))
_case("dense_integers", np.arange(256.0).reshape(1, 16, 16), Choice(3, 1))
_case("all_planes_in_noise", np.full((1, 4, 4), 0.1), Choice(3, planes=0))
_case("all_planes_in_value", np.full((1, 4, 4), 0.1), Choice(3, planes=15))
_case(
    "dense_block",
    np.kron(np.arange(1.0, 5).reshape(1, 2, 2), np.ones((1, 5, 5))),
    Choice(3, block=5),
)
_case("sparse_block", np.kron(np.eye(4)[None], np.ones((1, 3, 3))), Choice(1, 1, block=3))
_case("block_of_the_whole_image", np.full((1, 4, 4), -2.0), Choice(1, block=4))
_case("empty", np.zeros((1, 4, 4)), Choice(0))
_case(
    "shared_with_block",
    np.stack([np.kron(np.eye(4), np.ones((3, 3))) * f for f in (1.0, 0.3, 7.0)]),
    *(Choice(1, block=3), Choice(2, source=0), Choice(2, 1, source=0)),
)


@pytest.mark.parametrize("wanted", [None, 0, 0x7F, 0x3F, 0x48])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_named_choice_reads_back_in_both_readers(
    tmp_path: Path, name: str, compress: bool, wanted: int | None
) -> None:
    image, choices = CASES[name]
    book = None if wanted is None else fit_book(image[None], [choices])
    if book and wanted is not None:
        choices = place(image, choices, book, wanted)
    schema = make_schema((image.shape[0], image.shape[1], image.shape[2]))
    data = write_shard(
        schema,
        image[None],
        [],
        shard_id=SHARD_ID,
        choices=[choices],
        compress=compress,
        book=book,
    )
    path = tmp_path / f"{name}.e2e"
    path.write_bytes(data)
    assert same_bits(read_shard(data).images(), image[None])
    assert same_bits(core_images(path, schema), image[None])


def test_escapes_are_what_the_page_says() -> None:
    image = _point((25, 25), 510)
    index = encode(image, [Choice(1)]).index
    assert index == bytes([1, 1, 2, 0b1100, 255, 255, 0])


def test_float16_reads_back_rounded(tmp_path: Path) -> None:
    images = sparse_images(4, (3, 25, 25), seed=1)
    images[0, 0, 0, :4] = [np.inf, -np.inf, -0.0, 2.0**-20]
    schema = make_schema((3, 25, 25), precision="float16")
    data = write_shard(schema, images, [], shard_id=SHARD_ID)
    path = tmp_path / "half.e2e"
    path.write_bytes(data)
    expected = images.astype(np.float16).astype(np.float32)
    assert same_bits(read_shard(data).images(), expected)
    assert same_bits(core_images(path, schema), expected)


def test_core_writes_float16_that_the_reference_reads(tmp_path: Path) -> None:
    images = sparse_images(4, (3, 25, 25), seed=2)
    path = tmp_path / "half.e2e"
    schema = make_schema((3, 25, 25), precision="float16")
    writer = _core.ShardWriter(str(path), to_core(schema), SHARD_ID, 3, False)
    writer.append(images, [])
    writer.finish()
    expected = images.astype(np.float16).astype(np.float32)
    assert same_bits(read_shard(path).images(), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_of_every_dtype_cross_both_ways(tmp_path: Path, dtype: str) -> None:
    schema = make_schema((1, 2, 2), (("before", "int8", ""), ("s", dtype, "GeV")))
    raw = np.random.default_rng(3).integers(0, 256, (5, 8), np.uint8)
    column = np.ascontiguousarray(raw[:, : np.dtype(dtype).itemsize]).view(dtype).ravel()
    if dtype == "bool":
        column = raw[:, 0] > 127
    images = np.zeros((5, 1, 2, 2), np.float32)
    columns = [np.arange(5, dtype=np.int8), column]
    path = tmp_path / "plain.e2e"
    path.write_bytes(write_shard(schema, images, columns, shard_id=SHARD_ID))
    read = _core.ShardReader(str(path)).column(1)
    assert read.dtype == np.dtype(dtype)
    assert read.tobytes() == column.tobytes()
    target = tmp_path / "core.e2e"
    writer = _core.ShardWriter(str(target), to_core(schema), SHARD_ID, 3, False)
    writer.append(images, columns)
    writer.finish()
    assert read_shard(target).columns["s"].tobytes() == column.tobytes()


def test_core_reader_tells_what_the_reference_reader_tells(tmp_path: Path) -> None:
    schema = make_schema((2, 12, 12), (("y", "int64", ""), ("pt", "float32", "GeV")))
    images = sparse_images(7, (2, 12, 12), seed=4)
    columns: list[NDArray[np.generic]] = [np.arange(7), np.arange(7, dtype=np.float32)]
    path = tmp_path / "plain.e2e"
    path.write_bytes(write_shard(schema, images, columns, shard_id=SHARD_ID))
    shard, reader = read_shard(path), _core.ShardReader(str(path))
    assert reader.path == str(path)
    assert reader.n_samples == shard.n_samples == 7
    assert reader.n_bytes == path.stat().st_size
    assert reader.version == 1
    assert reader.digest == shard.digest
    assert reader.record_sizes().tolist() == shard.sizes.tolist()
    assert reader.schema.channel_names == [name for name, _ in schema.channels]
    assert reader.schema.scalar_dtypes == ["int64", "float32"]


def test_core_decodes_chosen_channels_in_the_order_asked(tmp_path: Path) -> None:
    schema = make_schema((4, 15, 15))
    images = sparse_images(6, (4, 15, 15), seed=5)
    images[:, 2] = images[:, 0] * 2  # a shared support, so that channel 2 needs channel 0's gaps
    path = tmp_path / "plain.e2e"
    path.write_bytes(write_shard(schema, images, [], shard_id=SHARD_ID))
    reader = _core.ShardReader(str(path))
    ids = np.array([5, 0, 0, 3])
    for picked in ([2], [3, 2], [1, 0, 2, 3], [2, 1]):
        assert same_bits(reader.decode(ids, picked), images[ids][:, picked])


def test_default_choice_covers_every_kind() -> None:
    image = np.zeros((4, 6, 6), np.float32)
    image[1, 2, 3], image[2, 2, 3] = 0.5, 4.0
    image[3] = 0.25
    assert [c.kind for c in choose(image)] == [0, 1, 2, 3]
    assert [c.coding for c in choose(image)] == [0, 0, 1, 0]
    body = record_body(encode(image, choose(image)), compress=False)
    assert len(body) == 4 + 10 + (2 + 1 + 2 * 36) + (2 + 2 * 36)


@pytest.mark.parametrize(
    "shape", [(1, 32, 32), (3, 125, 125), (13, 20, 20), (1, 1, 1), (2, 1, 300)]
)
def test_core_and_reference_agree_on_detector_shapes(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    images = sparse_images(5, shape, seed=6)
    schema = make_schema(shape)
    path = tmp_path / "core.e2e"
    writer = _core.ShardWriter(str(path), to_core(schema), SHARD_ID, 3, False)
    writer.append(images, [])
    writer.finish()
    assert same_bits(read_shard(path).images(), images)
    assert same_bits(core_images(path, schema), images)
