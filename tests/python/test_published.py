"""Every file in the published layouts, by the command line: it converts, verifies and equals its truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.cli.main import main

Truth = dict[str, NDArray[np.float32]]
HERE = ["--processes", "1", "--no-isolate", "--quiet"]
NAMES = {"m0": "m0", "pt": "pt", "y": "y"}


def whole(images: NDArray[Any]) -> NDArray[Any]:
    return images


@dataclass(frozen=True)
class Expected:
    """What is in a file: the first `n` samples of the truth at granularity `g`, seen through `part`."""

    g: int
    n: int
    part: Callable[[NDArray[Any]], NDArray[Any]] = whole
    scalars: dict[str, str] = field(default_factory=lambda: NAMES)


#: By path below ``published``. Electrons and photons have no truth but the file.
FILES = {
    "BoostedTop_x1_fixed_0.snappy.parquet": Expected(1, 128),
    "BoostedTop_x3_fixed_0.snappy.parquet": Expected(3, 16),
    "Dataset_Specific_labelled.h5": Expected(1, 8, scalars={"m0": "m0", "pt": "pt", "Y": "y"}),
    "QCDToGGQQ_IMGjet_RH1all_jet0_run0_n64.test.snappy.parquet": Expected(
        1, 64, lambda x: x[:, [0, 3, 4]]
    ),
    "quark-gluon_data-set_n64.hdf5": Expected(1, 64, lambda x: x[:, [0, 3, 4]]),
    "tau_13ch.h5": Expected(
        1, 32, lambda x: np.concatenate([x, x[:, :5]], axis=1), scalars={"am": "m0"}
    ),
    "tfrecord_x1/boostedtop_x1_0.tfrecord": Expected(1, 64),
    "tfrecord_x3/boostedtop_x3_0.tfrecord": Expected(3, 8),
    "top_gun_opendata_0.parquet": Expected(1, 16, scalars={"m": "m0", "pt": "pt"}),
    "truth_x1.npz": Expected(1, 128),
    "truth_x3.npz": Expected(3, 16),
}
SHOWERS = {
    "SingleElectronPt50_IMGCROPS_n256_RHv1.hdf5": 1.0,
    "SinglePhotonPt50_IMGCROPS_n256_RHv1.hdf5": 0.0,
}


def same_bits(found: NDArray[Any], truth: NDArray[Any]) -> bool:
    same = found.shape == truth.shape and found.dtype == truth.dtype
    return same and np.array_equal(
        np.ascontiguousarray(found).view("u4"), np.ascontiguousarray(truth).view("u4")
    )


def test_every_published_file_is_here(published: Path) -> None:
    there = {str(path.relative_to(published)) for path in published.rglob("*") if path.is_file()}
    assert there == {*FILES, *SHOWERS}


@pytest.mark.parametrize("name", FILES)
def test_it_converts_verifies_and_equals_its_truth(
    published: Path, tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    expected, out = FILES[name], str(tmp_path / "out")
    truth: Truth = request.getfixturevalue(f"truth_x{expected.g}")
    assert main(["convert", str(published / name), out, *HERE]) == 0
    assert main(["verify", out, "--quiet"]) == 0
    dataset = e2eio.Dataset(out)
    assert len(dataset) == expected.n
    images = expected.part(truth["X"][: expected.n])
    column = dataset.schema.image.name
    for row in range(expected.n):
        assert same_bits(dataset[row][column], images[row]), row
    for here, there in expected.scalars.items():
        found = dataset.scalars(here)
        assert np.array_equal(found, truth[there][: expected.n].astype(found.dtype)), here


def test_electrons_and_photons_in_one_go(published: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    out = str(tmp_path / "out")
    sources = [str(published / name) for name in SHOWERS]
    # Options may stand before the target: this is how one writes a long command.
    options = ["--labels", "1,0", "--label-field", "electron"]
    assert main(["convert", *sources, *options, *HERE, out]) == 0
    assert main(["verify", "--physics", out, "--quiet"]) == 0
    dataset = e2eio.Dataset(out)
    begin = 0
    for path, label in zip(sources, SHOWERS.values(), strict=True):
        with h5py.File(path, locking=False) as file:  # h5py's own reading is the truth here
            images, y = file["X"][:].transpose(0, 3, 1, 2), file["y"][:]
        rows = slice(begin, begin + len(images))
        for row in range(len(images)):
            assert same_bits(dataset[begin + row]["X"], images[row]), row
        assert np.array_equal(dataset.scalars("y")[rows], y)
        assert set(dataset.scalars("electron")[rows]) == {int(label)}
        begin += len(images)
    assert begin == len(dataset) == 512


def test_real_events(published: Path, tmp_path: Path) -> None:
    pytest.importorskip("uproot", reason="uproot is not installed")
    real = published.parent / "real"
    if not real.is_dir():
        pytest.skip(f"no data at {real}; set E2EIO_DATA to the directory that holds 'real'")
    events, images = tmp_path / "events", tmp_path / "images"
    root = [str(real / "cms_pfnano.root"), str(events), "--recipe", "centre=axis", *HERE]
    assert main(["convert", *root]) == 0
    npz = [str(real / "cms_pfnano_jet_images_5ch_125.npz"), str(images), *HERE]
    assert main(["convert", *npz, "--channels", "track_pt,d0,dz,ecal,hcal"]) == 0
    one, other = e2eio.Dataset(events), e2eio.Dataset(images)
    assert len(one) == len(other) == 24
    for row in range(24):
        assert same_bits(one[row]["X_jets"], other[row]["X"]), row
    assert main(["verify", str(events), str(images), "--physics", "--quiet"]) == 0
