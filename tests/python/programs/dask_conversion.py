"""Conversions on a Dask cluster and what befalls them; writes datasets and OUT/report.json.

python dask_conversion.py SOURCES OUT
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dask.distributed import Client, LocalCluster

from e2eio import manifest
from e2eio.conversion import convert, make_options, plan_conversion
from e2eio.conversion.cluster import run_on_cluster
from e2eio.errors import E2eioError
from e2eio.progress import make_progress

OPTIONS: dict[str, Any] = {"shard_samples": 8, "progress": False}
TEMPORARY = ".e2eio-tmp-"


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir()) if out.exists() else []


def message(make: Callable[[], object]) -> list[str]:
    try:
        make()
    except E2eioError as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]


def writing(out: Path) -> int:
    """Return the process that is writing a shard, stopped in the middle of it."""
    while True:
        for path in out.glob(f"*{TEMPORARY}*"):
            pid = int(path.name.partition(TEMPORARY)[2].partition("-")[0])
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.02)
                if path.exists() and pid != os.getpid():
                    return pid
                os.kill(pid, signal.SIGCONT)
        time.sleep(0.001)


@contextlib.contextmanager
def killing(out: Path) -> Iterator[list[int]]:
    killed: list[int] = []

    def kill() -> None:
        pid = writing(out)
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    yield killed
    thread.join(timeout=10)


def interrupt_after(out: Path, n_shards: int) -> None:
    while len(list(out.glob("shard-*.e2e"))) < n_shards:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)


def interrupted(sources: list[Path], out: Path, client: Client) -> list[str]:
    threading.Thread(target=interrupt_after, args=(out, 3), daemon=True).start()
    try:
        convert(sources, out, dask=client, **OPTIONS)
    except KeyboardInterrupt:
        return names(out)
    return ["not interrupted"]


def other_files(source: Path, out: Path, client: Client, *, gone: bool) -> None:
    plan = plan_conversion(str(source), make_options(shard_samples=8), progress=False)
    tasks = plan.tasks if gone else [replace(task, fingerprint=b"another") for task in plan.tasks]
    if gone:
        source.unlink()
    out.mkdir()
    run_on_cluster(
        tasks, plan, out, lambda n: None,
        cluster=client, n_processes=None, progress=make_progress(False),
    )  # fmt: skip


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    good = sorted(folder.glob("good-*.parquet"))
    report: dict[str, Any] = {}
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL"
        ) as cluster,
        Client(cluster) as client,
    ):
        convert(good, out / "client", dask=client, **OPTIONS)
        with killing(out / "killed") as killed:
            convert(good, out / "killed", dask=client, **OPTIONS)
        report["killed"] = len(killed)
        bad = [*good, folder / "bad.parquet"]
        report["error"] = message(lambda: convert(bad, out / "error", dask=client, **OPTIONS))
        report["after error"] = names(out / "error")
        report["fingerprint"] = message(
            lambda: other_files(good[0], out / "fingerprint", client, gone=False)
        )
        copy = Path(shutil.copy(good[0], out / "gone.parquet"))
        report["gone"] = message(lambda: other_files(copy, out / "gone", client, gone=True))
        report["interrupted"] = interrupted(good, out / "interrupted", client)
        convert(good, out / "interrupted", processes=1, **OPTIONS)
        convert(good, out / "resumed", processes=1, **OPTIONS)
        for name in (manifest.FILE_NAME, "shard-00001.e2e", "shard-00004.e2e"):
            (out / "resumed" / name).unlink()
        convert(good, out / "resumed", dask=cluster.scheduler_address, **OPTIONS)
        cluster.scheduler.allowed_failures = 0
        with killing(out / "fatal"):
            report["fatal"] = message(lambda: convert(good, out / "fatal", dask=client, **OPTIONS))
        report["after fatal"] = names(out / "fatal")
        report["still open"] = client.submit(int, "7").result()
    (out / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
