from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import demo
from e2eio.sim import ToyJets
from harness.contender import Inputs, Run, VerificationError, digest_sample, verify_epoch
from harness.data import DataError, ParquetJets, ToySource, derive, write_parquet
from harness.report import Ratio, Row, Storage, compare, draw_verdict, run_checks, summarise
from harness.rounds import Result
from harness.talk import print_talk, tabulate

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SHAPE = (8, 125, 125)
ROW_KEYS = {
    "contender",
    "title",
    "resolution",
    "channels",
    "batch_size",
    "threads",
    "samples_per_s",
    "samples_per_s_min",
    "samples_per_s_max",
    "samples_per_s_rounds",
    "ms_per_batch",
    "bytes_per_sample",
    "peak_rss_mb",
    "n_verified",
    "settings",
    "settings_tried",
    "details",
    "unavailable",
    "status",
}

Batches = list[tuple[NDArray[np.float32], NDArray[np.float32]]]


def make_inputs(n: int) -> Inputs:
    return Inputs(files={}, n_samples=n, shape=SHAPE, batch_size=4, threads=1)


@pytest.fixture(scope="module")
def jets() -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
    images, scalars = ToyJets().chunk(0, 10)
    y = scalars["y"]
    return images, y, [digest_sample(x, float(label)) for x, label in zip(images, y, strict=True)]


def deliver(images: NDArray[np.float32], y: NDArray[np.float32], order: list[int]) -> Batches:
    return [(images[ids], y[ids]) for ids in (order[k : k + 4] for k in range(0, len(order), 4))]


JetSet = tuple[NDArray[np.float32], NDArray[np.float32], list[str]]


def test_verify_accepts_any_order(jets: JetSet) -> None:
    images, y, reference = jets
    batches = deliver(images, y, [7, 1, 0, 9, 2, 3, 8, 4, 6, 5])
    assert verify_epoch(batches, make_inputs(10), reference) == 10


def test_verify_detects_one_wrong_pixel(jets: JetSet) -> None:
    images, y, reference = jets
    images = images.copy()
    images[6, 4, 60, 60] = np.nextafter(images[6, 4, 60, 60], np.float32(np.inf))
    with pytest.raises(VerificationError, match="1 of 10 delivered are not as in the reference"):
        verify_epoch(deliver(images, y, list(range(10))), make_inputs(10), reference)


def test_verify_detects_a_negative_zero(jets: JetSet) -> None:
    images, y, reference = jets
    images = np.where(images == 0, np.float32(-0.0), images)
    with pytest.raises(VerificationError, match="10 of 10"):
        verify_epoch(deliver(images, y, list(range(10))), make_inputs(10), reference)


def test_verify_detects_swapped_labels(jets: JetSet) -> None:
    images, y, reference = jets
    with pytest.raises(VerificationError, match="10 of 10"):
        verify_epoch(deliver(images, 1 - y, list(range(10))), make_inputs(10), reference)


@pytest.mark.parametrize("order", [list(range(9)), [0, 0, 1, 2, 3, 4, 5, 6, 7, 8], []])
def test_verify_detects_missing_and_repeated_jets(jets: JetSet, order: list[int]) -> None:
    images, y, reference = jets
    with pytest.raises(VerificationError, match="of the reference never came"):
        verify_epoch(deliver(images, y, order), make_inputs(10), reference)


def test_verify_detects_wrong_dtype_and_layout(jets: JetSet) -> None:
    images, y, reference = jets
    for wrong in (images.astype(np.float64), images.transpose(0, 2, 3, 1)):
        with pytest.raises(VerificationError, match="wrong batch"):
            verify_epoch([(wrong, y)], make_inputs(10), reference)


