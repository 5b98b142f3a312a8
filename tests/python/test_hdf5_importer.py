from __future__ import annotations

import itertools
import random
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.errors import ConfigError, E2eioError, ImporterError
from e2eio.importers import ImportOptions, open_source
from e2eio.importers.arrays import blocks, hdf5
from e2eio.importers.arrays.hdf5 import Hdf5Source
from importer_toys import (
    READ_ALL,
    TWO,
    Truth,
    read_all,
    read_file,
    run_measured,
    same_bits,
    sparse_images,
    write_hdf5,
)

PUBLISHED: dict[str, tuple[int, Callable[[NDArray[Any]], NDArray[Any]], dict[str, str]]] = {
    "Dataset_Specific_labelled.h5": (8, lambda x: x, {"Y": "y", "m0": "m0", "pt": "pt"}),
    "quark-gluon_data-set_n64.hdf5": (
        64,
        lambda x: x[:, [0, 3, 4]],
        {"y": "y", "m0": "m0", "pt": "pt"},
    ),
    "tau_13ch.h5": (32, lambda x: np.concatenate([x, x[:, :5]], axis=1), {"am": "m0"}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_equal_their_truth(
    published: Path, truth_x1: Truth, tmp_path: Path, name: str
) -> None:
    n, part, scalars = PUBLISHED[name]
    truth = part(truth_x1["X"][:n])
    source = open_source(published / name)
    images, columns = read_all(source)
    assert same_bits(images, truth)
    for column, field in scalars.items():
        assert same_bits(columns[column], truth_x1[field][:n]), column
    source.close()
    e2eio.convert(published / name, tmp_path / "out", processes=1, progress=False)
    dataset = e2eio.Dataset(tmp_path / "out")
    assert len(dataset) == n
    assert all(same_bits(dataset[row][dataset.schema.image.name], truth[row]) for row in range(n))
    for column, field in scalars.items():
        assert same_bits(dataset.scalars(column), truth_x1[field][:n])


@pytest.mark.parametrize("kind", ["Electron", "Photon"])
def test_electron_and_photon(published: Path, tmp_path: Path, kind: str) -> None:
    path = published / f"Single{kind}Pt50_IMGCROPS_n256_RHv1.hdf5"
    with h5py.File(path, locking=False) as file:  # h5py's own reading is the truth here
        truth, labels = file["X"][:].transpose(0, 3, 1, 2), file["y"][:]
    e2eio.convert(path, tmp_path / "out", processes=1, progress=False)
    dataset = e2eio.Dataset(tmp_path / "out")
    assert dataset.channels == ("ecal_energy", "ecal_time")
    assert dataset.schema.image.shape == (2, 32, 32)
    assert all(same_bits(dataset[row]["X"], truth[row]) for row in range(256))
    assert np.array_equal(dataset.scalars("y"), labels)
    assert {*labels} == {float(kind == "Electron")}


CHUNKS: list[tuple[int, ...] | None] = [
    None,
    (1, 2, 15, 16),
    (4, 2, 15, 16),
    (3, 1, 8, 7),
    (23, 2, 15, 16),
]
CODINGS: list[dict[str, Any]] = [
    {},
    {"compression": "gzip"},
    {"compression": "gzip", "shuffle": True},
    {"compression": "lzf"},
    {"compression": "lzf", "shuffle": True},
    {"compression": "gzip", "fletcher32": True},
    {"shuffle": True},
]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", ">f2"])
def test_every_layout_and_compression(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "_INFLATED_BYTES", 0)  # small chunks too go the way of large ones
    monkeypatch.setattr(blocks, "_CHUNK_BYTES", 4 * 2 * 15 * 16 * 8)  # several blocks
    monkeypatch.setattr(blocks, "_PLAIN_BYTES", 4 * 2 * 15 * 16 * 8)
    monkeypatch.setattr(blocks, "_COLUMN_ROWS", 6)
    truth = sparse_images(23, dtype)
    wanted = truth.astype("f8" if truth.itemsize == 8 else "f4")
    labels = np.arange(23)
    for number, (chunks, coding) in enumerate(itertools.product(CHUNKS, CODINGS)):
        if coding and chunks is None:
            continue
        path = write_hdf5(
            tmp_path / f"{number}", {"X": truth, "y": labels}, chunks=chunks, **coding
        )
        source = open_source(path, TWO)
        for begin, end in ((0, 23), (5, 18), (22, 23)):
            images, scalars = read_all(source, begin, end)
            assert same_bits(images, wanted[begin:end]), (chunks, coding, begin)
            assert scalars["y"].tolist() == labels[begin:end].tolist()
        source.close()


@pytest.mark.parametrize("n_threads", [1, 3])
def test_threads_do_not_change_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_threads: int
) -> None:
    for module in (blocks, hdf5):
        monkeypatch.setattr(module, "reading_threads", lambda: n_threads)
    monkeypatch.setattr(hdf5, "_INFLATED_BYTES", 0)
    monkeypatch.setattr(blocks, "_CHUNK_BYTES", 40 * 2 * 15 * 16 * 4)
    truth = sparse_images(200)
    path = write_hdf5(tmp_path / "a", {"X": truth}, chunks=(5, 1, 8, 16), compression="gzip")
    for _ in range(5):
        assert same_bits(read_file(path), truth)


def test_bits_survive_inflation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "_INFLATED_BYTES", 0)
    truth = np.random.default_rng(0).integers(0, 2**32, (9, 2, 15, 16), np.uint32).view(np.float32)
    for coding in CODINGS[1:]:
        path = write_hdf5(tmp_path / "a", {"X": truth}, chunks=(4, 2, 15, 16), **coding)
        assert same_bits(read_file(path), truth)


