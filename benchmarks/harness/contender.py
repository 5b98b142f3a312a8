"""The interface of a contender, and the process it lives in.

A contender is a module of `contenders` with a function `create() -> Contender`. It lives in one
long-lived process (spawned, so that its imports and its peak memory are its own) that obeys
commands: prepare, verify, run, report.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import math
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Child",
    "Contender",
    "ContenderError",
    "Inputs",
    "Run",
    "Setting",
    "VerificationError",
    "digest_sample",
    "verify_epoch",
]

Setting = dict[str, int | str]
Batch = tuple[Sized, object]


class ContenderError(Exception):
    """A contender failed; the message says which one and why."""


class VerificationError(ContenderError):
    """A contender delivered something else than the reference."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What contenders read, and how they are asked to deliver it.

    `files` maps a format ("e2eio", "parquet", "hdf5", "npy"), the labels "y" and the digests
    "reference" to paths; `shape` is (C, H, W); `threads` is
    the number of decoding threads or worker processes; `ring_slots` the batches a ring holds.
    """

    files: dict[str, str]
    n_samples: int
    shape: tuple[int, int, int]
    batch_size: int
    threads: int
    ring_slots: int = 4

    @property
    def batch_bytes(self) -> int:
        return 4 * self.batch_size * math.prod(self.shape)


class Contender(Protocol):
    """One way to deliver batches of images."""

    def settings(self, inputs: Inputs) -> list[Setting]:
        """List the settings to time; the fastest is reported. Called before `prepare`."""

    def prepare(self, inputs: Inputs, setting: Setting) -> None:
        """Open the input with one of the settings."""

    def verify(self, inputs: Inputs) -> int:
        """Compare what is delivered with the reference; return the number of samples compared.

        Raises VerificationError where they differ.
        """

    @property
    def unit(self) -> int:
        """Number of batches that a timed run is a multiple of."""

    def batches(self, n: int) -> Iterator[Batch]:
        """Deliver n batches (a multiple of `unit`) of (images [b, C, H, W], labels [b])."""

    def details(self) -> Setting:
        """Return facts worth reporting."""

    def close(self) -> None:
        """Free everything."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one timed run delivered."""

    n_samples: int
    n_batches: int
    seconds: float

    @property
    def samples_per_s(self) -> float:
        return self.n_samples / self.seconds


def digest_sample(image: NDArray[np.float32], label: float) -> str:
    """Name a sample [C, H, W] and its label by their bits."""
    digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
    digest.update(np.float32(label).tobytes())
    return digest.hexdigest()


def verify_epoch(
    batches: Iterable[tuple[object, object]],
    inputs: Inputs,
    reference: Iterable[str] | None = None,
) -> int:
    """Compare one epoch, in any order, with the reference, bit by bit.

    Every sample of the reference has to arrive exactly once with its own label.

    Parameters
    ----------
    batches : iterable of (images, labels)
        float32 [b, C, H, W] and [b].
    inputs : Inputs
        Says shape and, by its file "reference", the digests to expect.
    reference : iterable of str, optional
        The digests, if not from the file.

    Returns
    -------
    int
        The number of samples compared.

    Raises
    ------
    VerificationError
        If shape, dtype, any bit of an image, a label or the number of deliveries is wrong.
    """
    if reference is None:
        reference = Path(inputs.files["reference"]).read_text(encoding="ascii").split()
    missing = Counter(reference)
    n = 0
    for images, labels in batches:
        x, y = np.asarray(images), np.asarray(labels)
        if x.dtype != np.float32 or x.shape != (len(x), *inputs.shape) or y.shape != (len(x),):
            raise VerificationError(
                f"wrong batch: found {x.dtype} {x.shape} and labels {y.shape}, "
                f"expected float32 (n, *{inputs.shape}) and (n,)"
            )
        missing.subtract(
            digest_sample(image, float(label)) for image, label in zip(x, y, strict=True)
        )
        n += len(x)
    wrong = sum(-count for count in missing.values() if count < 0)
    absent = sum(count for count in missing.values() if count > 0)
    if wrong or absent:
        raise VerificationError(
            f"wrong samples: {wrong} of {n} delivered are not as in the reference, "
            f"{absent} of the reference never came"
        )
    return n


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


