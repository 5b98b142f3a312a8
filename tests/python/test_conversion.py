from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conversion_toys import (
    BOOSTED_X1,
    BOOSTED_X3,
    EXTENT,
    QUARK_GLUON,
    SMALL,
    TOP_GUN,
    Truth,
    make_images,
    read_column,
    read_images,
    run_python,
    same_bits,
    write_small,
)
from e2eio import manifest
from e2eio.conversion import convert
from e2eio.errors import ConfigError, SchemaMismatchError, ShardNotFoundError


@pytest.mark.parametrize("shard_samples", [None, 24])
def test_boosted_top_x1(
    tmp_path: Path, published: Path, truth_x1: Truth, shard_samples: int | None
) -> None:
    content = convert(published / BOOSTED_X1, tmp_path, shard_samples=shard_samples, progress=False)
    assert same_bits(read_images(tmp_path), truth_x1["X"])
    for name in ("y", "m0", "pt"):
        assert same_bits(read_column(tmp_path, name), truth_x1[name])
    assert len(content.shards) == (1 if shard_samples is None else 6)
    assert content == manifest.read(tmp_path)


def test_boosted_top_x3(tmp_path: Path, published: Path, truth_x3: Truth) -> None:
    convert(published / BOOSTED_X3, tmp_path, progress=False)
    assert same_bits(read_images(tmp_path), truth_x3["X"])


def test_quark_gluon_and_top_gun(tmp_path: Path, published: Path, truth_x1: Truth) -> None:
    content = convert(published / QUARK_GLUON, tmp_path / "qg", progress=False)
    assert same_bits(read_images(tmp_path / "qg"), truth_x1["X"][:64, [0, 3, 4]])
    assert content.provenance.n_rounded == 0
    convert(published / TOP_GUN, tmp_path / "top", progress=False)
    assert same_bits(read_images(tmp_path / "top"), truth_x1["X"][:16])
    assert read_column(tmp_path / "top", "ieta").dtype == np.int32


def test_statistics_and_provenance(
    tmp_path: Path, published: Path, truth_x1: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    content = convert(str(published / BOOSTED_X1), tmp_path, shard_samples=50, progress=False)
    pixels = truth_x1["X"].astype(np.float64)
    for channel, row in enumerate(content.statistics):
        stored = pixels[:, channel][pixels[:, channel] != 0]
        assert row.nonzero == stored.size
        assert (row.min, row.max) == (stored.min(), stored.max())
        assert row.sum == pytest.approx(stored.sum(), rel=1e-9)
    provenance = content.provenance
    source = published / BOOSTED_X1
    assert provenance.sources == (manifest.SourceEntry(str(source), source.stat().st_size, 128),)
    assert provenance.created == "1970-01-01T00:00:00Z"
    assert provenance.options["shard_samples"] == 50


def test_processes_do_not_change_the_result(
    tmp_path: Path, published: Path, truth_x1: Truth
) -> None:
    sources = [published / BOOSTED_X1] * 2
    for n in (1, 2):
        convert(sources, tmp_path / str(n), processes=n, shard_samples=40, progress=False)
    one, two = (manifest.read(tmp_path / str(n)) for n in (1, 2))
    assert one.digest == two.digest
    assert one.statistics == two.statistics
    for shard in one.shards:
        files = [(tmp_path / str(n) / shard.file).read_bytes() for n in (1, 2)]
        assert files[0] == files[1]
    assert same_bits(read_images(tmp_path / "2"), np.concatenate([truth_x1["X"]] * 2))
    ids = {shard.digest.partition("-")[2] for shard in one.shards}
    assert len(ids) == len(one.shards)


def test_shards_follow_row_groups(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(50), row_group_size=8)
    content = convert(source, tmp_path / "d", shard_samples=10, **SMALL)
    begins = np.cumsum([shard.n_samples for shard in content.shards])[:-1]
    assert len(begins) >= 3
    assert all(begin % 8 == 0 for begin in begins)
    assert same_bits(read_images(tmp_path / "d"), make_images(50))


def test_exclude(tmp_path: Path) -> None:
    sources = [write_small(tmp_path / f"{k}.parquet", make_images(10, k)) for k in (0, 1)]
    left_out = [0, 3, 4, 9, 10, 17]
    convert(sources, tmp_path / "d", exclude=left_out, **SMALL)
    kept = np.delete(np.concatenate([make_images(10, 0), make_images(10, 1)]), left_out, axis=0)
    assert same_bits(read_images(tmp_path / "d"), kept)
    wanted = np.delete(np.tile(np.arange(10), 2), left_out)
    assert np.array_equal(read_column(tmp_path / "d", "y"), wanted)
    convert(sources, tmp_path / "e", exclude=range(10), **SMALL)
    assert same_bits(read_images(tmp_path / "e"), make_images(10, 1))
    for wrong in ([20], [-1], range(20)):
        with pytest.raises(ConfigError, match="exclude"):
            convert(sources, tmp_path / "f", exclude=wrong, **SMALL)
    assert not (tmp_path / "f").exists()


def test_doubles_that_are_no_floats_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.zeros((3, *EXTENT))
    images[:, 0, 0, 0] = (0.1, 0.5, 1 / 3)
    source = write_small(tmp_path / "a.parquet", images)
    content = convert(source, tmp_path / "d", **{**SMALL, "progress": True})
    assert content.provenance.n_rounded == 2
    assert "2 float64 pixels" in capsys.readouterr().err
    assert same_bits(read_images(tmp_path / "d"), images.astype(np.float32))


def test_float16(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(5))
    content = convert(source, tmp_path / "d", precision="float16", **SMALL)
    assert content.schema.image.precision == "float16"
    assert same_bits(read_images(tmp_path / "d"), make_images(5).astype("f2").astype("f4"))


def test_skipped_columns_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"X": pa.array(list(make_images(2).reshape(2, -1))), "name": pa.array(["a", "b"])}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    convert(tmp_path / "a.parquet", tmp_path / "d", **{**SMALL, "progress": True})
    assert "name (string)" in capsys.readouterr().err


