"""Readers that take their process along: the caller survives, says what it was, and can go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversion_toys import SMALL, make_images, names, read_images, same_bits, write_small
from e2eio.cli.main import main
from e2eio.conversion import convert
from e2eio.errors import E2eioError, ImporterError

ISOLATED: dict[str, Any] = {**SMALL, "isolate": True}

# Run at the start of every interpreter that has it on its path; it changes those of workers alone.
SITE = """
import os, sys
if "--multiprocessing-fork" in sys.orig_argv:
    import signal
    import e2eio.importers.parquet as parquet

    when, how = os.environ["TOY_CRASH"].split()

    class Crashing(parquet.ParquetSource):
        def __init__(self, path, options):
            if when == "open" and "bad" in path:
                crash()
            super().__init__(path, options)

        def chunks(self, begin, end):
            row = begin
            for images, scalars in super().chunks(begin, end):
                if when == "read" and "bad" in self.path and end > 12:
                    crash()
                if when == "long" and end - begin > 4:
                    crash()
                if when[0] in "0123456789" and "bad" in self.path:
                    if any(row <= int(bad) < row + len(images) for bad in when.split(",")):
                        crash()
                row += len(images)
                yield images, scalars

    def crash():
        if how == "exit":
            os._exit(7)
        os.kill(os.getpid(), getattr(signal, how))

    parquet.ParquetSource = Crashing
