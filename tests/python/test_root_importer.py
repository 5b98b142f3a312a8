from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import e2eio
from e2eio.errors import ConfigError
from e2eio.importers import ImportOptions, open_source
from importer_toys import SMALL, read_all, small_images
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