class _Servant:
    """Runs inside the child; one method per command."""

    def __init__(self, name: str) -> None:
        module = importlib.import_module(f"contenders.{name}")
        self._contender: Contender = module.create()
        self._inputs: Inputs | None = None
        self._batch_s = 0.0

    def settings(self, inputs: Inputs) -> list[Setting]:
        return self._contender.settings(inputs)

    def prepare(self, inputs: Inputs, setting: Setting) -> None:
        if self._inputs is not None:
            self._contender.close()
        self._contender.prepare(inputs, setting)
        self._inputs = inputs
        self._batch_s = 0.0

    def verify(self) -> int:
        if self._inputs is None:
            raise ContenderError("verify before prepare")
        return self._contender.verify(self._inputs)

    def run(self, seconds: float) -> Run:
        """Deliver for about so long, after a short untimed start; the consumer does nothing."""
        if not self._batch_s:
            first = self._start_up()
            self._batch_s = first.seconds / first.n_batches
            if first.seconds >= seconds:  # so slow that a second run would only cost time
                return first
        elif self._batch_s < 0.1:
            self._time(max(1, math.ceil(0.1 / self._batch_s)))
        run = self._time(math.ceil(seconds / self._batch_s))
        self._batch_s = run.seconds / run.n_batches
        return run

    def report(self) -> tuple[float, Setting]:
        return _peak_rss_mb(), self._contender.details()

    def close(self) -> None:
        self._contender.close()

    def _start_up(self) -> Run:
        n = 1
        while True:
            run = self._time(n)
            if run.seconds > 0.1:
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
        return Run(n_samples, n_batches, seconds)


def _serve(pipe: Connection, name: str) -> None:
    """Obey commands until the pipe closes."""
    try:
        servant = _Servant(name)
        pipe.send(("ok", None))
    except Exception as error:
        pipe.send(("error", f"{type(error).__name__}: {error}"))
        return
    while True:
        try:
            command, *arguments = pipe.recv()
        except EOFError:
            break
        try:
            pipe.send(("ok", getattr(servant, command)(*arguments)))
        except VerificationError as error:
            pipe.send(("wrong", str(error)))
        except Exception as error:
            if os.environ.get("E2EIO_BENCH_DEBUG"):
                traceback.print_exc()
            pipe.send(("error", f"{type(error).__name__}: {error}"))
    servant.close()


class Child:
    """The parent's end of a contender's process.

    Parameters
    ----------
    name : str
        Module of `contenders`.
    timeout_s : float
        How long to wait for an answer before the contender counts as hanging.
    """

    def __init__(self, name: str, *, timeout_s: float = 600.0) -> None:
        self.name = name
        self._timeout_s = timeout_s
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name), name=name)
        self._process.start()
        theirs.close()
        self.is_ready = False

    def wait_ready(self) -> None:
        """Wait until the contender's modules are loaded."""
        self._answer()
        self.is_ready = True

    def settings(self, inputs: Inputs) -> list[Setting]:
        return self._call("settings", inputs)  # type: ignore[return-value]

    def prepare(self, inputs: Inputs, setting: Setting) -> None:
        self._call("prepare", inputs, setting)

    def verify(self) -> int:
        return self._call("verify")  # type: ignore[return-value]

    def run(self, seconds: float) -> Run:
        return self._call("run", seconds)  # type: ignore[return-value]

    def report(self) -> tuple[float, Setting]:
        return self._call("report")  # type: ignore[return-value]

    def dismiss(self) -> None:
        """Tell the process to end, without waiting for it. Idempotent."""
        self._pipe.close()

    def stop(self) -> None:
        """End the process; it gets a few seconds to tidy up. Idempotent."""
        self.dismiss()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _call(self, *command: object) -> object:
        try:
            self._pipe.send(command)
        except OSError as error:
            raise ContenderError(f"{self.name}: its process is gone") from error
        return self._answer()

    def _answer(self) -> object:
        if not self._pipe.poll(self._timeout_s):
            raise ContenderError(f"{self.name}: no answer within {self._timeout_s:.0f} s")
        try:
            status, value = self._pipe.recv()
        except EOFError as error:
            raise ContenderError(f"{self.name}: its process died") from error
        if status == "wrong":
            raise VerificationError(f"{self.name}: {value}")
        if status == "error":
            raise ContenderError(f"{self.name}: {value}")
        return value
