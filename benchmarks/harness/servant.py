"""The contender's end of its process: obeys commands that come as lines of JSON.

``python -m harness.servant MODULE`` runs in any interpreter that has numpy and the contender's
packages. A command is a line ``{"command": name, ...}``; its answer is a line with one key: "ok"
(the value), "missing" (a package), "wrong" (what is delivered is not the reference) or "error".
Answers go to what was stdout at the start; what libraries print goes to stderr.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import multiprocessing
import os
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from harness.contender import (
    Contender,
    ContenderError,
    Inputs,
    Run,
    Setting,
    VerificationError,
    WritesFiles,
)

__all__ = ["Servant", "main"]

START_S = 0.1  # how long batches are delivered untimed at least before a timed run


class Servant:
    """Runs one contender; a method per command.

    Parameters
    ----------
    contender : Contender
    """

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self._inputs: Inputs | None = None
        self._batch_s = 0.0

    def settings(self, inputs: dict[str, Any]) -> list[Setting]:
        return self._contender.settings(_inputs(inputs))

    def write(self, inputs: dict[str, Any]) -> None:
        """Have the contender write its files into `inputs.folder`; nothing if it has none."""
        told = _inputs(inputs)
        if isinstance(self._contender, WritesFiles):
            self._contender.write(told, Path(told.folder))

    def prepare(self, inputs: dict[str, Any], setting: Setting) -> None:
        if self._inputs is not None:
            self._contender.close()
        told = _inputs(inputs)
        self._contender.prepare(told, setting)
        self._inputs = told
        self._batch_s = 0.0

    def verify(self) -> int:
        if self._inputs is None:
            raise ContenderError("verify before prepare")
        return self._contender.verify(self._inputs)

    def run(self, seconds: float) -> dict[str, Any]:
        """Deliver for about so long, after a short untimed start; the consumer does nothing."""
        if not self._batch_s:
            first = self._start_up()
            self._batch_s = first.seconds / first.n_batches
            if first.seconds >= seconds:  # so slow that a second run would only cost time
                return asdict(first)
        else:
            untimed = math.ceil(START_S / self._batch_s) if self._batch_s < START_S else 0
            # Batches that were made ready during the turns of others are not to be counted.
            untimed = max(untimed, int(getattr(self._contender, "n_ahead", 0)))
            if untimed:
                self._time(untimed)
        run = self._time(math.ceil(seconds / self._batch_s))
        self._batch_s = run.seconds / run.n_batches
        return asdict(run)

    def report(self) -> list[Any]:
        return [_peak_rss_mb(), self._contender.details()]

    def close(self) -> None:
        self._contender.close()

    def _start_up(self) -> Run:
        n = 1
        while True:
            run = self._time(n)
            if run.seconds > START_S:
                return run
            n = 2 * run.n_batches

    def _time(self, n: int) -> Run:
        unit = self._contender.unit
        n_samples = n_batches = 0
        gc.collect()
        gc.disable()
        try:
            start = time.perf_counter()
            for images, _ in self._contender.batches(math.ceil(n / unit) * unit):
                n_samples += len(images)
                n_batches += 1
            seconds = time.perf_counter() - start
        finally:
            gc.enable()
        if n_batches == 0:
            raise ContenderError("it delivered no batch")
        return Run(n_samples, n_batches, seconds)


def main(module: str) -> None:
    """Obey commands until stdin ends."""
    commands, answers = _take_pipes()

    def answer(kind: str, value: object) -> None:
        answers.write(json.dumps({kind: value}, default=_plain) + "\n")
        answers.flush()

    try:
        servant = Servant(importlib.import_module(module).create())
    except ImportError as error:
        answer("missing", _say(error))
        return
    except Exception as error:
        answer("error", _say(error))
        return
    answer("ok", None)
    for line in commands:
        arguments = json.loads(line)
        try:
            answer("ok", getattr(servant, arguments.pop("command"))(**arguments))
        except VerificationError as error:
            answer("wrong", str(error))
        except ImportError as error:  # many packages import what a format needs when it is used
            answer("missing", _say(error))
        except Exception as error:
            traceback.print_exc()
            answer("error", _say(error))
    servant.close()


def _take_pipes() -> tuple[IO[str], IO[str]]:
    """Take stdin and stdout for the protocol alone: libraries, and their workers, get others."""
    commands = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return commands, answers


def _inputs(told: dict[str, Any]) -> Inputs:
    return Inputs(**{**told, "shape": tuple(told["shape"])})


def _say(error: Exception) -> str:
    """Say an error in a line; of those that carry a traceback of a worker, the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = lines[-1] if "Traceback" in str(error) else " ".join(lines)
    return f"{type(error).__name__}: {text[:300]}"


def _plain(value: Any) -> object:
    """Turn a numpy number into Python's."""
    return value.item() if hasattr(value, "item") else str(value)


def _read_peak_mb(pid: int | str) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return next(
        (int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")),
        0.0,
    )


def _peak_rss_mb() -> float:
    """Peak memory of this process and its workers, added up (shared pages count in each)."""
    own = _read_peak_mb("self")
    if not own:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**20 if sys.platform == "darwin" else 2**10
        )
    children = [process.pid for process in multiprocessing.active_children() if process.pid]
    return own + sum(_read_peak_mb(pid) for pid in children)


if __name__ == "__main__":
    main(sys.argv[1])