"""


@pytest.fixture
def crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have workers end themselves: crash("open SIGSEGV"), crash("3,17 exit") at these rows; crash(None): no more."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITE)

    def arrange(how: str | None) -> None:
        if how is None:
            monkeypatch.delenv("PYTHONPATH")
            return
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setenv("TOY_CRASH", how)

    return arrange


def children() -> list[str]:
    """Return the command lines of this process's children, but for multiprocessing's own."""
    done = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())],
        capture_output=True,
        text=True,
        check=False,
    )
    return [line for line in done.stdout.splitlines() if "--multiprocessing-fork" in line]


def test_a_crash_while_a_source_is_opened(tmp_path: Path, crash: Any) -> None:
    paths = [write_small(tmp_path / name, make_images(5)) for name in ("good.0", "bad.0")]
    crash("open SIGSEGV")
    with pytest.raises(ImporterError, match=r"bad\.0: found SIGSEGV .*opening it.*leave the file"):
        convert(paths, tmp_path / "d", **ISOLATED)
    assert not (tmp_path / "d").exists()
    assert children() == []


@pytest.mark.parametrize(("how", "found"), [("SIGSEGV", "SIGSEGV"), ("exit", "exit code 7")])
def test_a_crash_while_samples_are_read(tmp_path: Path, crash: Any, how: str, found: str) -> None:
    images = [make_images(20, k) for k in (0, 1)]
    paths = [
        write_small(tmp_path / name, part)
        for name, part in zip(("good.0", "bad.0"), images, strict=True)
    ]
    out = tmp_path / "d"
    crash(f"read {how}")
    options = {**ISOLATED, "shard_samples": 8}
    with pytest.raises(ImporterError, match=rf"bad\.0: found {found}") as caught:
        convert(paths, out, **options)
    assert "reading samples 12 to 19 of it" in str(caught.value)
    assert "32-39, by exclude" in str(caught.value)  # counted over all sources
    assert all(name.endswith(".kept") for name in names(out))
    assert len(names(out)) == 5
    assert children() == []
    crash(None)
    convert(paths, out, **options)
    assert same_bits(read_images(out), np.concatenate(images))
    assert all(name.endswith((".e2e", ".json")) for name in names(out))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_worker_that_is_killed_for_its_memory(tmp_path: Path, crash: Any, processes: int) -> None:
    path = write_small(tmp_path / "bad.0", make_images(40))
    crash("read SIGKILL")
    with pytest.raises(E2eioError, match=r"bad\.0: found SIGKILL.*memory.*fewer processes"):
        convert(path, tmp_path / "d", **{**ISOLATED, "processes": processes, "shard_samples": 8})
    assert children() == []
    crash(None)
    convert(path, tmp_path / "d", **{**ISOLATED, "shard_samples": 8})
    assert same_bits(read_images(tmp_path / "d"), make_images(40))


def test_excluded_groups_are_not_read_and_cannot_crash(tmp_path: Path, crash: Any) -> None:
    path = write_small(tmp_path / "bad.0", make_images(20))
    crash("read SIGSEGV")
    convert(path, tmp_path / "d", exclude=range(12, 20), **ISOLATED)
    assert same_bits(read_images(tmp_path / "d"), make_images(20)[:12])


def test_samples_that_crash_their_reader_are_found(tmp_path: Path, crash: Any) -> None:
    images = make_images(16)
    paths = [write_small(tmp_path / name, images) for name in ("good.0", "bad.0")]
    options = {**ISOLATED, "shard_samples": 8, "skip_bad": 2}
    crash("0,9 SIGSEGV")
    found = [
        convert(paths, tmp_path / f"d{processes}", **{**options, "processes": processes})
        for processes in (1, 2)
    ]
    assert children() == []
    crash(None)
    expected = convert(paths, tmp_path / "e", **{**options, "isolate": False}, exclude=[16, 25])
    assert {each.content for each in found} == {expected.content}
    assert found[0].digest == found[1].digest
    kept = [row for row in range(16) if row not in (0, 9)]
    assert same_bits(read_images(tmp_path / "d1"), np.concatenate([images, images[kept]]))
    report = json.loads((tmp_path / "d1" / "dataset.skipped.json").read_text())["skipped"]
    assert [(Path(each["source"]).name, each["begin"], each["end"]) for each in report] == [
        ("bad.0", row, row + 1) for row in (0, 9)
    ]
    assert {each["reason"] for each in report} == {"its reader crashed: SIGSEGV"}
    assert found[0].provenance.n_skipped == 2
    assert all(name.endswith((".e2e", ".json")) for name in names(tmp_path / "d1"))


def test_as_many_crashes_as_may_be(tmp_path: Path, crash: Any) -> None:
    """The shards that are finished by then are kept, and what they leave out."""
    path = write_small(tmp_path / "bad.0", make_images(12))
    out, options = tmp_path / "d", {**ISOLATED, "shard_samples": 4}
    crash("3,9,10 exit")
    with pytest.raises(
        ImporterError, match=r"too many bad samples: .*2 or more.* skip_bad = 1"
    ) as e:
        convert(path, out, **{**options, "skip_bad": 1})
    assert "sample 10: its reader crashed: exit code 7" in str(e.value)
    kinds = [name.partition(".")[2] for name in names(out)]
    assert kinds == ["e2e.kept", "e2e.skipped.json", "e2e.kept"]
    content = convert(path, out, **{**options, "skip_bad": 3})
    kept = [row for row in range(12) if row not in (3, 9, 10)]
    assert same_bits(read_images(out), make_images(12)[kept])
    assert content.provenance.n_skipped == 3


def test_a_crash_that_no_sample_does_alone(tmp_path: Path, crash: Any) -> None:
    path = write_small(tmp_path / "bad.0", make_images(20))
    crash("long SIGSEGV")
    with pytest.raises(
        ImporterError, match=r"found SIGSEGV while its process was reading samples 0"
    ):
        convert(path, tmp_path / "d", **{**ISOLATED, "skip_bad": 9})
    assert children() == []


def test_excluded_samples_are_read_around_if_they_crash(tmp_path: Path, crash: Any) -> None:
    path = write_small(tmp_path / "bad.0", make_images(20))
    crash("13 SIGSEGV")
    content = convert(path, tmp_path / "d", exclude=[2, 13], **ISOLATED)
    kept = [row for row in range(20) if row not in (2, 13)]
    assert same_bits(read_images(tmp_path / "d"), make_images(20)[kept])
    assert content.provenance.n_skipped == 0
    with pytest.raises(ImporterError, match=r"found SIGSEGV .* reading samples 2 to 19"):
        convert(path, tmp_path / "e", exclude=[2], **ISOLATED)


def test_a_crash_on_the_command_line(
    tmp_path: Path, crash: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_small(tmp_path / "bad.0", make_images(20))
    crash("open SIGABRT")
    small = ["--shape", "2,6,6", "--channels", "ecal,time", "--quiet"]
    assert main(["convert", str(path), str(tmp_path / "d"), *small]) == 1
    assert "found SIGABRT" in capsys.readouterr().err
    assert main(["convert", str(path), str(tmp_path / "d"), *small, "--no-isolate"]) == 0


def test_workers_end_with_a_caller_that_is_killed(tmp_path: Path) -> None:
    write_small(tmp_path / "a.parquet", make_images(2))
    program = (
        "import time\n"
        "from e2eio.production.workers import Workers\n"
        "from e2eio.conversion.arguments import _reading\n"
        "from e2eio.importers import ImportOptions\n"
        "options = ImportOptions(shape=(2, 6, 6), channels=('a', 'b'))\n"
        "workers = Workers()\n"
        "list(workers.run([_reading('a.parquet', None, options)], 1, print))\n"
        "print(workers._idle[0].process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        worker = int(lines[-1])
        process.send_signal(signal.SIGKILL)
    for _ in range(3000):
        if not Path(f"/proc/{worker}").exists():
            return
        state = Path(f"/proc/{worker}/stat")
        if state.exists() and state.read_text().split()[2] == "Z":
            return
        time.sleep(0.01)
    pytest.fail("the worker is still there")


def test_the_first_worker_never_sees_ctrl_c() -> None:
    program = (
        "import os, signal\n"
        "from e2eio.production import workers\n"
        "worker = workers._start()\n"
        "os.kill(worker.process.pid, signal.SIGINT)\n"  # it has not even begun to import
        "worker.pipe.send((max, (1,)))\n"  # of 1 and a tick: an error, told by one who lives
        "print(worker.pipe.poll(60) and worker.pipe.recv()[0])\n"
        "worker.pipe.close()\n"
        "worker.process.join()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.stdout, done.stderr) == ("error\n", "")