def test_a_filter_that_was_left_out_of_a_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "_INFLATED_BYTES", 0)
    truth = sparse_images(6)
    path = tmp_path / "a"
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "X", truth.shape, "f4", chunks=(2, 2, 15, 16), compression="gzip", shuffle=True
        )
        data[:] = truth
        data.id.write_direct_chunk((2, 0, 0, 0), truth[2:4].tobytes(), filter_mask=3)
        data.id.write_direct_chunk((4, 0, 0, 0), zlib.compress(truth[4:].tobytes()), filter_mask=1)
    assert same_bits(read_file(path), truth)


def test_layouts(tmp_path: Path) -> None:
    truth = sparse_images(3)
    last = write_hdf5(tmp_path / "a", {"X": truth.transpose(0, 2, 3, 1)})
    flat = write_hdf5(tmp_path / "b", {"X_jets": truth.transpose(0, 2, 3, 1).reshape(3, -1)})
    single = write_hdf5(tmp_path / "c", {"image": truth[:, 0]})
    assert same_bits(read_file(last), truth)
    shape = ImportOptions(shape=(2, 15, 16), channels=("a", "b"))
    assert same_bits(read_file(flat, shape), truth)
    assert same_bits(read_file(single, ImportOptions(channels=("a",))), truth[:, :1])


def test_user_block(tmp_path: Path) -> None:
    truth = sparse_images(3)
    for size in (512, 1024, 4096):
        path = tmp_path / f"{size}"
        with h5py.File(path, "w", userblock_size=size) as file:
            file["X"] = truth
            file.create_dataset("other_jet", data=truth, chunks=(1, 2, 15, 16), compression="gzip")
        for name in ("X", "other_jet"):
            assert same_bits(read_file(path, ImportOptions(image=name, channels=("a", "b"))), truth)


