from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
import zstandard
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, ZstdCodec

import e2eio
from e2eio.errors import ConfigError, ImporterError, ShardNotFoundError
from e2eio.importers import ImportOptions, open_source
from e2eio.importers.arrays import blocks
from importer_toys import TWO, read_all, read_file, same_bits, sparse_images


def write(path: Path, arrays: dict[str, Any], version: int = 3, **options: Any) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=version)  # type: ignore[arg-type]
    for name, values in arrays.items():
        chosen = options if np.ndim(values) == 4 else {}
        group.create_array(name, data=np.asarray(values), **chosen)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_jets_convert_exactly(
    truth_x1: dict[str, NDArray[np.float32]], tmp_path: Path, version: int
) -> None:
    images = truth_x1["X"].transpose(0, 2, 3, 1)
    arrays = {"X_jets": images, **{name: truth_x1[name] for name in ("y", "m0", "pt")}}
    path = write(tmp_path / "jets", arrays, version, chunks=(32, 125, 125, 8))
    e2eio.convert(path, tmp_path / "out", processes=1, progress=False)
    dataset = e2eio.Dataset(tmp_path / "out")
    assert dataset.channels[3:5] == ("ecal", "hcal")
    assert all(same_bits(dataset[row]["X_jets"], truth_x1["X"][row]) for row in range(128))
    for name in ("y", "m0", "pt"):
        assert same_bits(dataset.scalars(name), truth_x1[name])


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
@pytest.mark.parametrize("version", [2, 3])
def test_layouts_and_codecs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, dtype: str
) -> None:
    monkeypatch.setattr(blocks, "_CHUNK_BYTES", 4 * 2 * 15 * 16 * 8)  # several blocks
    truth = sparse_images(23, dtype)
    wanted = truth.astype("f8" if truth.itemsize == 8 else "f4")
    codings: list[dict[str, Any]] = [{}, {"compressors": None}]
    if version == 3:
        codings += [{"compressors": codec} for codec in (GzipCodec(), ZstdCodec(), BloscCodec())]
        codings += [{"shards": (8, 2, 15, 16)}]
    for number, (coding, chunks) in enumerate(
        itertools.product(codings, [(4, 2, 15, 16), (1, 1, 15, 16)])
    ):
        path = write(
            tmp_path / f"{number}",
            {"X": truth, "y": np.arange(23)},
            version,
            chunks=chunks,
            **coding,
        )
        source = open_source(path, TWO)
        for begin, end in ((0, 23), (5, 18)):
            images, scalars = read_all(source, begin, end)
            assert same_bits(images, wanted[begin:end]), (coding, chunks)
            assert scalars["y"].tolist() == list(range(begin, end))
        assert source.cuts.tolist() == [*range(0, 23, source.cuts[1]), 23]
        source.close()


def test_zip_file(tmp_path: Path) -> None:
    truth = sparse_images(5)
    path = tmp_path / "a.zip"
    store = zarr.storage.ZipStore(path, mode="w")
    group = zarr.open_group(store, mode="w")
    group.create_array("images/X", data=truth, chunks=(2, 2, 15, 16))
    store.close()
    assert same_bits(read_file(path), truth)


def test_array_alone(tmp_path: Path) -> None:
    truth = sparse_images(5)
    zarr.create_array(str(tmp_path / "jet.zarr"), data=truth, chunks=(2, 2, 15, 16))
    source = open_source(tmp_path / "jet.zarr", TWO)
    assert same_bits(read_all(source)[0], truth)
    assert source.schema.field_names == ("jet",)
    source.close()


def test_groups(tmp_path: Path) -> None:
    truth = sparse_images(4)
    arrays = {
        "train/X": truth,
        "train/y": np.zeros(4, np.int64),
        "test/X": -truth,
        "test/y": np.ones(4),
    }
    path = write(tmp_path / "a", arrays)
    with pytest.raises(ConfigError, match=r"several .*test/X.*pass image"):
        open_source(path, TWO)
    source = open_source(path, ImportOptions(image="train/X", channels=("a", "b")))
    images, scalars = read_all(source)
    assert same_bits(images, truth)
    assert scalars["y"].tolist() == [0] * 4
    source.close()


