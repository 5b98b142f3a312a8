"""A small dataset, and what a DataLoader makes of it, for the tests of e2eio.DataLoader."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import e2eio
from e2eio.schema import Channel, ImageField, ScalarField, Schema

N, C, H, W = 61, 3, 12, 12


def toy_images(n: int = N, seed: int = 3) -> NDArray[np.float32]:
    """Sparse images [n, 3, 12, 12], of which no two are equal."""
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((n, C, H, W)) < 0.1, rng.normal(size=(n, C, H, W)), 0.0)
    dense[:, 0, 0, 0] = np.arange(1, n + 1)
    return dense.astype(np.float32)


def write_toy(out: Path, n: int = N, begin: int = 0, **options: Any) -> e2eio.Dataset:
    """Write samples whose field `i` counts from `begin`."""
    schema = Schema(
        ImageField("X", tuple(Channel(name, "GeV") for name in ("a", "b", "c")), H, W),
        (
            ScalarField("y", "float32", ""),
            ScalarField("i", "int64", ""),
            ScalarField("flag", "bool", ""),
            ScalarField("m", "float64", ""),
            ScalarField("k", "uint8", ""),
        ),
    )
    number = np.arange(begin, begin + n)
    with e2eio.write(out, schema, **options) as writer:
        writer.append(
            toy_images(n, seed=begin),
            {
                "y": number.astype(np.float32) / 4,
                "i": number,
                "flag": number % 3 == 0,
                "m": number / 3,
                "k": (number % 256).astype(np.uint8),
            },
        )
    return e2eio.Dataset(out)


def global_states() -> tuple[Any, ...]:
    """The global random numbers of Python, numpy and torch."""
    numpys = pickle.dumps(np.random.get_state())
    return random.getstate(), numpys, torch.get_rng_state().numpy().tobytes()


def reseed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def numbers(batch: Any) -> Any:
    """The numbers of a batch's samples."""
    return np.asarray(batch["i"]).tolist()


def outcome_of(iterator: Any) -> Any:
    """The next batch's numbers, or the error in its place."""
    try:
        return numbers(next(iterator))
    except Exception as error:
        return error


def assert_done(program: str, ds: e2eio.Dataset) -> None:
    """Run a program over the directory of a dataset; at its end it prints "done"."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(Path(ds.readers[0].path).parent)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "done\n", done.stderr


def epochs_of(
    make: Callable[[], Any], n_epochs: int = 2, most: int = 40, at_each: Callable[[], Any] = tuple
) -> Iterator[Any]:
    """Everything observable about some epochs of a loader: batches, and random numbers after each."""
    loader = make()
    for epoch in range(n_epochs):
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(epoch)
        iterator = iter(loader)
        yield global_states()
        for _ in range(most):
            try:
                batch = next(iterator)
            except StopIteration:
                yield "end", global_states(), at_each()
                break
            yield batch, global_states(), at_each()