def test_groups_and_links(tmp_path: Path) -> None:
    truth = sparse_images(4)
    with h5py.File(tmp_path / "a", "w") as file:
        for part in ("train", "test"):
            file[f"{part}/X"] = truth if part == "train" else -truth
            file[f"{part}/y"] = np.full(4, part == "test", np.int64)
        file["run"] = np.arange(4)
        file["train/loop"] = file["train"]
        file["test/soft"] = h5py.SoftLink("/test/y")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/X")
    with pytest.raises(ConfigError, match=r"several .*train/X .*pass image"):
        open_source(tmp_path / "a", TWO)
    source = open_source(tmp_path / "a", ImportOptions(image="/test/X", channels=("a", "b")))
    images, scalars = read_all(source)
    assert same_bits(images, -truth)
    assert scalars["y"].tolist() == scalars["soft"].tolist() == [1] * 4
    assert scalars["run"].tolist() == [0, 1, 2, 3]
    assert source.schema.image.name == "X"
    skipped = " ".join(source.skipped)
    assert "dangling (a link to nothing)" in skipped
    assert "elsewhere (a link to other.h5)" in skipped
    source.close()


def meta_file(path: Path, n_channels: int, table: NDArray[Any]) -> Path:
    images = np.zeros((len(table), 125, 125, n_channels), np.float32)
    coding = {"chunks": (1, 125, 125, n_channels), "compression": "gzip"}
    return write_hdf5(
        path, {"train_jet": images, "train_meta": table, "test_meta": table + 9}, **coding
    )


def scalars_of(path: Path, **options: Any) -> dict[str, list[float]]:
    source = open_source(path, ImportOptions(image="train_jet", **options))
    scalars = read_all(source)[1]
    source.close()
    return {name: values.tolist() for name, values in scalars.items()}


def test_labels_in_tables(tmp_path: Path) -> None:
    table = np.array([[1.0, 400.0, 0.5], [0.0, 500.0, 0.25]], np.float32)
    top = meta_file(tmp_path / "top", 8, table)
    gluon = meta_file(tmp_path / "gluon", 3, table[:, ::-1])
    assert scalars_of(top) == {"y": [1, 0], "meta_1": [400, 500], "meta_2": [0.5, 0.25]}
    assert scalars_of(gluon) == {"meta_0": [0.5, 0.25], "meta_1": [400, 500], "y": [1, 0]}
    named = scalars_of(top, meta=("y", "pt", "-"))
    assert named == {"y": [1, 0], "pt": [400, 500]}
    with pytest.raises(ConfigError, match="mend meta"):
        scalars_of(top, meta=("y", "pt"))
    channels = tuple(f"c{index}" for index in range(8))
    with pytest.raises(ConfigError, match=r"train_meta .*pass meta"):
        scalars_of(top, channels=channels)
    assert scalars_of(top, channels=channels, meta=("-", "-", "z")) == {"z": [0.5, 0.25]}
    e2eio.convert(
        top, tmp_path / "out", image="train_jet", meta=("a", "-", "b"), processes=1, progress=False
    )
    assert e2eio.Dataset(tmp_path / "out").schema.field_names == ("train_jet", "a", "b")
    one = meta_file(tmp_path / "one", 13, table[:, :1])
    assert scalars_of(one) == {"y": [1, 0]}


def test_arrays_stacked_to_channels(tmp_path: Path) -> None:
    truth = sparse_images(5, "f8")
    arrays = {
        "jetImage": truth.sum(axis=1),
        "jetImageECAL": truth[:, 0],
        "jetImageHCAL": truth[:, 1],
        "jets": np.ones((5, 59)),
    }
    path = write_hdf5(tmp_path / "a", arrays)
    with pytest.raises(ConfigError, match="stacked"):
        open_source(path)
    options = ImportOptions(image="jetImageECAL,jetImageHCAL", channels=("ecal", "hcal"))
    source = open_source(path, options)
    assert same_bits(read_all(source)[0], truth)
    assert source.schema.image.name == "jetImage"
    assert len(source.skipped) == 2
    source.close()


