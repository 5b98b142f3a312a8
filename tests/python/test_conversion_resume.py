from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conversion_toys import (
    BOOSTED_X1,
    SMALL,
    damage,
    make_images,
    names,
    read_images,
    run_python,
    same_bits,
    write_small,
)
from e2eio.conversion import convert
from e2eio.errors import ImporterError, ShardExistsError
from e2eio.shards import open_shard


def test_already_converted_is_done_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(20))
    first = convert(source, tmp_path / "d", shard_samples=8, **SMALL)
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "d").iterdir())]
    again = convert(source, tmp_path / "d", shard_samples=8, **{**SMALL, "progress": True})
    assert again == first
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "d").iterdir())] == times
    assert "already converted" in capsys.readouterr().err


def test_resume_writes_only_what_is_missing(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(40))
    out = tmp_path / "d"
    first = convert(source, out, shard_samples=8, **SMALL)
    assert len(first.shards) == 5
    files = {shard.file: (out / shard.file).read_bytes() for shard in first.shards}
    (out / "dataset.json").unlink()
    (out / first.shards[1].file).unlink()
    damaged = bytearray(files[first.shards[3].file])
    damaged[100] ^= 1  # within a record: the frame stays valid
    (out / first.shards[3].file).write_bytes(damaged)
    (out / first.shards[4].file).write_bytes(b"no shard")
    inodes = {
        shard.file: (out / shard.file).stat().st_ino for shard in (first.shards[k] for k in (0, 2))
    }
    second = convert(source, out, shard_samples=8, **SMALL)
    assert second.shards == first.shards
    assert {name: (out / name).read_bytes() for name in files} == files
    assert {name: (out / name).stat().st_ino for name in inodes} == inodes
    for one, other in zip(first.statistics, second.statistics, strict=True):
        assert (one.nonzero, one.min, one.max) == (other.nonzero, other.min, other.max)
        assert one.sum == pytest.approx(other.sum, rel=1e-12, abs=1e-12)
    assert second.provenance.n_rounded is None


def test_a_manifest_alone_is_not_trusted(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(16))
    out = tmp_path / "d"
    first = convert(source, out, shard_samples=8, **SMALL)
    (out / first.shards[1].file).unlink()
    assert convert(source, out, shard_samples=8, **SMALL).shards == first.shards
    assert same_bits(read_images(out), make_images(16))


def test_other_content_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    one = write_small(tmp_path / "a.parquet", make_images(12))
    two = write_small(tmp_path / "b.parquet", make_images(5, 1))
    out = tmp_path / "d"
    first = convert(one, out, shard_samples=4, **SMALL)
    (out / "notes.txt").write_text("mine")
    for arguments in (
        {"sources": two},
        {"sources": one, "precision": "float16"},
        {"sources": one, "resume": False, "shard_samples": 4},
    ):
        with pytest.raises(ShardExistsError, match="overwrite"):
            convert(out=out, **arguments, **SMALL)
    (out / "dataset.json").unlink()
    with pytest.raises(ShardExistsError, match=r"shard-0000\d\.e2e"):
        convert(two, out, **SMALL)
    assert same_bits(
        open_shard(out / first.shards[0].file).decode(np.arange(4), [0, 1]), make_images(12)[:4]
    )
    convert(two, out, overwrite=True, **SMALL)
    assert names(out) == ["dataset.json", "notes.txt", "shard-00000.e2e"]
    assert same_bits(read_images(out), make_images(5, 1))


def test_a_source_that_changed_is_converted_anew(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(12))
    convert(source, tmp_path / "d", **SMALL)
    write_small(source, make_images(12, 7))
    with pytest.raises(ShardExistsError):
        convert(source, tmp_path / "d", **SMALL)