def test_bits_survive_and_empty_chunks_of_parts_are_zeros(tmp_path: Path) -> None:
    truth = np.zeros((4, 2, 15, 16), np.float32)
    truth[2, 1].view(np.uint32)[0, :4] = (0x80000000, 1, 0x7FC01234, 0xFF800000)
    path = write(tmp_path / "a", {"X": truth}, chunks=(1, 1, 15, 16))
    assert same_bits(read_file(path), truth)


@pytest.mark.parametrize("codec", [ZstdCodec(level=1), ZstdCodec(checksum=True), BloscCodec()])
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_frames_are_decoded_to_where_they_belong(
    tmp_path: Path, codec: Any, dtype: str, order: Any
) -> None:
    """Any range of rows, of whole chunks and parts, as zarr itself reads them."""
    images = sparse_images(23, dtype)
    how: dict[str, Any] = {"compressors": [codec], "serializer": BytesCodec(endian=order)}
    path = write(tmp_path / "a.zarr", {"X": images}, chunks=(5, *images.shape[1:]), **how)
    source = open_source(str(path), TWO)
    fast = isinstance(codec, ZstdCodec) and order == sys.byteorder
    reader: Any = source._images[0]  # type: ignore[attr-defined]
    assert (reader._zstd is not None) == fast
    theirs = zarr.open_array(str(path / "X"), mode="r")
    for begin, end in [(0, 23), (0, 5), (3, 4), (4, 11), (20, 23), (22, 23), (5, 20)]:
        found = reader.read(begin, end)
        assert found.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found, np.asarray(theirs[begin:end]))


@pytest.mark.parametrize("n_bytes", [10, 1 << 33])
def test_frames_of_another_length_are_not_decoded(tmp_path: Path, n_bytes: int) -> None:
    images = sparse_images(10)
    path = write(tmp_path / "a.zarr", {"X": images}, chunks=(5, *images.shape[1:]))
    frame = zstandard.ZstdCompressor().compressobj(size=n_bytes)
    stated = frame.compress(bytes(10)) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    (path / "X" / "c" / "1" / "0" / "0" / "0").write_bytes(stated)
    source = open_source(str(path), TWO)
    with pytest.raises(
        ImporterError, match=f"samples 0 to 9: found 'a chunk of {n_bytes} bytes, exp"
    ):
        read_all(source)


def test_frames_that_do_not_say_how_long_they_are(tmp_path: Path) -> None:
    images = sparse_images(10)
    path = write(tmp_path / "a.zarr", {"X": images}, chunks=(5, *images.shape[1:]))
    plain = zstandard.ZstdCompressor(write_content_size=False)
    file = path / "X" / "c" / "1" / "0" / "0" / "0"
    file.write_bytes(plain.compress(images[5:].tobytes()))
    assert zstandard.frame_content_size(file.read_bytes()) < 0
    assert same_bits(read_all(open_source(str(path), TWO))[0], images)


def chunk_files(path: Path) -> list[Path]:
    return sorted(file for file in (path / "X" / "c").rglob("*") if file.is_file())


def lost_chunk(path: Path) -> None:
    chunk_files(write(path, {"X": sparse_images(8)}, chunks=(2, 2, 15, 16)))[1].unlink()


def cut_chunk(path: Path) -> None:
    file = chunk_files(write(path, {"X": sparse_images(8)}, chunks=(2, 2, 15, 16)))[1]
    file.write_bytes(file.read_bytes()[:-20])


def wrong_chunk(path: Path) -> None:
    file = chunk_files(
        write(path, {"X": sparse_images(8)}, chunks=(2, 2, 15, 16), compressors=None)
    )[1]
    file.write_bytes(file.read_bytes()[:-20])


def nothing_stored(path: Path) -> None:
    zarr.open_group(path, mode="w").create_array(
        "X", shape=(2**40, 2, 15, 16), chunks=(1, 1, 15, 16), dtype="f4"
    )