def test_scalars_keep_their_dtype_and_others_are_reported(tmp_path: Path) -> None:
    kept = {
        "flag": np.array([True, False, True]),
        "u64": np.array([1, 2, 2**64 - 1], np.uint64),
        "big": np.array([1, -2, 3], ">i4"),
        "half": np.array([0.5, 1, 2], "f2"),
        "nan": np.array([0x7FF8000000001234, 0, 0], np.uint64).view("f8"),
        "pt": np.array([[1.0], [2.0], [3.0]]),
    }
    left = {
        "names": [b"a", b"b", b"c"],
        "pair": np.ones((3, 2)),
        "edges": np.arange(10.0),
        "number": 3.0,
        "record": np.zeros(3, [("a", "i4"), ("b", "f4")]),
        "nothing": h5py.Empty("f4"),
        "complex": np.ones(3, "c8"),
    }
    source = open_source(write_hdf5(tmp_path / "a", {"X": sparse_images(3), **kept, **left}), TWO)
    scalars = read_all(source)[1]
    assert {name: str(values.dtype) for name, values in scalars.items()} == {
        "flag": "bool",
        "u64": "uint64",
        "big": "int32",
        "half": "float32",
        "nan": "float64",
        "pt": "float64",
    }
    assert scalars["big"].tolist() == [1, -2, 3]
    assert scalars["nan"].view(np.uint64)[0] == 0x7FF8000000001234
    assert {text.split()[0] for text in source.skipped} == {*left}
    source.close()


def test_file_that_the_program_has_open(tmp_path: Path) -> None:
    truth = sparse_images(2)
    path = write_hdf5(tmp_path / "a", {"X": truth})
    with h5py.File(path, "r"):
        assert same_bits(read_file(path), truth)


def test_file_locked_by_another_process(tmp_path: Path) -> None:
    truth = sparse_images(2)
    path = write_hdf5(tmp_path / "a", {"X": truth})
    program = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert same_bits(read_file(path), truth)
        holder.communicate(b"\n")


def test_fingerprint_tells_files_apart(tmp_path: Path) -> None:
    prints: list[bytes] = []
    for number in (1, 1, 2):
        path = write_hdf5(
            tmp_path / f"{len(prints)}", {"X": sparse_images(4) * number}, track_times=False
        )
        source = open_source(path, TWO)
        prints.append(source.fingerprint)
        source.close()
    assert prints[0] == prints[1] != prints[2]


def external(path: Path) -> None:
    with h5py.File(path, "w") as file:
        external_file = [(str(path) + ".raw", 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("X", (2, 2, 15, 16), "f4", external=external_file)


def virtual(path: Path) -> None:
    layout = h5py.VirtualLayout((2, 2, 15, 16), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "X", (2, 2, 15, 16))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("X", layout)


def linked(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["X"] = h5py.ExternalLink("other.h5", "/X")


def linked_softly(path: Path) -> None:
    write_hdf5(path.with_suffix(".other"), {"X": sparse_images(2)})
    with h5py.File(path, "w") as file:
        file["out"] = h5py.ExternalLink(str(path.with_suffix(".other")), "/")
        file["X"] = h5py.SoftLink("/out/X")


def never_written(shape: tuple[int, ...], chunks: Any, **options: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("X", shape, "f4", chunks=chunks, **options)

    return make


def half_written(path: Path) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("X", (8, 2, 15, 16), "f4", chunks=(2, 2, 15, 16))
        data[:4] = 1


def bomb(path: Path) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "X", (8, 2, 60, 64), "f4", chunks=(8, 2, 60, 64), compression="gzip"
        )
        data.id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(100_000_000)))


def short_chunk(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            data = file.create_dataset(
                "X", (8, 2, 60, 64), "f4", chunks=(8, 2, 60, 64), compression="gzip"
            )
            data.id.write_direct_chunk((0, 0, 0, 0), content)

    return make


def impossible_chunk(path: Path) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "X", (8, 2, 500, 500), "f4", chunks=(8, 2, 500, 500), compression="gzip"
        )
        data.id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(1000)))


def huge_chunk(path: Path) -> None:
    shape = (2400, 2, 250, 250)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("X", shape, "f4", chunks=shape, compression="gzip")
        data.id.write_direct_chunk((0, 0, 0, 0), bytes(3_000_000))


