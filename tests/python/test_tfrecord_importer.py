from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.errors import ConfigError, E2eioError, ImporterError
from e2eio.importers import ImportOptions, open_source, recognise_format
from e2eio.tfrecord import RecordWriter, masked_crc32c, write_example
from importer_toys import SMALL, Truth, read_all, run_measured, same_bits, small_images

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "GZIP": gzip.compress,
    "ZLIB": zlib.compress,
}


def flat(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(image.transpose(1, 2, 0)).ravel()


def jet(i: int, **changed: Any) -> bytes:
    features: dict[str, Any] = {
        "X_jets": flat(small_images(i + 1)[i]),
        "pt": np.array([i + 0.5], np.float32),
        "y": np.array([i % 2]),
    }
    features.update(changed)
    return write_example({k: v for k, v in features.items() if v is not None})


def stream_of(*messages: bytes) -> bytes:
    stream = io.BytesIO()
    with RecordWriter(stream) as writer:
        for message in messages:
            writer.write(message)
    return stream.getvalue()


@pytest.mark.parametrize("g", [1, 3])
def test_published(published: Path, g: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    truth: Truth = request.getfixturevalue(f"truth_x{g}")
    (path,) = (published / f"tfrecord_x{g}").iterdir()
    source = open_source(path)
    n = source.n_samples
    images, scalars = read_all(source)
    assert same_bits(images, truth["X"][:n])
    for name in ("m0", "pt", "y"):
        assert same_bits(scalars[name], truth[name][:n])
    assert source.schema.channels[:5] == ("track_pt", "d0", "dz", "ecal", "hcal")
    assert source.cuts.tolist() == [0, n]
    e2eio.convert(path, tmp_path / "out", processes=1, progress=False)
    dataset = e2eio.Dataset(tmp_path / "out")
    assert len(dataset) == n
    assert all(same_bits(dataset[i]["X_jets"], truth["X"][i]) for i in range(n))
    assert same_bits(dataset.scalars("pt"), truth["pt"][:n])


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="tensorflow is not installed")
def test_tensorflow_reads_ours_and_we_read_tensorflows(tmp_path: Path) -> None:
    images = small_images(5)
    images[1, 0, 0, :3] = (-0.0, np.inf, np.float32(1e-45))
    m0, y = np.array([1, 2, 3, 4, 5], np.float32), np.array([0, 1, -1, 2**62, -(2**63)])
    np.savez(tmp_path / "truth.npz", X=images, m0=m0, y=y)
    for compression in COMPRESS:
        with (tmp_path / f"ours-{compression or 'NONE'}").open("wb") as stream:
            writer = RecordWriter(stream, compression)  # type: ignore[arg-type]
            for i in range(5):
                features = {"X_jets": flat(images[i]), "m0": m0[i : i + 1], "y": y[i : i + 1]}
                writer.write(write_example({**features, "name": b"jet %d" % i}))
            writer.finish()
    program = Path(__file__).parent / "isolated" / "tfrecord_checks.py"
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("ours", "theirs"):
        for compression in COMPRESS:
            source = open_source(tmp_path / f"{name}-{compression or 'NONE'}", SMALL)
            found, scalars = read_all(source)
            assert same_bits(found, images)
            assert same_bits(scalars["m0"], m0)
            assert scalars["y"].tolist() == y.tolist()
            assert source.skipped == ("name (bytes)",)


@pytest.mark.parametrize("compression", COMPRESS)
def test_ranges(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(COMPRESS[compression](stream_of(*map(jet, range(20)))))
    assert recognise_format(str(path)) == "tfrecord"
    for begin, end in ((0, 20), (0, 1), (7, 13), (19, 20)):
        source = open_source(path, SMALL)
        images, scalars = read_all(source, begin, end)
        assert same_bits(images, small_images(20)[begin:end])
        assert scalars["y"].tolist() == [i % 2 for i in range(begin, end)]
        assert scalars["pt"].dtype == np.float32
    assert source.n_samples == 20
    assert source.cuts.tolist() == (list(range(21)) if not compression else [0, 20])
    assert list(source.chunks(20, 20)) == []
    with pytest.raises(ConfigError, match="range"):
        next(source.chunks(0, 21))
    with pytest.raises(ImporterError, match="found 20, expected 21"):
        list(open_source(path, SMALL).chunks(0, 21))
    with pytest.raises(ConfigError, match=r"within \[0, its samples\)"):  # not counted yet
        next(open_source(path, SMALL).chunks(2, 1))


def test_a_task_of_a_compressed_file_does_not_count_it_first(tmp_path: Path) -> None:
    data = gzip.compress(stream_of(jet(0), jet(1)), mtime=0)
    path = tmp_path / "a"
    path.write_bytes(data + gzip.compress(stream_of(jet(2)), mtime=0) + b"garbage")
    source = open_source(path, SMALL)
    assert len(read_all(source, 0, 2)[0]) == 2
    with pytest.raises(ImporterError, match="bytes after the end"):
        source.n_samples  # noqa: B018 - counts


def test_gzip_of_several_members(tmp_path: Path) -> None:
    data = stream_of(*map(jet, range(9)))
    path = tmp_path / "a"
    parts = (data[:5], data[5:400], data[400:401], b"", data[401:])
    path.write_bytes(b"".join(map(gzip.compress, parts)))
    assert same_bits(read_all(open_source(path, SMALL))[0], small_images(9))


def test_raw_bytes_are_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a"
    raw = [flat(image).tobytes() for image in small_images(3)]
    path.write_bytes(stream_of(*(jet(i, X_jets=data) for i, data in enumerate(raw))))
    assert same_bits(read_all(open_source(path, SMALL))[0], small_images(3))
    path.write_bytes(stream_of(jet(0, X_jets=raw[0]), jet(1, X_jets=raw[1][:-4])))
    with pytest.raises(ImporterError, match=r"elements of \[92\] bytes, expected one of 96"):
        read_all(open_source(path, SMALL))


def test_bits_survive(tmp_path: Path) -> None:
    truth = small_images(1)
    truth.view(np.uint32)[0, 1, 2] = (0x80000000, 1, 0x7FC01234, 0x7F800001)
    path = tmp_path / "a"
    path.write_bytes(stream_of(jet(0, X_jets=flat(truth[0]))))
    assert same_bits(read_all(open_source(path, SMALL))[0], truth)


def test_which_feature_is_the_image(tmp_path: Path) -> None:
    path = tmp_path / "a"
    pixels = flat(small_images(1)[0])
    path.write_bytes(stream_of(write_example({"img": pixels, "w": np.array([1], np.float32)})))
    assert open_source(path, SMALL).schema.image.name == "img"
    path.write_bytes(stream_of(write_example({"a": pixels, "b": pixels})))
    with pytest.raises(ConfigError, match="pass image"):
        open_source(path, SMALL)
    options = ImportOptions(shape=(2, 3, 4), channels=("a", "b"), image="b")
    source = open_source(path, options)
    assert (source.schema.image.name, source.skipped) == ("b", ("a (float [24])",))
    with pytest.raises(ConfigError, match="expected 'c'"):
        open_source(path, ImportOptions(image="c"))


def long_header(n_bytes: int) -> bytes:
    length = struct.pack("<Q", n_bytes)
    return length + struct.pack("<I", masked_crc32c(length))


@pytest.mark.parametrize(
    ("second", "what"),
    [
        (jet(1, pt=None), "missing feature 'pt'"),
        (jet(1, X_jets=None), "missing feature 'X_jets'"),
        (jet(1, X_jets=np.zeros(23, np.float32)), "found 23 numbers, expected 24"),
        (jet(1, y=np.array([1, 2])), "wrong length of feature 'y'"),
        (jet(1, y=np.array([1], np.float32)), "found a list of float, expected one of int64"),
        (jet(1, X_jets=np.arange(24)), "found a list of int64, expected one of float"),
        (b"\x0a\x05abc", "damaged Example"),
        (bytes(2 << 20), "record too long"),
    ],
)
@pytest.mark.parametrize("compression", COMPRESS)
def test_records_that_differ_are_named(
    tmp_path: Path, compression: str, second: bytes, what: str
) -> None:
    path = tmp_path / "a"
    good = jet(0)
    path.write_bytes(COMPRESS[compression](stream_of(good, second, jet(2))))
    source = open_source(path, SMALL)
    chunks = source.chunks(0, 3)
    assert same_bits(next(chunks)[0], small_images(1))  # what is before it is not lost
    with pytest.raises(ImporterError, match=what) as caught:
        next(chunks)
    assert (caught.value.path, caught.value.sample) == (str(path), 1)
    assert caught.value.offset_bytes == len(stream_of(good))


PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (jet(0, X_jets=PNG), "found a PNG picture"),
        (jet(0, X_jets=b"abc"), "found 3 bytes"),
        (jet(0, X_jets=[b"abcd", b"abcd"]), "found 2 elements"),
        (jet(0, X_jets=np.arange(24)), "found a list of int64"),
        (jet(0, X_jets=np.zeros(0, np.float32)), "found an empty list"),
        (write_example({"y": np.array([1])}), r"no image feature.*\['y'\]"),
        (b"", "no image feature"),
        (b"\x0a", "damaged Example"),
    ],
)
def test_first_records_without_an_image(tmp_path: Path, message: bytes, what: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(stream_of(message))
    with pytest.raises(ImporterError, match=what):
        open_source(path, SMALL)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (gzip.compress(b"", mtime=0), "unknown format"),
        (gzip.compress(b"text" * 100, mtime=0), "unknown format"),
        (b"\x1f\x8b\x08", "unknown format"),
        (long_header(1 << 40), "too long: .*found 1099511627776"),
        (long_header(1 << 29), "truncated record"),
        (gzip.compress(long_header(1 << 29), mtime=0), "truncated record"),
        (stream_of(jet(0))[:-1], "truncated record"),
        (gzip.compress(stream_of(jet(0)), mtime=0)[:-9], "truncated"),
        (zlib.compress(stream_of(jet(0))) + b"x", "bytes after the end"),
        (gzip.compress(stream_of(jet(0)), mtime=0) + bytes(8), "bytes after the end"),
    ],
)
def test_files_that_are_none(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    with pytest.raises(ImporterError, match=what):
        read_all(open_source(path, SMALL))


@pytest.mark.parametrize("compression", COMPRESS)
def test_damage_is_never_silent(tmp_path: Path, compression: str) -> None:
    data = COMPRESS[compression](stream_of(jet(0), jet(1)))
    path = tmp_path / "a"
    header = set(range(4, 10)) if compression == "GZIP" else set()  # time and system: no content
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            images, _ = read_all(open_source(path, SMALL))
        except E2eioError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert at in header, at
            assert same_bits(images, small_images(2))
    for size in range(1, len(data), 3):
        path.write_bytes(data[:size])
        with pytest.raises(ImporterError):
            read_all(open_source(path, SMALL))


READ_BOMB = """
from e2eio.errors import ImporterError
from e2eio.importers import ImportOptions, open_source
source = open_source(sys.argv[1], ImportOptions(shape=(2, 3, 4), channels=("a", "b")))
before = peak()
for read in (lambda: list(source.chunks(0, 2)), lambda: source.n_samples):
    try:
        read()
    except ImporterError as error:
        assert "too long" in str(error)
    else:
        raise AssertionError
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_small_for_a_bomb(tmp_path: Path) -> None:
    # 600 MB of zeros as the second record: 600 kB on disk.
    good = jet(0)
    engine = zlib.compressobj(1, zlib.DEFLATED, 31)
    with (tmp_path / "a").open("wb") as stream:
        stream.write(engine.compress(stream_of(good) + long_header(600 << 20)))
        for _ in range(600):
            stream.write(engine.compress(bytes(1 << 20)))
        stream.write(engine.flush())
    assert int(run_measured(READ_BOMB, tmp_path / "a")) < 64
