"""Where does DALI copy the loader's batches, and what does it cost?

The same jets, one after the other: the plain Loader; the Loader with a copy of each batch; DALI graphs that read the
loader's memory and deliver one pixel, that deliver the images as they come, and that deliver them mirrored. A graph that
reads without a copy costs nothing beside the first; one that copies costs what the second does.

    python benchmarks/dali_copies.py [--dataset DIR] [--batch-size 64] [--seconds 3]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import e2eio
from e2eio import dali
from e2eio.dali.binding import fn
from e2eio.schema import Channel, ImageField, Schema
from e2eio.sim import toy_jets

_NAMES = ("track_pt", "d0", "dz", "ecal", "hcal", "bpix1", "bpix2", "bpix3")


def toy_dataset(out: Path, n: int) -> Path:
    image = ImageField("X_jets", tuple(Channel(name, "GeV") for name in _NAMES), 125, 125)
    with e2eio.write(out, Schema(image, ())) as writer:
        for images, _ in toy_jets(n):
            writer.append(images)
    return out


def contenders(dataset: Path, batch_size: int) -> dict[str, Callable[[], Iterable[Any]]]:
    image = e2eio.Dataset(dataset).schema.image.name
    options: dict[str, Any] = {"batch_size": batch_size, "shuffle": True, "fields": (image,)}
    loader, copied = e2eio.Loader(dataset, **options), e2eio.Loader(dataset, **options)

    def one_pixel(images: Any, _: Any) -> Any:
        return fn.slice(images, start=[0, 0, 0], shape=[1, 1, 1], axes=[0, 1, 2])

    def mirrored(images: Any, _: Any) -> Any:
        return fn.flip(images, vertical=1, horizontal=0)

    reads = dali.iterator(dataset, augment=(one_pixel,), **options)
    passes = dali.iterator(dataset, **options)
    delivers = dali.iterator(dataset, pass_by=False, **options)
    mirrors = dali.iterator(dataset, augment=(mirrored,), **options)
    return {
        "Loader": lambda: loader,
        "Loader, each batch copied": lambda: (images.clone() for (images,) in copied),
        "DALI, images pass by": lambda: passes,
        "DALI, reads the images": lambda: reads,
        "DALI, delivers the images": lambda: delivers,
        "DALI, delivers them mirrored": lambda: mirrors,
    }


def samples_per_second(epoch: Callable[[], Iterable[Any]], n: int, seconds: float) -> float:
    for _ in epoch():  # warm-up: page cache, ring, DALI's pools
        pass
    begin, epochs = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        for _ in epoch():
            pass
        epochs += 1
    return epochs * n / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, help="default: 1,024 toy jets")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each contender")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        dataset = arguments.dataset or toy_dataset(Path(scratch) / "toy", 1024)
        opened = e2eio.Dataset(dataset)
        gigabytes = 4e-9 * opened.schema.image.height * opened.schema.image.width
        gigabytes *= len(opened.channels)
        print(f"{'':32}{'samples/s':>12}{'GB/s dense':>12}")
        for name, epoch in contenders(dataset, arguments.batch_size).items():
            rate = samples_per_second(epoch, len(opened), arguments.seconds)
            print(f"{name:32}{rate:12,.0f}{rate * gigabytes:12.1f}")


if __name__ == "__main__":
    main()
