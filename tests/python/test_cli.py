from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from e2eio import manifest
from e2eio.cli.main import main
from e2eio.progress import make_progress

BOOSTED_X1 = "BoostedTop_x1_fixed_0.snappy.parquet"
SMALL = ["--shape", "2,6,6", "--channels", "ecal,time", "--quiet"]


def make_images(n: int) -> NDArray[np.float32]:
    random = np.random.default_rng(5)
    images = random.normal(size=(n, 2, 6, 6)).astype(np.float32)
    images[random.random(images.shape) < 0.7] = 0
    return images


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "jets.parquet.0"
    rows = list(make_images(20).transpose(0, 2, 3, 1).reshape(20, -1))
    columns = {"X": pa.array(rows), "y": pa.array(np.arange(20)), "pt": pa.array(np.ones(20))}
    pq.write_table(pa.table(columns), path, row_group_size=1)
    return path


@pytest.fixture
def dataset(source: Path, tmp_path: Path) -> Path:
    out = tmp_path / "data"
    assert main(["convert", str(source), str(out), "--shard-samples", "5", *SMALL]) == 0
    return out


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on standard error."""
    text = capsys.readouterr().err
    assert text.startswith("e2eio: ")
    assert text.count("\n") == 1
    assert text.endswith("\n")
    return text


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def record_begins(path: Path) -> list[int]:
    from e2eio.shards import open_shard

    sizes = open_shard(path).record_sizes().astype(int)
    return [64, *(64 + np.cumsum(sizes)).tolist()][:-1]


def test_options_stand_anywhere(source: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert main(["convert", str(source), *SMALL, str(source), "--labels", "1,0"]) == 2  # no label
    options = ["--labels", "1,0", "--label-field", "class"]
    assert main(["convert", str(source), *SMALL, str(source), *options, out]) == 0
    assert manifest.read(Path(out)).n_samples == 40
    assert main(["verify", out, "--quiet", out]) == 0


def test_a_name_that_begins_with_a_dash(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.rename(tmp_path / "-jets")
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *SMALL, "--", "-jets", "out"]) == 0
    assert manifest.read(tmp_path / "out").n_samples == 20


def test_an_empty_target_is_not_this_directory(
    source: Path,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for verb in (["convert", str(source), "", *SMALL], ["merge", str(dataset), ""]):
        capsys.readouterr()
        assert main(verb) == 2
        assert "no target: found an empty path" in error_line(capsys)
    assert not (tmp_path / "dataset.json").exists()


def test_module_runs_as_a_program(tmp_path: Path, published: Path) -> None:
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "e2eio", *args],
            cwd=tmp_path,  # not the source tree, which has no compiled core
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("convert", str(published / BOOSTED_X1), "data")
    assert (done.returncode, done.stdout.splitlines()[0][:25]) == (0, "data: 128 samples in 1 sh")
    assert "jets/s" in done.stderr
    assert run("verify", "data", "--quiet").stderr == ""
    missing = run("verify", "nowhere")
    assert missing.returncode == 1
    assert missing.stderr.count("\n") == 1
    assert run("convert").returncode == 2


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in ("convert", "inspect", "verify"):
        assert command in text
        assert main([command, "--help"]) == 0
        assert f"examples:\n  e2eio {command} " in capsys.readouterr().out
    assert main(["--version"]) == 0


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], "COMMAND"),
        (["no-such-command"], "no-such-command"),
        (["convert"], "SRC"),
        (["convert", "a", "b", "--no-such-option"], "--no-such-option"),
        (["convert", "a", "b", "--shape", "3,4"], "3,4"),
        (["convert", "a", "b", "--shape", "3,x,4"], "3,x,4"),
        (["convert", "a", "b", "--preset", "x"], "'x'"),
        (["convert", "a", "b", "--layout", "WHC"], "WHC"),
        (["convert", "a", "b", "--exclude", "5-2"], "5-2"),
        (["convert", "a", "b", "--exclude", "-"], "N or A-B"),
        (["convert", "a", "b", "--shard-bytes", "12T"], "12T"),
        (["convert", "a", "b", "--processes", "0"], "processes"),
        (["convert", "a", "b", "--preset", "tau", "--channels", "x"], "preset and channels"),
        (["inspect"], "PATH"),
    ],
)
def test_wrong_usage(arguments: list[str], found: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert found in error_line(capsys)


def test_failures_of_convert(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "d")
    assert main(["convert", str(tmp_path / "nowhere"), out]) == 1
    assert "nowhere" in error_line(capsys)
    (tmp_path / "text").write_text("hello\nworld\n")
    assert main(["convert", str(tmp_path / "text"), out]) == 1
    assert "unknown format" in error_line(capsys)
    assert main(["convert", str(source), out]) == 2
    assert "pass shape" in error_line(capsys)
    assert not (tmp_path / "d").exists()


def test_convert_refuses_other_content(
    dataset: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = manifest.read(dataset).digest
    again = ["convert", str(source), str(dataset), *SMALL]
    assert main(again) == 1
    assert "overwrite" in error_line(capsys)
    assert manifest.read(dataset).digest == before
    assert main([*again, "--overwrite"]) == 0
    assert manifest.read(dataset).digest != before


def test_convert_json_and_exclude(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "d")
    arguments = ["--exclude", "0-2,7", "--shard-bytes", "1k", "--json"]
    assert main(["convert", str(source), out, *arguments, *SMALL]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["n_samples"] == 16
    assert value["digest"] == manifest.read(out).digest
    assert value["schema"]["image"]["channels"][0] == {"name": "ecal", "unit": "GeV"}


def test_inspect_dataset_and_shards_agree_with_numpy(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["inspect", str(dataset), "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    (dataset / "dataset.json").unlink()
    assert main(["inspect", str(dataset), "--json"]) == 0
    decoded = json.loads(capsys.readouterr().out)
    images = make_images(20)
    for value in (whole, decoded):
        assert (value["n_samples"], value["n_shards"]) == (20, 4)
        assert value["n_bytes"] == sum(path.stat().st_size for path in dataset.glob("*.e2e"))
        for channel, row in enumerate(value["channels"]):
            pixels = images[:, channel]
            assert row["nonzero"] == np.count_nonzero(pixels)
            assert row["occupancy"] == pytest.approx(np.count_nonzero(pixels) / pixels.size)
            assert row["min"] == pytest.approx(float(pixels.min()))
            assert row["max"] == pytest.approx(float(pixels.max()))
        y = value["scalars"][0]
        assert (y["name"], y["dtype"], y["min"], y["max"]) == ("y", "int64", 0, 19)
    assert whole["provenance"]["sources"][0]["n_samples"] == 20
    assert decoded["provenance"] is None
    assert whole["digest"] == decoded["digest"]


def test_inspect_prints_tables(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["inspect", str(dataset / "shard-00001.e2e")]) == 0
    text = capsys.readouterr().out
    assert "5 samples" in text
    assert "float32 [2, 6, 6]" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["y", "int64", "5", "9"] in rows
    assert any(row[:2] == ["ecal", "GeV"] for row in rows)


def test_inspect_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        assert main(["inspect", str(path)]) == 1
        assert str(path) in error_line(capsys)
    (tmp_path / "a.e2e").write_bytes(b"x" * 200)
    assert main(["inspect", str(tmp_path / "a.e2e")]) == 1
    assert "a.e2e" in error_line(capsys)


def test_verify_of_a_good_dataset(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["verify", str(dataset), str(dataset / "shard-00000.e2e"), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("ok: 25 samples in 5 shard(s)")
    assert captured.err == ""
    assert main(["verify", str(dataset)]) == 0
    assert "verified 20 of 20 jets (100 %)" in capsys.readouterr().err


def run_verify(
    path: Path, capsys: pytest.CaptureFixture[str], code: int = 1
) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert main(["verify", str(path), "--quiet", "--json"]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("e2eio: verification failed: ")
    assert captured.err.count("\n") == 1
    value: dict[str, Any] = json.loads(captured.out)
    assert value["ok"] is False
    return value, captured.err


def test_verify_lists_every_bad_record(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"shard-00000.e2e": [1, 2, 4], "shard-00003.e2e": [0]}
    for name, records in bad.items():
        begins = record_begins(dataset / name)
        for record in records:
            flip(dataset / name, begins[record] + 6)
    value, line = run_verify(dataset, capsys)
    found = [(Path(item["shard"]).name, item["record"]) for item in value["bad_records"]]
    assert found == [(name, record) for name, records in bad.items() for record in records]
    assert "4 bad records" in line
    assert main(["verify", str(dataset), "--quiet"]) == 1
    assert "shard-00003.e2e record 0: " in capsys.readouterr().out


def test_verify_compares_with_the_manifest(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = sorted(dataset.glob("*.e2e"))
    one, two = (path.read_bytes() for path in shards[:2])
    shards[0].write_bytes(two)
    value, _ = run_verify(dataset, capsys)
    assert "wrong shard" in value["problems"][0]
    shards[0].unlink()
    value, _ = run_verify(dataset, capsys)
    assert "shard-00000.e2e" in value["problems"][0]
    shards[0].write_bytes(one[:-1])
    value, _ = run_verify(dataset, capsys)
    assert "shard-00000.e2e" in value["problems"][0]
    assert value["n_samples"] == 15
    shards[0].write_bytes(one)
    assert main(["verify", str(dataset), "--quiet"]) == 0
    text = (dataset / "dataset.json").read_text()
    (dataset / "dataset.json").write_text(text.replace('"n_samples": 20', '"n_samples": 21'))
    value, _ = run_verify(dataset, capsys)
    assert "dataset.json" in value["problems"][0]


def test_verify_finds_a_flip_in_any_byte(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = dataset / "shard-00002.e2e"
    data = shard.read_bytes()
    for at in range(0, len(data), 37):
        flip(shard, at)
        assert main(["verify", str(shard), "--quiet"]) == 1, f"byte {at}"
        flip(shard, at)
    assert main(["verify", str(shard), "--quiet"]) == 0
    capsys.readouterr()


def test_internal_errors_are_one_line(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("E2EIO_DEBUG", raising=False)
    arguments = ["convert", str(source), "a\0b", *SMALL]  # no shell can pass such a name
    assert main(arguments) == 1
    assert "internal error: ValueError: embedded null byte" in error_line(capsys)
    monkeypatch.setenv("E2EIO_DEBUG", "1")
    with pytest.raises(ValueError, match="null byte"):
        main(arguments)


def test_a_closed_pipe_is_no_error(dataset: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "e2eio", "inspect", str(dataset)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_plain_progress_shows_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with make_progress(True, interval_s=0) as progress:
        progress.start(200, 100)
        progress.update(150)
        progress.update(200)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("converted 150 of 200 jets (75 %), ")
    assert lines[0].endswith(" s left")
    assert lines[-1].startswith("converted 200 of 200 jets (100 %), ")
    with make_progress(False) as silent:
        silent.start(1)
        silent.note("x")
        silent.update(1)
    assert capsys.readouterr().err == ""


def test_progress_bar_on_a_terminal() -> None:
    pytest.importorskip("rich")
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with make_progress(True, stream=stream) as progress:
        progress.start(200)
        progress.note("a [bold] note")
        progress.update(200)
    text = stream.getvalue()
    assert "200/200" in text
    assert "jets/s" in text
    assert "a [bold] note" in text
