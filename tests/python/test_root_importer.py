from __future__ import annotations

import lzma
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from numpy.typing import NDArray

import e2eio
from e2eio.errors import ConfigError, E2eioError, ImporterError, ShardNotFoundError
from e2eio.importers import ImportOptions, JetRecipe, open_source
from importer_toys import SMALL, read_all, run_measured, small_images
from root_toys import COMPRESSIONS, add, ak, as_column, uproot, write

FORMS = [
    *(("tree", form) for form in ("flat fixed", "flat lists", "nested fixed")),
    *(("ntuple", f) for f in ("flat fixed", "flat lists", "nested fixed", "nested lists")),
]  # uproot writes no vectors of vectors into trees


@pytest.mark.parametrize(("kind", "form"), FORMS)
@pytest.mark.parametrize("order", ["CHW", "HWC"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_images_of_every_form(tmp_path: Path, kind: str, order: str, form: str, dtype: str) -> None:
    truth = small_images(7, dtype)
    rows = truth if order == "CHW" else truth.transpose(0, 2, 3, 1)
    columns = {"X": as_column(np.ascontiguousarray(rows), form), "y": np.arange(7)}
    path = write(tmp_path / "a", columns, kind, step=3)
    options = ImportOptions(shape=(2, 3, 4), channels=("a", "b"), layout=order)  # type: ignore[arg-type]
    source = open_source(path, options)
    assert source.cuts.tolist() == [0, 3, 6, 7]
    for begin, end in ((0, 7), (2, 5), (6, 7)):
        images, scalars = read_all(source, begin, end)
        assert np.array_equal(images, truth[begin:end])
        assert scalars["y"].tolist() == list(range(begin, end))
    if form != "nested lists":
        assert images.dtype == truth.dtype  # uproot makes doubles of a list of Python's numbers
    assert set(scalars) == {"y"}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", ["tree", "ntuple"])
def test_every_compression_keeps_every_bit(tmp_path: Path, compression: str, kind: str) -> None:
    truth = np.zeros((5, 2, 3, 4), "f4")
    truth.view(np.uint32)[1, 1, 2] = (0x80000000, 1, 0x7FC01234, 0xFF800000)
    path = write(tmp_path / "a", {"X": truth}, kind, compression=COMPRESSIONS[compression])
    images, _ = read_all(open_source(path, SMALL))
    assert np.array_equal(np.ascontiguousarray(images).view("u4"), truth.view("u4"))


@pytest.mark.parametrize("kind", ["tree", "ntuple"])
def test_scalars_keep_their_dtype_and_others_are_reported(tmp_path: Path, kind: str) -> None:
    kept = {
        "flag": np.array([True, False, True]),
        "i1": np.array([1, -2, 3], np.int8),
        "u8": np.array([1, 2, 2**64 - 1], np.uint64),
        "f8": np.array([0.1, 0.2, np.nan]),
    }
    columns = {"X": small_images(3), **kept, "list": ak.Array([[1.0], [2.0, 3.0], []])}
    source = open_source(write(tmp_path / "a", columns, kind), SMALL)
    _, scalars = read_all(source)
    for name, values in kept.items():
        assert scalars[name].dtype == values.dtype
        assert np.array_equal(scalars[name], values, equal_nan=name == "f8")
    assert [text.split()[0] for text in source.skipped] == ["list"]


def test_published_shapes_are_recognised(tmp_path: Path) -> None:
    images = np.zeros((2, 8 * 125 * 125), "f4")
    source = open_source(write(tmp_path / "a", {"X_jets": images, "m0": np.zeros(2)}))
    assert source.schema.image.shape == (8, 125, 125)
    assert source.schema.channels[:3] == ("track_pt", "d0", "dz")


def test_a_basket_larger_than_a_chunk_comes_in_pieces(tmp_path: Path) -> None:
    images = np.zeros((100, 8, 125, 125), "f4")
    images[:, 0, 0, 0] = np.arange(100)
    path = write(tmp_path / "a", {"X_jets": images}, compression=COMPRESSIONS["ZSTD"])
    chunks = [images for images, _ in open_source(path).chunks(3, 100)]
    assert max(map(len, chunks)) * 500_000 <= 33 << 20
    assert np.concatenate([chunk[:, 0, 0, 0] for chunk in chunks]).tolist() == list(range(3, 100))


# --- which tree, which column ---


def several(path: Path) -> Path:
    with uproot.recreate(path) as file:
        add(file, {"run": np.arange(2)}, "tree", "Runs", 9)
        add(file, {"X": small_images(2), "y": np.arange(2)}, "tree", "dir/one", 9)
        add(file, {"X_jet": small_images(3)}, "ntuple", "two", 9)
    return path


def test_the_tree_is_chosen_by_name_or_by_the_image(tmp_path: Path) -> None:
    path = several(tmp_path / "a")
    with pytest.raises(ConfigError, match=r"several tree.*Runs, dir/one, two.*pass tree"):
        open_source(path, SMALL)
    given = {"shape": (2, 3, 4), "channels": ("a", "b")}
    for name in ("dir/one", "one"):
        assert open_source(path, ImportOptions(tree=name, **given)).n_samples == 2  # type: ignore[arg-type]
    assert open_source(path, ImportOptions(image="X_jet", **given)).n_samples == 3  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no such tree"):
        open_source(path, ImportOptions(tree="three", **given))  # type: ignore[arg-type]


def test_events_come_before_other_trees(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with uproot.recreate(path) as file:
        add(file, {"X": small_images(1)}, "tree", "Runs", 9)
        add(file, {"X": small_images(4)}, "tree", "Events", 9)
    assert open_source(path, SMALL).n_samples == 4


def test_two_image_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a", {"X": small_images(1), "jet": small_images(1)})
    with pytest.raises(ConfigError, match="pass image"):
        open_source(path, SMALL)


# --- malformed: what, and the error it gives ---


def empty_file(path: Path) -> None:
    with uproot.recreate(path):
        pass


def ragged(path: Path) -> None:
    rows = [row.ravel().tolist() for row in small_images(6)]
    rows[4] = rows[4][:-1]
    write(path, {"X": ak.Array(rows)}, step=2)


def ragged_nested(path: Path) -> None:
    rows = small_images(6).tolist()
    rows[4][1][2] = rows[4][1][2][:3]
    write(path, {"X": ak.Array(rows)}, "ntuple", step=2)


MALFORMED: dict[str, tuple[Any, type[E2eioError], str]] = {
    "no tree": (empty_file, ImporterError, "no tree"),
    "no image column": (
        lambda p: write(p, {"y": np.arange(3)}),
        ImporterError,
        r"no image column.*columns y.*PFCands_pt",
    ),
    "images of integers": (
        lambda p: write(p, {"X": np.zeros((2, 24), "i4")}),
        ImporterError,
        r"wrong type of image column 'X'.*found int32_t\[24\]",
    ),
    "two levels": (
        lambda p: write(p, {"X": np.zeros((2, 4, 6), "f4")}),
        ImporterError,
        "wrong type of image column",
    ),
    "image of one number": (
        lambda p: write(p, {"X": np.zeros(2)}),
        ImporterError,
        "wrong type of image column",
    ),
    "empty tree": (
        lambda p: write(p, {"X": small_images(0)}),
        ImporterError,
        "no samples.*empty tree",
    ),
    "empty lists": (
        lambda p: write(p, {"X": ak.values_astype(ak.Array([[], []]), "float32")}),
        ImporterError,
        "no image",
    ),
    "lists of different lengths": (ragged, ImporterError, "ragged.*entry 4.*23, expected 24"),
    "nested lists of different lengths": (ragged_nested, ImporterError, "ragged.*entry 4"),
    "text": (lambda p: p.write_bytes(b"root" + b"\n" * 99), ImporterError, "root|ROOT"),
    "header alone": (lambda p: p.write_bytes(b"root"), ImporterError, "truncated ROOT file"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(tmp_path: Path, case: str) -> None:
    make, error, message = MALFORMED[case]
    path = tmp_path / "a.root"
    make(path)
    with pytest.raises(error, match=message) as caught:
        read_all(open_source(path, SMALL))
    assert str(path) in str(caught.value)


def test_an_image_column_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a", {"X": small_images(1), "y": np.arange(1)})
    with pytest.raises(ConfigError, match="columns X, y, expected 'Z'"):
        open_source(path, ImportOptions(image="Z"))
    with pytest.raises(ShardNotFoundError):
        open_source(tmp_path / "b")


def test_a_range_that_is_not_there(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "a", {"X": small_images(2)}), SMALL)
    with pytest.raises(ConfigError, match="range"):
        next(source.chunks(0, 3))


def outcome(path: Path, options: ImportOptions) -> str:
    """Return the error's name, or "data"; anything but this package's errors is raised."""
    try:
        source = open_source(path, options)
        try:
            for begin in range(0, source.n_samples, 1 << 16):
                list(source.chunks(begin, min(source.n_samples, begin + (1 << 16))))
                if begin:
                    break
        finally:
            source.close()
    except E2eioError as error:
        assert str(path) in str(error)  # noqa: PT017 - data is fine too
        return type(error).__name__
    return "data"


@pytest.mark.parametrize("kind", ["tree", "ntuple"])
def test_truncated_anywhere(tmp_path: Path, kind: str) -> None:
    data = write(tmp_path / "a", {"X": small_images(20)}, kind, step=7).read_bytes()
    path = tmp_path / "b"
    for size in {*range(5, len(data), len(data) // 40), len(data) - 1}:
        path.write_bytes(data[:size])
        with pytest.raises(ImporterError, match="truncated"):
            open_source(path, SMALL)


@pytest.mark.parametrize("compression", ["none", "ZSTD", "ZLIB"])
@pytest.mark.parametrize("kind", ["tree", "ntuple"])
def test_flipped_bytes_give_data_or_an_error(tmp_path: Path, kind: str, compression: str) -> None:
    columns = {"X": as_column(small_images(20), "flat lists"), "y": np.arange(20)}
    data = write(
        tmp_path / "a", columns, kind, step=7, compression=COMPRESSIONS[compression]
    ).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "b"
    seen = set()
    for _ in range(80):
        damaged = bytearray(data)
        for at in rng.integers(4, len(data), rng.integers(1, 4)):
            damaged[at] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        seen.add(outcome(path, SMALL))
    assert len(seen) > 1


# --- hostile sizes ---


READING = """
from e2eio.errors import ImporterError
from e2eio.importers import ImportOptions, open_source
source = open_source(sys.argv[1], ImportOptions(shape=(1, 1000, 1000), channels=("a",)))
before = peak()
try:
    list(source.chunks(0, 1))
except ImporterError as error:
    print(peak() - before, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["ZLIB", "ZSTD", "LZMA"])
def test_a_block_that_inflates_to_more_than_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    honest = COMPRESSIONS[name]
    zeros = bytes(200 << 20)
    squeezed = {
        "ZLIB": lambda: zlib.compress(zeros, 1),
        "ZSTD": lambda: zstandard.ZstdCompressor().compress(zeros),
        "LZMA": lambda: lzma.compress(zeros[: 100 << 20], preset=0),
    }[name]()
    path = tmp_path / "a"
    with uproot.recreate(path, compression=None) as file:
        tree = file.mktree("Events", {"X": np.dtype(("f4", (1_000_000,)))})
        tree.extend({"X": np.zeros((1, 1_000_000), "f4")})  # the first image tells the shape
        monkeypatch.setattr(type(honest), "compress", lambda self, data: squeezed)
        tree.compression = honest
        tree.extend({"X": np.zeros((1, 1_000_000), "f4")})
    program = READING.replace("chunks(0, 1)", "chunks(1, 2)")
    grown, _, message = run_measured(program, path).partition(" ")
    assert "damaged ROOT file" in message
    assert int(grown) < 60


def test_a_file_that_states_more_entries_than_it_can_hold(tmp_path: Path) -> None:
    path = write(tmp_path / "a", {"X": small_images(3)}, step=3)
    data = bytearray(path.read_bytes())
    n_entries = struct.pack(">q", 3)
    at = data.find(n_entries, data.find(b"TTree"))
    found = 0
    while at >= 0:
        damaged = data.copy()
        damaged[at : at + 8] = struct.pack(">q", 1 << 55)
        path.write_bytes(damaged)
        found += outcome(path, SMALL) != "data"
        at = data.find(n_entries, at + 1)
    assert found


# --- hits of the whole detector ---


def hits(n: int, seed: int = 0) -> dict[str, Any]:
    """Return the columns of an E2E ntuple; pixels are few, so that files are small."""
    rng = np.random.default_rng(seed)

    def plane(shape: tuple[int, int], dtype: str = "f4") -> Any:
        images = np.zeros((n, *shape), dtype)
        for image in images:
            image[rng.integers(0, shape[0], 900), rng.integers(0, shape[1], 900)] = rng.random(900)
        return ak.from_regular(ak.Array(images.reshape(n, -1)), axis=1)

    names = ["ECAL_energy", *(f"ECAL_tracks{w}_atECALfixIP" for w in ("Pt", "D0", "Dz"))]
    names += [f"BPIX_layer{n}_ECAL_atPV" for n in (1, 2, 3)]
    columns: dict[str, Any] = {name: plane((280, 360)) for name in names}
    columns["HBHE_energy"] = plane((56, 72))
    columns["ECAL_tracksPt_atECAL"] = plane((280, 360))
    columns["eventId"] = np.arange(n, dtype=np.int64)
    return columns


def with_seeds(columns: dict[str, Any]) -> dict[str, Any]:
    n = len(columns["eventId"])
    seeds = [[(20, 3), (43, 70)], [], [(11, 5), (12, 36)]][:n]
    return {
        **columns,
        "jetSeed_ieta": ak.values_astype(ak.Array([[s[0] for s in e] for e in seeds]), "int32"),
        "jetSeed_iphi": ak.values_astype(ak.Array([[s[1] for s in e] for e in seeds]), "int32"),
        "jetPt": ak.values_astype(ak.Array([[500.0 + s[0] for s in e] for e in seeds]), "float32"),
        "jet_other": ak.values_astype(ak.Array([[1.0], [2.0], [3.0]][:n]), "float32"),
    }


CHANNELS = ("track_pt", "d0", "dz", "ecal", "hcal", "bpix1", "bpix2", "bpix3")
BRANCHES = (
    *(f"ECAL_tracks{w}_atECALfixIP" for w in ("Pt", "D0", "Dz")),
    *("ECAL_energy", "HBHE_energy"),
    *(f"BPIX_layer{n}_ECAL_atPV" for n in (1, 2, 3)),
)


def whole_event(columns: dict[str, Any], event: int, endcap: float | None) -> NDArray[np.float32]:
    """Return [8, 280, 360] of an event, slowly: pixel by pixel in the endcaps."""
    planes = [np.asarray(columns[name][event], "f4") for name in BRANCHES]
    planes[4] = np.kron(planes[4].reshape(56, 72), np.ones((5, 5), "f4")) / np.float32(25)
    image = np.stack([plane.reshape(280, 360) for plane in planes])
    if endcap is not None:
        ecal = image[3].copy()
        pairs = [(-1, 0), *((r, r + 1) for r in range(1, 55, 2))]
        pairs += [(r, r + 1) for r in range(225, 279, 2)] + [(279, 280)]
        for rows in pairs:
            there = [row for row in rows if 0 <= row < 280]
            for column in range(0, 360, 2):
                total = ecal[there, column : column + 2].sum(dtype="f4")
                image[3][there, column : column + 2] = total / np.float32(endcap)
    return image


def test_events_of_the_whole_detector(tmp_path: Path) -> None:
    columns = hits(3)
    source = open_source(write(tmp_path / "a", columns, name="fevt/RHTree", step=2))
    assert source.schema.channels == CHANNELS
    assert source.schema.image.shape == (8, 280, 360)
    assert source.cuts.tolist() == [0, 2, 3]
    images, scalars = read_all(source)
    assert scalars["eventId"].tolist() == [0, 1, 2]
    for event in range(3):
        assert np.allclose(images[event], whole_event(columns, event, 4), rtol=1e-6, atol=0)
    total = sum(np.sum(np.asarray(e), dtype=float) for e in columns["ECAL_energy"])
    # The last row and the first have no partner: an eighth of their pairs is shared with no pixel.
    assert images[:, 3, 1:-1].sum(dtype=float) == pytest.approx(total, rel=0.02)


@pytest.mark.parametrize(("endcap", "divisor"), [("kept", None), ("published", 16), ("shared", 4)])
def test_endcaps(tmp_path: Path, endcap: str, divisor: float | None) -> None:
    columns = hits(1)
    path = write(tmp_path / "a", columns)
    options = ImportOptions(recipe=f"endcap={endcap}")
    images, _ = read_all(open_source(path, options))
    assert np.allclose(images[0], whole_event(columns, 0, divisor), rtol=1e-6, atol=0)


def test_jets_of_the_whole_detector(tmp_path: Path) -> None:
    columns = with_seeds(hits(3))
    path = write(tmp_path / "a", columns, step=2)
    source = open_source(path)
    assert source.schema.image.shape == (8, 125, 125)
    assert source.cuts.tolist() == [0, 2, 3]
    images, scalars = read_all(source)
    assert scalars["jetPt"].tolist() == [520, 543, 512]
    assert scalars["eventId"].tolist() == [0, 0, 2]
    assert any(text.startswith("1 of 4 jets: |ieta|") for text in source.skipped)
    assert any(text.startswith("jet_other") for text in source.skipped)
    for number, (event, row, column) in enumerate([(0, 20, 3), (0, 43, 70), (2, 12, 36)]):
        whole = whole_event(columns, event, 4)
        rows = np.arange(5 * row + 2 - 62, 5 * row + 2 + 63)
        around = np.arange(5 * column + 2 - 62, 5 * column + 2 + 63) % 360
        truth = whole[:, rows][:, :, around]
        assert np.allclose(images[number], truth, rtol=1e-6, atol=0)
        assert read_all(source, number, number + 1)[1]["jetSeed_ieta"].tolist() == [row]
    events = open_source(path, ImportOptions(recipe="whole=true"))
    assert events.schema.image.shape == (8, 280, 360)


def test_hit_lists_are_named_in_the_recipe(tmp_path: Path) -> None:
    value = ak.values_astype(ak.Array([[1.0, 2.0, 4.0], [3.0]]), "float32")
    index = ak.values_astype(ak.Array([[0, 72 * 10 + 5, 0], [56 * 72 - 1]]), "int32")
    columns = {"n": np.arange(2), "towers": index, "energies": value}
    path = write(tmp_path / "a", columns)
    with pytest.raises(ImporterError, match="no image column"):
        open_source(path)
    images, _ = read_all(open_source(path, ImportOptions(recipe="hcal=towers:energies")))
    with pytest.raises(ConfigError, match=r"no such branch.*expected tower and energies"):
        open_source(path, ImportOptions(recipe="hcal=tower:energies"))
    assert images.shape == (2, 1, 280, 360)
    assert np.all(images[0, 0, :5, :5] == np.float32(5 / 25))
    assert np.all(images[0, 0, 50:55, 25:30] == np.float32(2 / 25))
    assert np.all(images[1, 0, -5:, -5:] == np.float32(3 / 25))
    assert images.sum(dtype=float) == pytest.approx(10, rel=1e-6)


def hit_case(change: Any) -> dict[str, Any]:
    columns = hits(1)
    change(columns)
    return columns


def without_the_chosen_projection(columns: dict[str, Any]) -> None:
    columns["ECAL_tracksPt"] = columns.pop("ECAL_tracksPt_atECALfixIP")


def short(columns: dict[str, Any]) -> None:
    columns["ECAL_energy"] = columns["ECAL_energy"][:, :-1]


def test_malformed_hits(tmp_path: Path) -> None:
    table: list[tuple[Any, type[E2eioError], str]] = [
        (without_the_chosen_projection, ConfigError, "several branches.*track_pt=BRANCH"),
        (short, ImporterError, "ragged image in column 'ECAL_energy'.*100799, expected 100800"),
        (
            lambda c: c.update(ECAL_energy=np.zeros(1, "f4")),
            ImporterError,
            "wrong type of column 'ECAL_energy'",
        ),
    ]
    for change, error, message in table:
        path = write(tmp_path / "a", hit_case(change))
        with pytest.raises(error, match=message):
            read_all(open_source(path))
    value = ak.values_astype(ak.Array([[1.0, 2.0]]), "float32")
    for index, message in (
        ([[0, 56 * 72]], "no such pixel.*found 4032"),
        ([[0, -1]], "no such pixel"),
        ([[0]], "hits differ in number"),
    ):
        numbers = ak.values_astype(ak.Array(index), "int32")
        path = write(tmp_path / "a", {"i": numbers, "e": value})
        options = ImportOptions(recipe="hcal=i:e")
        with pytest.raises(ImporterError, match=message):
            read_all(open_source(path, options))


def test_recipes_of_the_command_line() -> None:
    assert JetRecipe.from_text("resolution=3,whole=true,min_pt=400").min_pt == 400
    for text in ("resolution=2", "centre=middle", "whole=perhaps", "min_pt=-1", "ecal", "min_pt="):
        with pytest.raises(ConfigError, match="wrong recipe"):
            ImportOptions(recipe=text)
    assert JetRecipe() == JetRecipe.from_text("")


# --- to a dataset ---


def test_conversion(tmp_path: Path) -> None:
    truth = small_images(40)
    path = write(tmp_path / "a.root", {"X": truth, "y": np.arange(40)}, step=8)
    for processes in (1, 2):
        out = tmp_path / f"out{processes}"
        content = e2eio.convert(
            [path],
            out,
            shape=(2, 3, 4),
            channels=("a", "b"),
            shard_samples=16,
            processes=processes,
            progress=False,
        )
        assert content.n_samples == 40
        dataset = e2eio.Dataset(out)
        assert np.array_equal(np.stack([dataset[i]["X"] for i in range(40)]), truth)


def test_nothing_is_imported_before_a_root_file_is_opened() -> None:
    program = (
        "import sys, e2eio.importers; print('uproot' in sys.modules, 'awkward' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stdout.split() == ["False", "False"]
