from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e2eio.cli.main import main
from e2eio.conversion import convert
from e2eio.errors import ConfigError, ImporterError
from e2eio.sim import toy_jets

pytest.importorskip("dask.distributed")

PROGRAM = Path(__file__).parent / "programs" / "dask_conversion.py"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "convert_slurm.py"
TIMEOUT_S = 240
N_JETS, N_FILES, SHARD = 40, 2, 8
# Nothing that a machine's settings could add, and the same time in each manifest.
ENVIRONMENT = {**os.environ, "SOURCE_DATE_EPOCH": "0", "DASK_LOGGING__DISTRIBUTED": "critical"}


def write_jets(path: Path, seed: int) -> Path:
    writer = None
    for images, scalars in toy_jets(N_JETS, seed=seed, chunk_size=4):
        rows = list(images.transpose(0, 2, 3, 1).reshape(len(images), -1))
        columns = {"X_jets": pa.array(rows), **{n: pa.array(v) for n, v in scalars.items()}}
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema, write_page_checksum=True)
        writer.write_table(table, row_group_size=4)
    assert writer is not None
    writer.close()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for k in range(N_FILES):
        write_jets(folder / f"good-{k}.parquet", k)
    data = bytearray((folder / "good-0.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "bad.parquet").write_bytes(data)
    return folder


def good(folder: Path) -> list[Path]:
    return sorted(folder.glob("good-*.parquet"))


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def serial(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("serial")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "0")
        convert(good(folder), out, shard_samples=SHARD, processes=1, progress=False)
    return files(out)


@pytest.fixture(scope="module")
def out(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dask")
    run([str(PROGRAM), str(folder), str(out)])
    return out


@pytest.fixture(scope="module")
def report(out: Path) -> dict[str, Any]:
    found = json.loads((out / "report.json").read_text())
    assert isinstance(found, dict)
    return found


def run(arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=TIMEOUT_S,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_cluster_equals_serial_byte_for_byte(out: Path, serial: dict[str, bytes]) -> None:
    assert len(serial) == 1 + N_JETS * N_FILES // SHARD
    assert files(out / "client") == serial


def test_a_killed_worker_costs_its_task_only(
    out: Path, report: dict[str, Any], serial: dict[str, bytes]
) -> None:
    assert report["killed"] == 1
    assert files(out / "killed") == serial


def test_errors_name_the_file_as_the_serial_conversion_does(
    folder: Path, tmp_path: Path, report: dict[str, Any]
) -> None:
    kind, text = report["error"]
    assert kind == "ImporterError"
    assert str(folder / "bad.parquet") in text
    with pytest.raises(ImporterError) as error:
        convert(
            [*good(folder), folder / "bad.parquet"],
            tmp_path / "d",
            shard_samples=SHARD,
            processes=1,
            progress=False,
        )
    assert str(error.value) == text
    assert all(name.endswith(".kept") for name in report["after error"])


def test_another_file_under_the_same_name_is_refused(folder: Path, report: dict[str, Any]) -> None:
    kind, text = report["fingerprint"]
    assert kind == "ImporterError"
    assert "source differs on worker" in text
    assert str(folder / "good-0.parquet") in text


def test_a_source_that_a_worker_does_not_see(out: Path, report: dict[str, Any]) -> None:
    kind, text = report["gone"]
    assert kind == "ShardNotFoundError"
    assert text.startswith("no such file on worker ")
    assert str(out / "gone.parquet") in text


def test_interrupt_leaves_complete_shards_that_a_serial_run_goes_on_from(
    out: Path, report: dict[str, Any], serial: dict[str, bytes]
) -> None:
    left = report["interrupted"]
    assert 3 <= len(left) < len(serial) - 1
    assert set(left) < set(serial)
    content = files(out / "interrupted")
    assert {n: v for n, v in content.items() if n != "dataset.json"} == shards_of(serial)


def test_cluster_goes_on_from_a_serial_run(out: Path, serial: dict[str, bytes]) -> None:
    assert shards_of(files(out / "resumed")) == shards_of(serial)


def shards_of(content: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in content.items() if name.endswith(".e2e")}


def test_a_task_that_kills_its_workers_ends_the_conversion(report: dict[str, Any]) -> None:
    kind, text = report["fatal"]
    assert kind == "E2eioError"
    assert "has killed 1 workers" in text
    assert all(name.endswith(".kept") for name in report["after fatal"])
    assert report["still open"] == 7


def test_local_cluster_from_a_program_without_a_main_guard(
    folder: Path, tmp_path: Path, serial: dict[str, bytes]
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, e2eio\n"
        "print('begun')\n"
        f"e2eio.convert(sys.argv[2:], sys.argv[1], shard_samples={SHARD}, dask=True)\n"
    )
    done = run([str(program), str(tmp_path / "d"), *map(str, good(folder))])
    assert done.stdout == "begun\n"
    assert files(tmp_path / "d") == serial
    assert "on Dask: tcp://127.0.0.1" in done.stderr
    assert f"converted {N_JETS * N_FILES} of {N_JETS * N_FILES}" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_on_the_command_line(folder: Path, tmp_path: Path, serial: dict[str, bytes]) -> None:
    out = tmp_path / "d"
    words = ["-m", "e2eio", "convert", *map(str, good(folder)), str(out), "--shard-samples", "8"]
    process = subprocess.Popen(
        [sys.executable, *words, "--dask"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    while process.poll() is None and not list(out.glob("shard-*.e2e")):
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it as well
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, stdout + stderr
    assert stderr.splitlines()[-1].startswith("e2eio: interrupted: complete shards stay")
    assert "Traceback" not in stderr
    left = files(out)
    assert left
    assert left.items() <= serial.items()
    until = time.monotonic() + 60
    while time.monotonic() < until and alive(process.pid):
        time.sleep(0.01)
    assert not alive(process.pid)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("scheduler", ["a.parquet", "host:8786", 7])
def test_what_is_no_scheduler_is_refused(folder: Path, tmp_path: Path, scheduler: Any) -> None:
    with pytest.raises(ConfigError, match="no Dask scheduler"):
        convert(good(folder), tmp_path / "d", dask=scheduler, progress=False)
    assert not (tmp_path / "d").exists()


def test_scheduler_and_processes_exclude_each_other(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of them"):
        convert(good(folder), tmp_path / "d", dask="tcp://a:1", processes=2)


def test_a_source_is_not_taken_for_a_scheduler(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--dask", "a.parquet", "b.parquet", "out"]) == 2
    assert "write --dask last" in capsys.readouterr().err


def test_a_scheduler_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from e2eio.conversion import cluster\n"
        "cluster._CONNECT_S = 1\n"
        "from e2eio.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["convert", str(good(folder)[0]), str(tmp_path / "d"), "--dask", "tcp://127.0.0.1:1"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 1
    assert "e2eio: no Dask scheduler: tcp://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "d").exists()


def test_cluster_example_runs_here(folder: Path, tmp_path: Path, serial: dict[str, bytes]) -> None:
    done = run(
        [str(EXAMPLE), str(tmp_path / "d"), *map(str, good(folder)), "--local", "--jobs", "2"]
    )
    assert done.stdout == f"{tmp_path / 'd'}: {N_JETS * N_FILES} samples in 2 shard(s)\n"
    convert(good(folder), tmp_path / "serial", processes=1, progress=False)
    assert shards_of(files(tmp_path / "d")) == shards_of(files(tmp_path / "serial"))


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (
            "slurm",
            [
                *("#SBATCH --cpus-per-task=4", "#SBATCH -p short", "#SBATCH -A higgs"),
                *("#SBATCH --mem=8G", "#SBATCH -t 01:00:00", "#SBATCH --requeue"),
            ],
        ),
        (
            "htcondor",
            ["RequestCpus = MY.DaskWorkerCores", "RequestDisk = ", "Executable = /bin/sh"],
        ),
    ],
)
def test_job_scripts_of_the_example(tmp_path: Path, system: str, expected: list[str]) -> None:
    # Not imported here: that would take this process's SIGINT from the tests which follow.
    if importlib.util.find_spec("dask_jobqueue") is None:
        pytest.skip("no dask_jobqueue")
    words = ["out", "a.parquet", "--print", "--system", system, "--cores", "4", "--memory", "8GiB"]
    words += ["--queue", "short", "--account", "higgs", "--walltime", "01:00:00"]
    script = run([str(EXAMPLE), *words], cwd=tmp_path).stdout
    for line in expected:
        assert line in script
    assert "distributed.cli.dask_worker tcp://" in script
    assert "--nthreads 1 " in script
    assert "--nworkers 4 " in script
    assert "--death-timeout 120" in script
    assert sys.executable in script


LEAVES_CTRL_C = """
import runpy, signal, sys
sys.argv = [sys.argv[1], "out", "a.parquet", "--print"]
runpy.run_path(sys.argv[0], run_name="__main__")
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


def test_the_example_leaves_ctrl_c_to_python(tmp_path: Path) -> None:
    # dask_jobqueue makes it an exit when imported.
    if importlib.util.find_spec("dask_jobqueue") is None:
        pytest.skip("no dask_jobqueue")
    assert run(["-c", LEAVES_CTRL_C, str(EXAMPLE)], cwd=tmp_path).returncode == 0