def test_parquet_round_trip_repeats_the_jets(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    images, scalars = ToyJets().chunk(0, 3)
    assert write_parquet(tmp_path / "jets.parquet", iter([(images, scalars)])) == 3
    source = ParquetJets(tmp_path / "jets.parquet")
    again, columns = source.chunk(2, 5)
    assert np.array_equal(again, images[[2, 0, 1]])
    assert np.array_equal(columns["pt"], scalars["pt"][[2, 0, 1]])
    assert source.resolution == 1


def test_nested_layouts_are_taken_as_well(published: Path) -> None:
    quark_gluon = ParquetJets(next(published.glob("QCDToGGQQ*.parquet")))
    truth = np.load(published / "truth_x1.npz")["X"]
    images, _ = quark_gluon.chunk(60, 70)  # 64 jets, then from the start
    assert quark_gluon.shape == (3, 125, 125)
    assert np.array_equal(images, truth[[60, 61, 62, 63, 0, 1, 2, 3, 4, 5]][:, [0, 3, 4]])


def test_bad_source_is_explained(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match="no such file"):
        ParquetJets(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="unknown format"):
        ParquetJets(tmp_path / "text.parquet")


def test_derived_files_hold_the_same_jets(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("pyarrow")
    derived = derive(ToySource(1), 5, tmp_path, {"parquet", "hdf5", "npy"})
    images, scalars = ToyJets().chunk(0, 5)
    assert np.array_equal(np.load(derived.files["npy"]), images)
    assert np.array_equal(ParquetJets(Path(derived.files["parquet"])).chunk(0, 5)[0], images)
    with h5py.File(derived.files["hdf5"]) as file:
        assert np.array_equal(file["X_jets"][:], images)
        assert np.array_equal(file["m0"][:], scalars["m0"])
    assert derived.bytes_per_sample["npy"] > images[0].nbytes


def make_rows(speeds: dict[str, list[float]]) -> list[Row]:
    inputs = make_inputs(10)
    derived_sizes = {"e2eio": 3000.0, "parquet": 10000.0}
    results = [
        Result(name, runs=[Run(int(speed), 1, 1.0) for speed in rounds])
        for name, rounds in speeds.items()
    ]
    return summarise(results, inputs, derived_sizes, "x1")


def test_ratios_are_paired_round_by_round() -> None:
    rows = make_rows({"e2eio_dense": [100, 400, 90], "torch_npy": [10, 100, 10]})
    (ratio,) = compare(rows)
    assert ratio == Ratio("torch_npy", "x1", 9.0, 4.0, 10.0, [10.0, 4.0, 9.0], 4)
    assert rows[0].samples_per_s == 100
    assert rows[0].ms_per_batch == 40


def test_checks_fail_for_what_is_missed_or_not_measured() -> None:
    ratios = [Ratio("torch_npy", "x1", 3.9, 3.9, 3.9, [3.9])]
    storage = [Storage("x1", {}, 0.3, 0.38), Storage("x3", {}, 0.3, 0.21)]
    assert [check.passed for check in run_checks(ratios, storage)] == [False, False, True, False]


def test_verdict_is_a_sentence_with_the_numbers() -> None:
    rows = make_rows({"e2eio_dense": [30000] * 3, "torch_parquet": [200] * 3})
    verdict = draw_verdict(rows, compare(rows))
    assert verdict.startswith("e2eio delivers 30,000 jets/s at x1")
    assert "150 x the Parquet reader" in verdict
    assert "269 jets/s" in verdict
    assert "not measured" in draw_verdict([], [])


def test_the_talk_is_told_as_published(capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_rows({"e2eio_dense": [30000] * 3, "torch_parquet": [200] * 3})
    entries = tabulate([*rows, *(dataclasses.replace(row, resolution="x3") for row in rows)])
    published = {
        (entry.name, entry.resolution): (round(entry.ms_per_batch, 6), round(entry.epoch_s / 60))
        for entry in entries
        if entry.source == "published"
    }
    # Minutes of reading per epoch: 80,000 batches of 32, or half as many of 64.
    assert published == {
        ("P100", "x1"): (119, 159),
        ("P100", "x3"): (833, 1111),
        ("V100", "x1"): (18, 12),
        ("V100", "x3"): (63, 42),
        ("TPUv3-8", "x1"): (18, 12),
        ("TPUv3-8", "x3"): (189, 126),
    }
    ours = next(entry for entry in entries if entry.source == "extrapolated")
    assert (ours.name, round(ours.epoch_s, 6)) == ("e2eio", round(2_560_000 / 30000, 6))
    print_talk(entries)
    told = capsys.readouterr().out
    assert "~85 seconds" in told
    assert "extrapolated" in told


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = str(BENCHMARKS / "io_speed.py")
    return subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("pyarrow")
    out = tmp_path_factory.mktemp("peers")
    names = "torch_parquet,torch_npy,clear_memset"
    quick = ("--quick", "--jets", "64", "--batch-size", "16", "--rounds", "2")
    done = call(*quick, "--contenders", names, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "Parquet, to_pydict" in done.stdout
    return out


def test_report_has_the_documented_keys(peers: Path) -> None:
    report = json.loads((peers / "io_speed.json").read_text())
    assert (report["format"], report["version"]) == ("e2eio-io-speed", 1)
    assert set(report) == {
        *("format", "version", "environment", "options", "data"),
        *("rows", "ratios", "storage", "checks", "talk", "peers", "verdict"),
    }
    assert [row["contender"] for row in report["rows"]] == [
        "torch_parquet",
        "torch_npy",
        "clear_memset",
    ]
    for row in report["rows"]:
        assert set(row) == ROW_KEYS
        assert (row["unavailable"], row["status"]) == ("", "measured")
        assert row["n_verified"] == 64
        assert len(row["samples_per_s_rounds"]) == 2
        assert 0 < row["samples_per_s_min"] <= row["samples_per_s"] <= row["samples_per_s_max"]
        assert math.isclose(row["ms_per_batch"], 16000 / row["samples_per_s"])
        assert row["peak_rss_mb"] > 10
    parquet, npy, memset = report["rows"]
    assert len(npy["settings_tried"]) == 3
    assert (parquet["threads"], memset["threads"]) == (2, 2)
    assert npy["bytes_per_sample"] > 500_000
    for key in ("cpu", "cores", "memory_gb", "kernel", "e2eio_kernels", "versions", "commit"):
        assert report["environment"][key], key


def test_every_row_key_is_documented() -> None:
    text = (BENCHMARKS / "README.md").read_text()
    assert {key for key in ROW_KEYS if f"`{key}`" not in text} == set()


def test_picture_is_drawn(peers: Path) -> None:
    pytest.importorskip("matplotlib")
    assert (peers / "io_speed.png").read_bytes().startswith(b"\x89PNG")


def test_whole_quick_run_compares_e2eio_with_all(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("pyarrow")
    pytest.importorskip("h5py")
    small = ("--quick", "--jets", "64", "--batch-size", "16", "--rounds", "2")
    done = call(*small, "--contenders", ",".join(demo.SHOWN), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "io_speed.json").read_text())
    assert [row["unavailable"] for row in report["rows"]] == [""] * 7
    assert len(report["ratios"]) == 6
    assert report["storage"][0]["e2eio_to_parquet"] < 1
    assert report["verdict"] in done.stdout


def test_several_batch_sizes_and_a_second_run_that_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    small = ("--quick", "--jets", "40", "--rounds", "2", "--contenders", "e2eio_dense,clear_memset")
    done = call(*small, "--batch", "16,8", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "io_speed.json").read_text())
    assert [row["batch_size"] for row in report["rows"]] == [16, 16, 8, 8]
    assert [ratio["batch_size"] for ratio in report["ratios"]] == [16, 8]
    assert report["data"][0].startswith("x1: 48 jets")  # whole batches
    assert "x1 b16 e2eio" in done.stdout
    assert "~" in done.stdout
    again = call(*small, "--batch", "16,8", "--out", str(tmp_path))
    assert "verifying" not in again.stderr
    second = json.loads((tmp_path / "io_speed.json").read_text())
    assert (second["rows"], second["ratios"]) == (report["rows"], report["ratios"])


def test_errors_are_one_line(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    done = call("--quick", "--data", str(tmp_path / "absent.parquet"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("io_speed: no such file: ")
    assert "Traceback" not in done.stderr
    assert call("--contenders", "nobody").returncode == 2
