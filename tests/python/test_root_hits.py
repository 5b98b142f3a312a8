from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from e2eio.errors import ConfigError, E2eioError, ImporterError
from e2eio.importers import ImportOptions, JetRecipe, open_source
from importer_toys import read_all
from root_toys import ak, write


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
    assert list(source.chunks(3, 3)) == []
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
