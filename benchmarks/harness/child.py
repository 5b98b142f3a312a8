"""The parent's end of a contender's process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.contender import (
    ContenderError,
    Inputs,
    MissingError,
    Run,
    Setting,
    VerificationError,
)

__all__ = ["Child"]

BENCHMARKS = Path(__file__).resolve().parents[1]
STOP_S = 10.0
QUIET = {  # what libraries would otherwise say, or ask the network for
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}


class Child:
    """A contender in a process of its own, asked by lines of JSON (see `harness.servant`).

    Parameters
    ----------
    name : str
        What the contender is called in messages.
    module : str, optional
        Its module; `contenders.<name>` if none is given.
    python : str, optional
        The interpreter that has its packages; this one if none is given.
    timeout_s : float
        How long to wait for an answer before the contender counts as hanging.
    """

    def __init__(
        self, name: str, module: str = "", *, python: str = "", timeout_s: float = 600.0
    ) -> None:
        self.name = name
        self.is_ready = False
        self._timeout_s = timeout_s
        self._unread = b""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        paths = [str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])]
        try:
            self._process = subprocess.Popen(
                [python or sys.executable, "-m", "harness.servant", module or f"contenders.{name}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if os.environ.get("E2EIO_BENCH_DEBUG") else self._said,
                env={**QUIET, **os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # so that its workers can be ended with it
            )
        except OSError as error:
            self._said.close()
            raise ContenderError(f"{name}: cannot start {python}: {error.strerror}") from error

    def wait_ready(self) -> None:
        """Wait until the contender's modules are loaded."""
        self._answer()
        self.is_ready = True

    def settings(self, inputs: Inputs) -> list[Setting]:
        return self._call("settings", inputs=asdict(inputs))  # type: ignore[no-any-return]

    def write(self, inputs: Inputs) -> None:
        self._call("write", inputs=asdict(inputs))

    def prepare(self, inputs: Inputs, setting: Setting) -> None:
        self._call("prepare", inputs=asdict(inputs), setting=setting)

    def verify(self) -> int:
        return int(self._call("verify"))

    def run(self, seconds: float) -> Run:
        return Run(**self._call("run", seconds=seconds))

    def report(self) -> tuple[float, Setting]:
        peak_rss_mb, details = self._call("report")
        return peak_rss_mb, details

    def dismiss(self) -> None:
        """Tell the process to end, without waiting for it. Idempotent."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it is gone already
                self._process.stdin.close()

    def stop(self) -> None:
        """End the process and its workers; it gets a few seconds to tidy up. Idempotent."""
        self.dismiss()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()

    def _call(self, command: str, **arguments: object) -> Any:
        line = json.dumps({"command": command, **arguments}) + "\n"
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise ContenderError(f"{self.name}: its process is gone{self._last_words()}") from error
        return self._answer()

    def _answer(self) -> Any:
        told = json.loads(self._read_line())
        ((kind, value),) = told.items()
        if kind == "ok":
            return value
        failure = {"wrong": VerificationError, "missing": MissingError}.get(kind, ContenderError)
        raise failure(f"{self.name}: {value}")

    def _read_line(self) -> bytes:
        """Read a line, for as long as the process lives: its workers may hold the pipe open."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        end = time.monotonic() + self._timeout_s
        while b"\n" not in self._unread:
            has_ended = self._process.poll() is not None
            if select.select([pipe], [], [], 0 if has_ended else 0.2)[0]:
                piece = os.read(pipe, 65536)
                self._unread += piece
                if piece:
                    continue
                has_ended = True
            if has_ended:
                raise ContenderError(f"{self.name}: its process died{self._last_words()}")
            if time.monotonic() > end:
                self._kill()
                raise ContenderError(f"{self.name}: no answer within {self._timeout_s:.0f} s")
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _last_words(self) -> str:
        """Say how the process ended: its signal or exit code, and the last line of its stderr."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        code = self._process.returncode
        end = "" if code is None else f" (signal {-code})" if code < 0 else f" (exit code {code})"
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - 4096))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f"{end}: {lines[-1].strip()[:300]}" if lines else end
