from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.errors import ConfigError, E2eioError, ImporterError
from e2eio.importers import ImportOptions, open_source, recognise_format
from importer_toys import TWO, read_all


def same_bits(found: NDArray[Any], truth: NDArray[Any]) -> bool:
    assert found.dtype == truth.dtype
    return found.shape == truth.shape and found.tobytes() == truth.tobytes()


def small_images(n: int, dtype: str = "<f4") -> NDArray[Any]:
    return (np.arange(1, n * 24 + 1) % 251).reshape(n, 2, 3, 4).astype(dtype)


@pytest.mark.parametrize("g", [1, 3])
def test_published_npz(
    published: Path, g: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    truth = request.getfixturevalue(f"truth_x{g}")
    path = published / f"truth_x{g}.npz"
    source = open_source(path)
    images, scalars = read_all(source)
    assert same_bits(images, truth["X"])
    assert all(same_bits(scalars[name], truth[name]) for name in ("m0", "pt", "y"))
    assert source.cuts.tolist() == [0, len(truth["X"])]
    e2eio.convert(path, tmp_path / "out", processes=1, progress=False)
    dataset = e2eio.Dataset(tmp_path / "out")
    assert all(same_bits(dataset[i]["X"], truth["X"][i]) for i in range(len(dataset)))


def test_real_npz(published: Path) -> None:
    path = published.parent / "real" / "cms_pfnano_jet_images_5ch_125.npz"
    if not path.exists():
        pytest.skip(f"no file {path}")
    with pytest.raises(ConfigError, match="pass channels"):
        open_source(path)
    names = ("track_pt", "d0", "dz", "ecal", "hcal")
    source = open_source(path, ImportOptions(channels=names))
    with np.load(path) as truth:
        assert same_bits(read_all(source)[0], truth["X"])
    assert source.skipped == ("meta (float64 [24, 6])",)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", ">f2", "u1", ">i2"])
@pytest.mark.parametrize("kind", ["npy", "npz", "npz deflated"])
def test_every_order_and_dtype(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Any, dtype: str, kind: str
) -> None:
    truth = small_images(7, dtype)
    array = np.asarray(truth, order=order)
    path = tmp_path / "a"
    with path.open("wb") as stream:
        if kind == "npy":
            np.save(stream, array)
        else:
            save = np.savez if kind == "npz" else np.savez_compressed
            save(stream, images=array, y=np.arange(7, dtype=">i4"))
    assert recognise_format(str(path)) == kind[:3]
    for name in ("_CHUNK_BYTES", "_CHUNK_BYTES_ACROSS"):  # several chunks
        monkeypatch.setattr(f"e2eio.importers.arrays.npy.{name}", 3 * truth[0].nbytes)
    expected = truth.astype("<f8" if truth.dtype.itemsize == 8 else "<f4")
    for begin, end in ((0, 7), (2, 6), (6, 7)):
        source = open_source(path, TWO)
        images, scalars = read_all(source, begin, end)
        assert same_bits(images, expected[begin:end])
        if kind != "npy":
            assert scalars["y"].dtype == np.int32
            assert scalars["y"].tolist() == list(range(begin, end))
    assert len(list(source.chunks(0, 7))) == 3
    assert list(source.chunks(7, 7)) == []
    with pytest.raises(ConfigError, match="range"):
        next(source.chunks(0, 8))


@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_bits_survive(tmp_path: Path, dtype: str) -> None:
    truth = small_images(1)
    truth.view(np.uint32)[0, 1, 2] = (0x80000000, 1, 0x7FC01234, 0x7F800001)
    array = truth if dtype == "<f4" else truth.byteswap().view(">f4")
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", array)
    for name in ("a.npy", "a.npz"):
        assert same_bits(read_all(open_source(tmp_path / name, TWO))[0], truth)


def test_other_shapes(tmp_path: Path) -> None:
    path, truth = tmp_path / "a.npy", small_images(4)
    np.save(path, truth.transpose(0, 2, 3, 1))
    source = open_source(path, ImportOptions(shape=(2, 3, 4), layout="HWC", channels=("a", "b")))
    assert same_bits(read_all(source)[0], truth)
    np.save(path, truth[:, 0])
    source = open_source(path, ImportOptions(channels=("a",)))
    assert same_bits(read_all(source)[0], truth[:, :1])
    np.save(path, truth.reshape(4, 24))
    source = open_source(path, ImportOptions(shape=(2, 3, 4), layout="CHW", channels=("a", "b")))
    assert same_bits(read_all(source)[0], truth)
    assert source.schema.image.name == "X"
    assert (
        open_source(
            path, ImportOptions(shape=(2, 3, 4), channels=("a", "b"), image="jet")
        ).schema.image.name
        == "jet"
    )


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays: dict[str, Any] = {
        "y": np.arange(3),
        "names": np.array(["a", "b", "c"]),
        "edges": np.arange(5.0),
    }
    np.savez(path, X=small_images(3), objects=np.array([None, 1, 2]), **arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "text")
    source = open_source(path, TWO)
    assert [s.name for s in source.schema.scalars] == ["y"]
    assert sorted(text.split()[0] for text in source.skipped) == [
        *("edges", "names", "objects", "readme.txt"),
    ]


def test_which_array_is_the_image(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, one=small_images(2), two=small_images(2))
    with pytest.raises(ConfigError, match="pass image"):
        open_source(path, TWO)
    source = open_source(path, ImportOptions(channels=("a", "b"), image="two"))
    assert source.schema.image.name == "two"
    with pytest.raises(ConfigError, match="expected 'three'"):
        open_source(path, ImportOptions(image="three"))


def npy(array: NDArray[Any], pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=pickle)
    return stream.getvalue()


def header(text: str, data: bytes = b"") -> bytes:
    text += "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


GOOD = npy(small_images(2))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (GOOD[:9], "damaged array header"),
        (GOOD[:60], "damaged array header"),
        (GOOD[:-1], "truncated array"),
        (GOOD + b"x", "bytes after the array"),
        (GOOD[:6] + b"\x09\x00" + GOOD[8:], "damaged array header"),
        (b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\xff" + GOOD[12:], "damaged array header"),
        (npy(np.array([None, 1], object), pickle=True), "wrong shape"),
        (npy(np.full((2, 2, 3, 4), None), pickle=True), "array of objects"),
        (npy(np.zeros((2, 2, 3, 4), np.int32)), "wrong type of images: .*int32"),
        (npy(np.zeros((2, 2, 3, 4), np.complex64)), "wrong type"),
        (npy(np.zeros((2, 2, 3, 4), "S3")), "wrong type"),
        (npy(np.zeros((0, 2, 3, 4), np.float32)), "no samples"),
        (npy(np.zeros((2, 0, 3, 4), np.float32)), "wrong shape"),
        (npy(np.zeros(5, np.float32)), "wrong shape"),
        (npy(np.float32(5)), "wrong shape"),
        (npy(np.zeros((1, 1, 1, 1, 1), np.float32)), "wrong shape"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 3, 4)}"), "truncated"),
        (
            header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**18}, 2, 3, 4)}}"),
            "trunc",
        ),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 2, 3, 4)}"), "negative"),
        (header("{'descr': '<f4', 'fortran_order': 1, 'shape': (2, 2, 3, 4)}"), "damaged array"),
        (header("{'descr': 'no', 'fortran_order': False, 'shape': (2, 2, 3, 4)}"), "damaged array"),
        (header("{'shape': ()}"), "damaged array header"),
        (header("__import__('os').abort()"), "damaged array header"),
        (header("(" * 3000), "damaged array header"),
        (header(" " * 20_000), "damaged array header"),
    ],
)
def test_malformed_npy(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    with pytest.raises(ImporterError, match=what):
        read_all(open_source(path, TWO))


def archive(*members: tuple[str, bytes], deflated: bool = False) -> bytes:
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as made:
        for name, data in members:
            made.writestr(name, data)
    return stream.getvalue()


def big_fortran() -> bytes:
    text = "{'descr': '<f4', 'fortran_order': True, 'shape': (3000000, 2, 3, 4)}"
    return archive(("X.npy", header(text, bytes(288_000_000))), deflated=True)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PK\x03\x04", "damaged npz"),
        (archive(("X.npy", GOOD))[:-30], "damaged npz"),
        (archive(("a.txt", b"x")), "no image array"),
        (archive(("archive/data.pkl", b"x")), "pickles are not read"),
        (archive(("X.npy", GOOD[:-4])), "truncated array"),
        (archive(("X.npy", GOOD + bytes(99)), deflated=True), "bytes after the array"),
        (archive(("X.npy", b"abc")), "damaged array header"),
        (archive(("X.npy", npy(np.full((2, 2, 3, 4), None), pickle=True))), "array of objects"),
        (archive(("y.npy", npy(np.arange(3)))), "no image array"),
    ],
)
def test_malformed_npz(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    with pytest.raises(ImporterError, match=what):
        read_all(open_source(path, TWO))


def test_large_fortran_order_in_an_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(big_fortran())
    with pytest.raises(ImporterError, match="save it in C order"):
        next(open_source(path, TWO).chunks(0, 1))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(archive(("X.npy", GOOD), ("X.npy", GOOD)))
    with pytest.raises(ImporterError, match="two of that name"):
        open_source(path, TWO)


@pytest.mark.parametrize("deflated", [False, True])
def test_damage_in_an_archive_is_never_silent(tmp_path: Path, deflated: bool) -> None:
    labels = npy(np.arange(2, dtype=np.float32))
    data = archive(("X.npy", GOOD), ("y.npy", labels), deflated=deflated)
    path = tmp_path / "a.npz"
    silent = 0
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            source = open_source(path, TWO)
            images, scalars = read_all(source)
        except E2eioError as error:
            assert str(path) in str(error)  # noqa: PT017
            continue
        silent += 1  # times, versions, attributes: what zip keeps without need
        assert same_bits(images, small_images(2))
        if "y" in scalars:
            assert scalars["y"].tolist() == [0, 1]
        else:  # its name was damaged
            assert source.skipped or list(scalars) != ["y"]
    assert silent < len(data) // 4
