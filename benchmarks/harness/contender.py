"""The interface of a contender, and the comparison of what it delivers with the truth.

A contender is a module of `contenders` with a function `create() -> Contender`. It lives in one
long-lived process of its own (`harness.servant`), with the interpreter of its environment, that
obeys commands: write, prepare, verify, run, report. Nothing here needs more than numpy.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Contender",
    "ContenderError",
    "Inputs",
    "MissingError",
    "Run",
    "Setting",
    "VerificationError",
    "WritesFiles",
    "digest_sample",
    "verify_epoch",
]

Setting = dict[str, int | str]
Batch = tuple[Sized, object]


class ContenderError(Exception):
    """A contender failed; the message says which one and why."""


class VerificationError(ContenderError):
    """A contender delivered something else than the reference."""


class MissingError(ContenderError):
    """A contender's package is not installed; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What contenders read, and how they are asked to deliver it.

    `files` maps a format ("e2eio", "parquet", "hdf5", "npy"), the labels "y" and the digests
    "reference" to paths; `shape` is (C, H, W); `threads` is
    the number of decoding threads or worker processes; `ring_slots` the batches a ring holds;
    `folder` is where the contender has files of its own (see `WritesFiles`).
    """

    files: dict[str, str]
    n_samples: int
    shape: tuple[int, int, int]
    batch_size: int
    threads: int
    ring_slots: int = 4
    folder: str = ""

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


@runtime_checkable
class WritesFiles(Protocol):
    """A contender that reads files of its own format.

    It may have an attribute `n_ahead: int` as well: batches that are ready while others have their
    turn, which a timed run begins with and does not count.
    """

    def write(self, inputs: Inputs, folder: Path) -> None:
        """Write the jets of `inputs.files["npy"]` and ["y"] into the folder, which is empty."""


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