def arrays(**values: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write_hdf5(path, values)

    return make


def truncated(path: Path) -> None:
    write_hdf5(path, {"X": sparse_images(4)})
    path.write_bytes(path.read_bytes()[:-100])


def half(path: Path) -> None:
    write_hdf5(path, {"X": sparse_images(4)})
    path.write_bytes(path.read_bytes()[:1500])


def signature_alone(path: Path) -> None:
    path.write_bytes(b"\x89HDF\r\n\x1a\n")


GOOD = zlib.compress(bytes(8 * 2 * 60 * 64 * 4))
MALFORMED: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncated, "truncated HDF5 file"),
    "half": (half, "(truncated|damaged) HDF5 file"),
    "signature alone": (signature_alone, "damaged HDF5 file"),
    "external storage": (external, "other files"),
    "virtual dataset": (virtual, "a virtual dataset"),
    "external link": (linked, r"a link to other\.h5"),
    "soft link through an external one": (linked_softly, "a link to another file"),
    "never written, 2^40 images": (never_written((2**40, 2, 125, 125), (1, 2, 125, 125)), "0 of"),
    "never written, contiguous": (never_written((10**6, 2, 125, 125), None), "no data"),
    "half written": (half_written, "2 of 4 chunks"),
    "chunk that inflates to more": (bomb, "more than 245760 inflated bytes"),
    "chunk that inflates to less": (short_chunk(zlib.compress(bytes(245_759))), "245759 inflated"),
    "chunk cut off": (short_chunk(GOOD[:-2]), "no end of the deflated"),
    "chunk with a wrong checksum": (short_chunk(GOOD[:-1] + b"\0"), "incorrect data check"),
    "chunk of noise": (short_chunk(b"noise" * 100), "incorrect header check"),
    "fewer bytes than can inflate": (impossible_chunk, "expected more"),
    "chunks too large": (huge_chunk, "chunks too large"),
    "no samples": (arrays(X=np.zeros((0, 2, 3, 4), "f4")), "no samples"),
    "integers": (arrays(X=np.zeros((2, 2, 3, 4), "i4"), y=[0, 1]), r"int32.*the file has X .*, y "),
    "strings": (arrays(X=[b"a", b"b"]), "wrong dtype of images"),
    "compound": (arrays(X=np.zeros((2, 2, 3, 4), [("a", "f4")])), "wrong dtype of images"),
    "scalar": (arrays(X=np.float32(1)), "wrong rank of images"),
    "five dimensions": (arrays(X=np.zeros((2, 2, 2, 3, 4), "f4")), "wrong rank of images"),
    "no images": (arrays(y=[0, 1], z=np.zeros((2, 3))), r"found y \(int64 \[2\]\), z "),
    "empty": (arrays(), "found no arrays"),
    "labels too short": (arrays(X=sparse_images(3), y=[0, 1]), "numbers of samples differ"),
    "labels one-hot": (arrays(X=sparse_images(2), y=np.eye(2)), "wrong labels"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "_INFLATED_BYTES", 0)
    make, message = MALFORMED[case]
    path = tmp_path / "bad.h5"
    make(path)
    with pytest.raises(ImporterError, match=message) as caught:
        read_file(path)
    assert "bad.h5" in str(caught.value)
    assert caught.value.path == str(path)


def test_filter_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 2, 15, 16))
        plist.set_filter(32004, h5py.h5z.FLAG_OPTIONAL, (0,))
        space = h5py.h5s.create_simple((1, 2, 15, 16))
        data = h5py.h5d.create(file.id, b"X", h5py.h5t.IEEE_F32LE, space, plist)
        data.write_direct_chunk((0, 0, 0, 0), bytes(100))
    with pytest.raises(ImporterError, match="filter 32004"):
        open_source(path, TWO)


