from __future__ import annotations

import gzip
import io
import json
import tarfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.errors import ConfigError, ImporterError
from e2eio.importers import ImportOptions, open_source, recognise_format
from importer_toys import TWO, read_all, same_bits, small_images


def npy(array: NDArray[Any], pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=pickle)
    return stream.getvalue()


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def tar(*members: tuple[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as made:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def jets(n: int) -> list[tuple[str, bytes]]:
    members = []
    for i, image in enumerate(small_images(n)):
        members += [(f"{i:04}.X.npy", npy(image)), (f"{i:04}.cls", b"%d\n" % (i % 2))]
    return members


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.skipif(find_spec("webdataset") is None, reason="webdataset is not installed")
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
@pytest.mark.filterwarnings("ignore")
def test_files_of_the_real_writer(
    tmp_path: Path, truth_x1: dict[str, NDArray[np.float32]], name: str
) -> None:
    TarWriter = import_module("webdataset").TarWriter

    truth = truth_x1["X"][:12]
    with TarWriter(str(tmp_path / name)) as writer:
        for i, image in enumerate(truth):
            sample = {"X_jets.npy": image, "json": {"pt": float(i), "run": i, "tag": "x"}}
            writer.write({"__key__": f"{i:06}", **sample, "cls": i % 2, "txt": "text"})
    source = open_source(tmp_path / name)
    assert recognise_format(str(tmp_path / name)) == "webdataset"
    images, scalars = read_all(source)
    assert same_bits(images, truth)
    assert [(s.name, s.dtype) for s in source.schema.scalars] == [
        *(("pt", "float64"), ("run", "int64"), ("y", "int64")),
    ]
    assert scalars["run"].tolist() == scalars["pt"].tolist() == list(range(12))
    assert source.skipped == ("txt (not read)",)
    assert source.cuts.tolist() == (list(range(13)) if name == "a.tar" else [0, 12])
    for begin, end in ((0, 1), (5, 9), (11, 12)):
        assert same_bits(read_all(open_source(tmp_path / name), begin, end)[0], truth[begin:end])
    e2eio.convert(tmp_path / name, tmp_path / "out", processes=1, shard_samples=5, progress=False)
    dataset = e2eio.Dataset(tmp_path / "out")
    assert all(same_bits(dataset[i]["X_jets"], truth[i]) for i in range(12))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format_and_long_names(tmp_path: Path, form: int) -> None:
    folder = "d" * 90 + "/" + ("e" * 120 + "/" if form != tarfile.USTAR_FORMAT else "")
    members = [(folder + name, data) for name, data in jets(3)]
    source = open_source(write(tmp_path / "a", tar(*members, form=form)), TWO)
    images, scalars = read_all(source)
    assert same_bits(images, small_images(3))
    assert scalars["y"].tolist() == [0, 1, 0]
    assert same_bits(read_all(source, 1, 3)[0], small_images(3)[1:])


def test_members_in_any_order_and_npz(tmp_path: Path) -> None:
    one, two = small_images(2)
    members = [
        ("./a.y.cls", b"3"),
        ("./a.npz", npz(img=one, pt=np.float32(7))),
        ("__meta__", b"{}"),
        ("./b.npz", npz(pt=np.float32(8), img=two)),
        ("./b.y.cls", b"4"),
        ("README", b"no sample"),
    ]
    source = open_source(write(tmp_path / "a", tar(*members)), TWO)
    images, scalars = read_all(source)
    assert same_bits(images, small_images(2))
    assert {name: values.tolist() for name, values in scalars.items()} == {
        "pt": [7, 8],
        "y": [3, 4],
    }
    assert source.schema.image.name == "img"


def test_kinds_of_arrays_and_numbers(tmp_path: Path) -> None:
    image = np.asfortranarray(small_images(1)[0].astype(">f8"))
    content = json.dumps({"pt": 1, "f": True, "n": None, "x": float("nan")}).encode()
    members = [
        ("a.npy", npy(image)),
        ("a.json", content),
        ("a.w.npy", npy(np.array([2], np.float32))),
    ]
    source = open_source(write(tmp_path / "a", tar(*members)), TWO)
    images, scalars = read_all(source)
    assert same_bits(images, small_images(1).astype(float))
    assert {name: str(values.dtype) for name, values in scalars.items()} == {
        **{"f": "bool", "pt": "int64", "w": "float32", "x": "float64"},
    }
    assert np.isnan(scalars["x"][0])
    assert source.schema.image.name == "image"


def test_whole_numbers_among_json_floats(tmp_path: Path) -> None:
    image = npy(small_images(1)[0])

    def made(*texts: bytes) -> bytes:
        pairs = [((f"{i}.X.npy", image), (f"{i}.json", text)) for i, text in enumerate(texts)]
        return tar(*(member for pair in pairs for member in pair))

    path = write(tmp_path / "a", made(b'{"pt": 1.5}', b'{"pt": 500}'))
    assert read_all(open_source(path, TWO))[1]["pt"].tolist() == [1.5, 500]
    write(path, made(b'{"pt": 500}', b'{"pt": 1.5}'))
    with pytest.raises(ImporterError, match=r"'pt' differs: .*sample 1 \('1' at byte"):
        read_all(open_source(path, TWO))


def test_which_member_is_the_image(tmp_path: Path) -> None:
    image = npy(small_images(1)[0])
    path = write(tmp_path / "a", tar(("0.one.npy", image), ("0.two.npy", image)))
    with pytest.raises(ConfigError, match="pass image"):
        open_source(path, TWO)
    source = open_source(path, ImportOptions(channels=("a", "b"), image="two"))
    assert (source.schema.image.name, source.skipped) == ("two", ("one (float32 [2, 3, 4])",))
    with pytest.raises(ConfigError, match="expected 'three'"):
        open_source(path, ImportOptions(image="three"))


IMAGE = npy(small_images(1)[0])
BOMB = npz(X=np.zeros((2, 1000, 1000), np.float32))


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ([("1.X.npy", IMAGE)], "missing 'y'"),
        ([("1.cls", b"0")], "missing 'X'"),
        ([("1.X.npy", npy(np.zeros((2, 3, 5), "f4"))), ("1.cls", b"0")], r"\[2, 3, 5\]"),
        ([("1.X.npy", npy(np.zeros((2, 3, 4), "f8"))), ("1.cls", b"0")], "found float64"),
        ([("1.X.npy", IMAGE[:-1]), ("1.cls", b"0")], "truncated array"),
        ([("1.X.npy", IMAGE + b"x"), ("1.cls", b"0")], "bytes after the array"),
        ([("1.X.npy", npy(np.full(3, None), pickle=True)), ("1.cls", b"0")], "array of objects"),
        ([("1.X.npy", IMAGE), ("1.cls", b"top")], "no class.*b'top'"),
        ([("1.X.npy", IMAGE), ("1.cls", b"9" * 30)], "no class"),
        ([("1.X.npy", IMAGE), ("1.X.npy", IMAGE)], "member not unique"),
        ([("1.X.npy", bytes(2 << 20)), ("1.cls", b"0")], "too large"),
        ([("1.X.npy", IMAGE), ("1.cls", b"0" * (2 << 20))], "too large"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_samples_that_differ_are_named(
    tmp_path: Path, members: list[tuple[str, bytes]], what: str, compressed: bool
) -> None:
    data = tar(("0.X.npy", IMAGE), ("0.cls", b"0"), *members)
    path = write(tmp_path / "a", gzip.compress(data) if compressed else data)
    chunks = open_source(path, TWO).chunks(0, 2)
    assert same_bits(next(chunks)[0], small_images(1))
    with pytest.raises(ImporterError, match=what) as caught:
        next(chunks)
    assert caught.value.path == str(path)


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ([], "no samples"),
        ([("README", b"x")], "no samples"),
        ([("0.pth", b"x"), ("0.pkl", b"x")], "pickles and pictures are not read"),
        ([("0.png", b"x"), ("0.cls", b"1")], "no image"),
        ([("0.json", b"{")], "damaged JSON"),
        ([("0.json", b"[" * 100_000)], "damaged JSON"),
        ([("0.json", b'{"a": 1%s}' % (b"0" * 30))], "too large a number"),
        ([("0.json", b"1" * 10_000)], "damaged JSON"),
        ([("0.json", b" " * (2 << 20))], "too large a member"),
        ([("0.X.npy", npy(np.zeros((2, 3, 4), np.int64)))], "wrong type of images"),
        ([("0.npz", b"PK\x03\x04")], "damaged npz"),
        ([("0.npz", BOMB[:-300])], "damaged npz"),
        ([("0.npz", npz(a=np.zeros(2))), ("0.a.npy", IMAGE)], "'a' twice"),
    ],
)
def test_first_samples_without_an_image(
    tmp_path: Path, members: list[tuple[str, bytes]], what: str
) -> None:
    data = tar(*members) if members else tar(("x", b""))
    with pytest.raises(ImporterError, match=what):
        open_source(write(tmp_path / "a", data), TWO)


def test_a_bomb_in_a_later_sample(tmp_path: Path) -> None:
    members = [("0.npz", npz(X=small_images(1)[0])), ("1.npz", BOMB)]
    source = open_source(write(tmp_path / "a", tar(*members)), TWO)
    with pytest.raises(ImporterError, match="found 8000128 bytes"):
        read_all(source)


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    stream = io.BytesIO()
    stream.write(tar(*jets(2))[: 8 * 512])  # without the end mark
    info = tarfile.TarInfo("0002.X.npy")
    info.type, info.linkname = kind, "/etc/passwd"
    stream.write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    source = open_source(write(tmp_path / "a", stream.getvalue()), TWO)
    with pytest.raises(ImporterError, match="not a plain file"):
        source.n_samples  # noqa: B018 - counts


def test_names_touch_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [("../../up.X.npy", IMAGE), ("/abs.X.npy", IMAGE)]
    path = write(tmp_path / "a", tar(*members))
    monkeypatch.chdir(tmp_path)
    assert open_source(path, TWO).n_samples == 2
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_damaged_headers_end_nothing_silently(tmp_path: Path) -> None:
    data = tar(*jets(3))
    path = tmp_path / "a"
    headers = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    assert len(headers) == 6
    for at in headers:
        for place in (0, 120, 130, 150, 156, 200, 500):
            damaged = bytearray(data)
            damaged[at + place] ^= 4
            path.write_bytes(damaged)
            with pytest.raises(ImporterError, match="damaged header"):
                read_all(open_source(path, TWO))


def test_truncation_is_found_wherever_it_is(tmp_path: Path) -> None:
    data = tar(*jets(3))
    n_used = 12 * 512
    path = tmp_path / "a"
    for size in (*range(1, n_used, 97), *range(512, n_used + 1024, 512)):
        path.write_bytes(data[:size])
        with pytest.raises(ImporterError):
            read_all(open_source(path, TWO))
    path.write_bytes(data[: n_used + 1024])
    assert len(read_all(open_source(path, TWO))[0]) == 3
    path.write_bytes(data + data)
    with pytest.raises(ImporterError, match="bytes after the end"):
        read_all(open_source(path, TWO))


def test_hostile_extended_headers(tmp_path: Path) -> None:
    for records in (b"99 path=x\n", b"-1 a=b\n", b"9 path=", b"xx", b"0 a=b\n", b"15 size=99999\n"):
        info = tarfile.TarInfo("pax")
        info.type, info.size = tarfile.XHDTYPE, len(records)
        padded = records + bytes(-len(records) % 512)
        data = info.tobuf(tarfile.USTAR_FORMAT) + padded + tar(*jets(1))
        with pytest.raises(ImporterError):
            open_source(write(tmp_path / "a", data), TWO)
    info.size = 1 << 30
    with pytest.raises(ImporterError, match="header of 1073741824 bytes"):
        open_source(write(tmp_path / "a", info.tobuf(tarfile.USTAR_FORMAT) + bytes(999)), TWO)