def test_sources_with_different_schemas(tmp_path: Path, published: Path) -> None:
    with pytest.raises(SchemaMismatchError) as caught:
        convert([published / BOOSTED_X1, published / TOP_GUN], tmp_path / "d", progress=False)
    assert BOOSTED_X1 in str(caught.value)
    assert TOP_GUN in str(caught.value)
    assert not (tmp_path / "d").exists()


def test_missing_source_and_wrong_options(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(2))
    with pytest.raises(ShardNotFoundError, match="nowhere"):
        convert([source, tmp_path / "nowhere"], tmp_path / "d", **SMALL)
    for wrong in (
        {"processes": 0},
        {"shard_samples": 0},
        {"shard_bytes": 0},
        {"compression_level": 23},
        {"precision": "float64"},
    ):
        with pytest.raises(ConfigError):
            convert(source, tmp_path / "d", **{**SMALL, **wrong})
    with pytest.raises(ConfigError, match="no sources"):
        convert([], tmp_path / "d", **SMALL)
    with pytest.raises(ConfigError, match="found the text"):
        convert(source, tmp_path / "d", shape=EXTENT, channels="ab", progress=False)
    assert not (tmp_path / "d").exists()


def test_a_program_may_convert_at_its_top_level(tmp_path: Path) -> None:
    for k in (0, 1):
        write_small(tmp_path / f"{k}.parquet", make_images(6, k))
    program = (
        "from e2eio.conversion import convert\n"
        "content = convert(\n"
        "    ['0.parquet', '1.parquet'], 'd', shape=(2, 6, 6), channels=('a', 'b'), processes=2\n"
        ")\n"
        "print(content.n_samples)\n"
    )
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "12\n"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded(tmp_path: Path, published: Path) -> None:
    shutil.copy(published / BOOSTED_X3, tmp_path / "a.parquet")  # 72 MB of images
    program = (
        "import re, sys\n"
        "from e2eio.conversion import convert\n"
        # ru_maxrss would begin with the size of the process that has started this one.
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) >> 10\n"
        "out = sys.argv[1]\n"
        "convert(['a.parquet'], out + '1', processes=1, isolate=False, progress=False)\n"
        "before = peak()\n"
        "convert(['a.parquet'] * 8, out + '8', processes=1, isolate=False, progress=False)\n"
        "print(peak() - before)\n"
    )
    done = run_python(program, tmp_path / "d", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64, done.stdout  # MiB, of 580 MB of images


def test_manifest_is_what_the_format_page_says(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(3))
    convert(source, tmp_path / "d", **SMALL)
    value = json.loads((tmp_path / "d" / "dataset.json").read_text())
    assert (value["format"], value["version"]) == ("e2eio-dataset", 1)
    assert set(value["provenance"]) >= {"sources", "converter", "options", "created"}
    shard = value["shards"][0]
    assert set(shard) == {"file", "n_samples", "n_bytes", "digest"}
    assert shard["n_bytes"] == (tmp_path / "d" / shard["file"]).stat().st_size
