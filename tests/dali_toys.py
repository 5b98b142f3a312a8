"""Toy images, a dataset of them, and DALI graphs over either; import it where DALI is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import e2eio
from e2eio import dali
from e2eio.dali.binding import fn, pipeline_def
from e2eio.schema import Channel, ImageField, ScalarField, Schema

Images = NDArray[np.float32]
NAMES = ("track_pt", "d0", "dz", "ecal", "hcal")
N, C, H, W = 50, 5, 40, 40
SHAPE = (C, H, W)
BATCH = 8
N_BATCHES = 7


def toy_images() -> Images:
    """Images [50, 5, 40, 40]: tracks with impact parameters of both signs, ECAL pixels, HCAL towers of 5 x 5."""
    rng = np.random.default_rng(3)
    x = np.where(rng.random((N, C, H, W)) < 0.1, 20 * rng.exponential(size=(N, C, H, W)), 0.0)
    x[:, 1:3] *= np.where(rng.random((N, 2, H, W)) < 0.5, -0.05, 0.05)
    towers = rng.exponential(size=(N, 8, 8)) * (rng.random((N, 8, 8)) < 0.3)
    x[:, 4] = np.kron(towers, np.ones((5, 5)))
    return (x + 0.0).astype(np.float32)


def write_toy(out: Path) -> Path:
    """Write them as "X", with their numbers as "y"."""
    units = ("GeV", "cm", "cm", "GeV", "GeV")
    channels = tuple(Channel(*pair) for pair in zip(NAMES, units, strict=True))
    schema = Schema(ImageField("X", channels, H, W), (ScalarField("y", "float32", ""),))
    with e2eio.write(out, schema) as writer:
        writer.append(toy_images(), {"y": np.arange(N, dtype=np.float32)})
    return out


def graphs(
    images: Images, define: Callable[[Any], Any], *, n: int, seed: int
) -> list[list[NDArray[Any]]]:
    """The outputs of the first n runs of a graph over images [n, C, H, W]."""

    def feed(_: int) -> Images:
        return images

    @pipeline_def(batch_size=len(images), num_threads=2, device_id=None, seed=seed)  # type: ignore[untyped-decorator]
    def make() -> Any:
        return define(fn.external_source(feed, layout="CHW"))

    pipe = make()
    return [[np.array(output.as_tensor()) for output in pipe.run()] for _ in range(n)]


def graph(
    images: Images, define: Callable[[Any], Any], *, n: int = 1, seed: int = 5
) -> list[NDArray[Any]]:
    """The outputs of the n-th run."""
    return graphs(images, define, n=n, seed=seed)[-1]


def apply(images: Images, function: Callable[..., Any], **options: Any) -> Images:
    (result,) = graph(images, lambda x: function(x, images.shape[1:], **options))
    return result


def bits(x: NDArray[Any]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(x).view(np.uint32)


def batches_of(batches: Any) -> list[Any]:
    """Batches as they were when they came."""
    return [
        {k: v.clone() for k, v in b.items()} if isinstance(b, dict) else [v.clone() for v in b]
        for b in batches
    ]


def same_batches(found: Sequence[Any], expected: Sequence[Any]) -> bool:
    return len(found) == len(expected) and all(
        torch.equal(a[k], b[k])
        for a, b in zip(found, expected, strict=True)
        for k in (a if isinstance(a, dict) else range(len(a)))
    )


def pipe_of(
    given: e2eio.Loader, *, checkpoint: Any = None, checkpointed: bool = False, **options: Any
) -> Any:
    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=BATCH,
        num_threads=2,
        device_id=None,
        enable_checkpointing=checkpointed,
        checkpoint=checkpoint,
    )
    def graph() -> Any:
        return dali.reader(given, **options)

    pipe = graph()
    pipe.build()
    return pipe


def epoch_of(pipe: Any) -> Iterator[tuple[NDArray[Any], ...]]:
    while True:
        try:
            outputs = pipe.run()
        except StopIteration:
            pipe.reset()
            return
        yield tuple(np.array(output.as_tensor()) for output in outputs)


def assert_same_bits(found: Any, expected: Any) -> None:
    found, expected = list(found), [tuple(np.array(x) for x in batch) for batch in expected]
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert a.tobytes() == b.tobytes()