def test_target_that_is_a_file(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(2))
    (tmp_path / "d").write_text("x")
    with pytest.raises(ShardExistsError, match="no directory"):
        convert(source, tmp_path / "d", **SMALL)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failure_leaves_nothing_under_a_final_name(tmp_path: Path, processes: int) -> None:
    images = [make_images(40, seed) for seed in (0, 1)]
    good, bad = (write_small(tmp_path / f"{k}.parquet", part) for k, part in enumerate(images))
    intact = bad.read_bytes()
    damage(bad)
    out = tmp_path / "d"
    with pytest.raises(ImporterError, match=r"1\.parquet.*fetch the file again"):
        convert([good, bad], out, shard_samples=8, **{**SMALL, "processes": processes})
    assert not [name for name in names(out) if not name.endswith(".kept")]
    kept = len(names(out))
    if processes == 1:
        assert kept >= 5  # all of the first source
    bad.write_bytes(intact)
    content = convert([good, bad], out, shard_samples=8, **{**SMALL, "processes": processes})
    assert same_bits(read_images(out), np.concatenate(images))
    assert names(out) == ["dataset.json", *(shard.file for shard in content.shards)]
    assert (content.provenance.n_rounded is None) == (kept > 0)


def test_a_failure_of_the_first_shard_leaves_no_directory(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(40))
    damage(source)
    with pytest.raises(ImporterError):
        convert(source, tmp_path / "d", **SMALL)
    assert not (tmp_path / "d").exists()


def test_full_disk(tmp_path: Path, published: Path) -> None:
    program = (
        "import resource, sys\n"
        "from e2eio.conversion import convert\n"
        "from e2eio.errors import ShardIOError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try:\n"
        "    convert(sys.argv[1], sys.argv[2], progress=False)\n"
        "except ShardIOError as error:\n"
        "    print(error.errno, error)\n"
    )
    source = published / BOOSTED_X1  # its shard is larger than the limit
    done = run_python(program, source, tmp_path / "d", cwd=tmp_path)
    assert "shard-00000.e2e" in done.stdout, done.stderr
    assert not (tmp_path / "d").exists()


def test_a_second_conversion_into_the_same_directory_is_refused(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(4))
    out = tmp_path / "d"
    out.mkdir()
    holder = (
        "import fcntl, os, sys\n"
        "handle = os.open(sys.argv[1], os.O_RDONLY)\n"
        "fcntl.flock(handle, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(ShardExistsError, match="in use"):
            convert(source, out, **SMALL)
        process.communicate("")
    convert(source, out, **SMALL)


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(4))
    out = tmp_path / "d"
    out.mkdir()
    (out / "shard-00003.e2e.e2eio-tmp-1-abcdef").write_bytes(b"half")
    (out / "mine.e2eio-tmp-1").write_bytes(b"not a shard's")
    convert(source, out, **SMALL)
    assert names(out) == ["dataset.json", "mine.e2eio-tmp-1", "shard-00000.e2e"]


def wait_for_shards(out: Path, n: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.e2e"))) < n:
        assert process.poll() is None, "ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_for_end(group: int) -> None:
    """Wait until no process of the group is left: multiprocessing's tracker ends a little later."""
    for _ in range(500):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("a worker process is still running")


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_leaves_complete_shards_and_the_next_run_goes_on(
    tmp_path: Path, published: Path, processes: int
) -> None:
    out = tmp_path / "d"
    arguments = ["convert", *[str(published / BOOSTED_X1)] * 30, str(out)]
    arguments += ["--processes", str(processes), "--shard-samples", "64"]
    with subprocess.Popen(
        [sys.executable, "-m", "e2eio", *arguments, "--quiet"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_for_shards(out, 3, process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.startswith("e2eio: interrupted")
    assert stderr.count("\n") == 1
    wait_for_end(process.pid)
    finished = names(out)
    assert 3 <= len(finished) < 60
    assert all(name.startswith("shard-") and name.endswith(".e2e") for name in finished)
    for name in finished:
        reader = open_shard(out / name)
        reader.check(0, reader.n_samples)
    inodes = {name: (out / name).stat().st_ino for name in finished}

    content = convert(
        [published / BOOSTED_X1] * 30, out, processes=2, shard_samples=64, progress=False
    )
    assert {name: (out / name).stat().st_ino for name in finished} == inodes
    assert (content.n_samples, len(content.shards)) == (30 * 128, 60)
    alone = convert(published / BOOSTED_X1, tmp_path / "alone", shard_samples=64, progress=False)
    assert content.shards[0] == alone.shards[0]
