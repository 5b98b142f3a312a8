"""Transforms of e2eio.transforms as steps of a graph: the same words, run by DALI on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from e2eio import _core
from e2eio.dali import cells, geometry, masks
from e2eio.dali.nodes import Shape
from e2eio.dali.values import VALUE_OPS, apply_values
from e2eio.errors import ConfigError
from e2eio.loader import Loader
from e2eio.transforms import Transform, compile_transforms
from e2eio.transforms.target import SpecTuple

__all__ = ["Step", "apply", "image_shape"]

#: Images and their (C, H, W) to images of the same (C, H, W).
Step = Callable[[Any, Shape], Any]

# Each step of a chain draws for itself; a step may use that many seeds (one per channel).
_SEEDS_PER_STEP = 100_000


def apply(
    images: Any, loader: Loader, steps: Sequence[Transform | Step], *, seed: int | None = None
) -> tuple[Any, Shape]:
    """Return images after transforms, done by DALI on the device where the images are.

    Parameters
    ----------
    images : DataNode
        float32 [C, H, W], as the loader delivers them.
    loader : Loader
        Knows the channels, the granularity and the statistics.
    steps : sequence of Transform or callable
        In this order. Callables get the images and (C, H, W) and return images of the same shape.
    seed : int or None
        Of all random draws of transforms; None: from the pipeline's.

    Returns
    -------
    images : DataNode
        float32 [C, H, W].
    shape : tuple of int
        (C, H, W), other than the loader's after Crop and Pad.

    Raises
    ------
    ConfigError
        A step is neither, or does not fit the dataset.
    """
    compiled = [_compiled(loader, step, number) for number, step in enumerate(steps)]
    _check_together(loader, [spec for specs in compiled for spec in specs])
    shape = image_shape(loader)
    for number, (step, specs) in enumerate(zip(steps, compiled, strict=True)):
        if not isinstance(step, Transform):
            images = step(images, shape)
        for place, spec in enumerate(specs):
            own = None if seed is None else seed + _SEEDS_PER_STEP * (number + 1) + 1000 * place
            images, shape = _run(images, shape, spec, own)
    return images, shape


def image_shape(loader: Loader) -> Shape:
    """Return (C, H, W) of the images that a loader delivers."""
    image = loader.dataset.schema.image
    height, width = image.height, image.width
    for op, _, _, _, integers in loader.options["transforms"]:
        if op == "refine":
            height, width = height * 3, width * 3
        elif op == "coarsen":
            height, width = height // 3, width // 3
        elif op in ("crop", "pad"):
            height, width = integers[:2]
        elif op == "rot90" and integers in ([1, 1], [3, 3]):
            height, width = width, height
    return len(loader.options["channels"]), height, width


def _compiled(loader: Loader, step: Transform | Step, number: int) -> list[SpecTuple]:
    if not isinstance(step, Transform):
        if not callable(step):
            raise ConfigError(
                f"augment holds {step!r}; expected transforms of e2eio.transforms, or functions of "
                "images and their shape (unpack a preset: (*preset('top-mass'), ...))"
            )
        return []
    changes = {op for op, *_ in loader.options["transforms"]}
    resolution = 3 if "refine" in changes else 1 if "coarsen" in changes else None
    specs = compile_transforms(
        (step,),
        resolution,
        schema=loader.dataset.schema,
        delivered=loader.options["channels"],
        statistics=loader.dataset.statistics,
        n_samples=len(loader.dataset),
    )
    own = specs if resolution is None else specs[1:]  # without the change of resolution
    return [(op, number, p, channels, integers) for op, _, p, channels, integers in own]


def _check_together(loader: Loader, specs: list[SpecTuple]) -> None:
    """Let the core refuse what does not fit the images or the grid of cells, as it would in decode."""
    decode = list(loader.options["transforms"])
    first = 1 + max((number for _, number, *_ in decode), default=-1)
    later = [(op, first + number, *rest) for op, number, *rest in specs]
    options = {**loader.options, "transforms": [*decode, *later]}
    _core.Pipeline(loader.dataset.shards, **options).close()


def _run(images: Any, shape: Shape, spec: SpecTuple, seed: int | None) -> tuple[Any, Shape]:
    """Return the images after one compiled operation, and their shape."""
    op, _, p, channels, integers = spec
    if op in VALUE_OPS:
        return apply_values(images, shape, op, channels), shape
    if op in ("crop", "pad"):
        height, width, random = integers
        images = geometry.crop(
            images, shape, extent=(height, width), random=bool(random), seed=seed
        )
        return images, (shape[0], height, width)
    if op == "rot90":
        turns: Any = "random" if integers == [0, 3] else integers[0]
        return geometry.rot90(images, shape, p=p, turns=turns, seed=seed), shape
    places = [place for place, *_ in channels]
    if op == "flip_eta":
        return geometry.flip_eta(images, shape, p=p, odd=places, seed=seed), shape
    if op == "roll_phi":
        return _roll(images, shape, p, integers, seed), shape
    if op == "drop_channel":
        return masks.channel_dropout(images, shape, p=p, channels=places, seed=seed), shape
    edges = {place: cell for place, *_, cell in channels}
    if op == "smear":
        terms = {place: cells.Resolution(a, b, c, cell) for place, a, b, c, cell in channels}
        clip = bool(integers[0])
        return cells.energy_smear(
            images, shape, resolution=terms, clip_at_zero=clip, seed=seed
        ), shape
    if op == "dead_cells":
        return cells.dead_cells(images, shape, p=p, cell=edges, seed=seed), shape
    if op == "dead_list":
        listed = list(zip(integers[::2], integers[1::2], strict=True))
        return cells.listed_dead_cells(images, shape, cells={places[0]: listed}, cell=edges), shape
    raise ConfigError(f"{op!r} has no place in a graph of DALI; give it to transforms=")


def _roll(images: Any, shape: Shape, p: float, integers: list[int], seed: int | None) -> Any:
    if len(integers) == 1:
        return geometry.roll_phi(images, shape, p=p, step=integers[0], seed=seed)
    least, most, step = integers
    if least == most and step == 1 and least != 0:
        return geometry.roll_phi(images, shape, p=p, amount=least, seed=seed)
    return geometry.roll_phi(images, shape, p=p, max_shift=most * step, step=step, seed=seed)