def edited(**changes: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write(path, {"X": sparse_images(4)}, chunks=(2, 2, 15, 16))
        file = path / "X" / "zarr.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return make


def with_codec(**changes: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write(path, {"X": sparse_images(4)}, version=2)
        file = path / "X" / ".zarray"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return make


PICKLE = {"id": "pickle", "protocol": 4}


def arrays(**values: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write(path, values)

    return make


def no_metadata(path: Path) -> None:
    write(path, {"X": sparse_images(4)})
    (path / "zarr.json").write_text("{")


def big_chunks(path: Path) -> None:
    group = zarr.open_group(path, mode="w")
    group.create_array("X", shape=(9000, 2, 150, 160), chunks=(9000, 2, 150, 160), dtype="f4")


MALFORMED: dict[str, tuple[Callable[[Path], None], str]] = {
    "chunk lost": (lost_chunk, "3 of 4 chunks"),
    "chunk cut off": (cut_chunk, "damaged Zarr store.*samples 0 to 7"),
    "uncompressed chunk cut off": (wrong_chunk, "damaged Zarr store"),
    "nothing stored, 2^40 images": (nothing_stored, "0 of"),
    "chunks too large": (big_chunks, "chunks too large"),
    "metadata cut off": (no_metadata, "damaged Zarr store"),
    "unknown codec in metadata": (edited(codecs=[{"name": "rot13"}]), "Zarr store|unknown codec"),
    "negative shape": (edited(shape=[-1, 2, 15, 16]), "Zarr store"),
    "codec that runs programs": (with_codec(compressor=PICKLE), "damaged Zarr store.*pickle"),
    "codec not known": (with_codec(filters=[{"id": "packbits"}]), "unknown codec: .*packbits"),
    "integers": (arrays(X=np.zeros((2, 2, 3, 4), "i4")), "wrong dtype of images"),
    "wrong rank": (arrays(X=np.zeros((2, 2, 2, 3, 4), "f4")), "wrong rank of images"),
    "no images": (arrays(y=[0, 1]), r"found y \(int64 \[2\]\)"),
    "no arrays": (arrays(), "found no arrays"),
    "labels too short": (arrays(X=sparse_images(3), y=[0, 1]), "numbers of samples differ"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(tmp_path: Path, case: str) -> None:
    make, message = MALFORMED[case]
    path = tmp_path / "bad.zarr"
    make(path)
    with pytest.raises(ImporterError, match=message) as caught:
        read_file(path)
    assert "bad.zarr" in str(caught.value)
    assert caught.value.path == str(path)


def test_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(ShardNotFoundError):
        open_source(tmp_path / "nowhere.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImporterError, match="directory"):
        open_source(tmp_path / "empty")
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ImporterError, match=r"a\.zip"):
        open_source(tmp_path / "a.zip")


def test_fingerprint_changes_with_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a", {"X": sparse_images(8)}, chunks=(2, 2, 15, 16))
    shutil.copytree(path, tmp_path / "b")
    file = chunk_files(tmp_path / "b")[0]
    file.write_bytes(file.read_bytes() + b"0")
    prints = []
    for name in ("a", "a", "b"):
        source = open_source(tmp_path / name, TWO)
        prints.append(source.fingerprint)
        source.close()
    assert prints[0] == prints[1] != prints[2]


def test_fingerprint_tells_what_was_selected(tmp_path: Path) -> None:
    images = sparse_images(4)
    path = write(
        tmp_path / "a", {"train/X": images, "test/X": images, "A": images[:, 0], "B": images[:, 1]}
    )
    prints = set()
    for name in ("train/X", "test/X", "A,B", "B,A"):
        source = open_source(path, ImportOptions(image=name, channels=("a", "b")))
        prints.add(source.fingerprint)
        source.close()
    assert len(prints) == 4


FLIPS = """
import pathlib, random, shutil, sys
from e2eio.errors import E2eioError
from e2eio.importers import ImportOptions, open_source
path, draw, errors = pathlib.Path(sys.argv[1]), random.Random(2), 0
files = sorted(file for file in path.rglob("*") if file.is_file())
for number in range(60):
    file = draw.choice(files)
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
    file.write_bytes(damaged)
    try:
        source = open_source(path, ImportOptions(channels=("a", "b")))
        assert sum(len(images) for images, _ in source.chunks(0, min(source.n_samples, 100))) > 0
        source.close()
    except E2eioError:
        errors += 1
    file.write_bytes(whole)
print(errors)
"""


@pytest.mark.parametrize("version", [2, 3])
def test_flipped_bits_give_data_or_an_error(tmp_path: Path, version: int) -> None:
    path = write(
        tmp_path / "a", {"X": sparse_images(7), "y": np.arange(7)}, version, chunks=(3, 2, 15, 16)
    )
    done = subprocess.run(
        [sys.executable, "-c", FLIPS, str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode <= 0, done.stderr[-2000:]
    if done.returncode == 0:
        assert int(done.stdout) > 5