@pytest.mark.parametrize("swmr", [False, True])
def test_file_being_written(tmp_path: Path, swmr: bool) -> None:
    program = textwrap.dedent("""
        import h5py, numpy, os, sys
        file = h5py.File(sys.argv[1], "w", libver="latest")
        file["X"] = numpy.ones((2, 2, 15, 16), "f4")
        file.flush()
        if len(sys.argv) > 2:
            file.swmr_mode = True
        os._exit(0)  # a writer that dies
    """)
    path = tmp_path / "a"
    command = [sys.executable, "-c", program, str(path), *(["swmr"] if swmr else [])]
    subprocess.run(command, check=True)
    with pytest.raises(ImporterError, match="being written"):
        open_source(path, TWO)


# Reads damaged copies of a file; what it must not do is to crash, or to say anything that is neither
# an error of this package nor the data. Bits that nobody covers with a checksum may come out wrong:
# `covered` files have one over every pixel.
FLIPS = """
import random, sys
import numpy as np
from e2eio.errors import E2eioError
from e2eio.importers import ImportOptions, open_source
from e2eio.importers.arrays import hdf5
hdf5._INFLATED_BYTES = 0
path, seed, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
data = open(path, "rb").read()
draw = random.Random(seed)
errors = 0
for number in range(n):
    damaged = bytearray(data)
    for _ in range(draw.choice((1, 1, 4))):
        # Most of what libhdf5 believes stands at the beginning.
        damaged[draw.randrange(draw.choice((len(data), 2200)))] ^= 1 << draw.randrange(8)
    with open(path + ".bad", "wb") as file:
        file.write(damaged)
    print(number, flush=True)
    source = None
    try:
        source = open_source(path + ".bad", ImportOptions(channels=("a", "b")))
        total = 0
        for images, scalars in source.chunks(0, min(source.n_samples, 1000)):
            total += len(images)
        assert total == min(source.n_samples, 1000)
    except E2eioError:
        errors += 1
    finally:
        if source is not None:
            source.close()  # or libhdf5 takes the next file for this one
print("errors", errors)
"""


@pytest.mark.parametrize("coding", ["gzip", "lzf", "none"])
def test_flipped_bits_give_data_or_an_error(tmp_path: Path, coding: str) -> None:
    options = {} if coding == "none" else {"chunks": (3, 1, 15, 16), "compression": coding}
    path = write_hdf5(tmp_path / "a", {"X": sparse_images(7), "y": np.arange(7)}, **options)
    command = [sys.executable, "-c", FLIPS, str(path), "1", "150"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    # libhdf5 itself may crash on some bytes: conversions read in a child process for that reason.
    assert done.returncode <= 0, done.stderr[-2000:]
    if done.returncode == 0:
        assert int(done.stdout.split()[-1]) > 10


def test_flipped_bits_in_deflated_chunks_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "_INFLATED_BYTES", 0)
    truth = sparse_images(8)
    path = write_hdf5(tmp_path / "a", {"X": truth}, chunks=(2, 2, 15, 16), compression="gzip")
    data = path.read_bytes()
    with h5py.File(path) as file:
        spans = [file["X"].id.get_chunk_info(number) for number in range(4)]
    draw = random.Random(3)
    for span in spans:
        for _ in range(20):
            damaged = bytearray(data)
            damaged[span.byte_offset + draw.randrange(span.size)] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
            source = Hdf5Source(str(path), TWO)
            try:
                assert same_bits(read_all(source)[0], truth)
            except E2eioError as error:
                assert "/X, samples 0 to 7" in str(error)  # noqa: PT017
            finally:
                source.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "X_jets", (640, 125, 125, 8), "f4", chunks=(32, 125, 125, 8), compression="gzip"
        )
        packed = zlib.compress(bytes(32 * 125 * 125 * 8 * 4))
        for row in range(0, 640, 32):  # 320 MB decoded
            data.id.write_direct_chunk((row, 0, 0, 0), packed)
    n, grown_mib = map(int, run_measured(READ_ALL, path).split())
    assert n == 640
    assert grown_mib < 200, grown_mib
