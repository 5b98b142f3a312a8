"""Graphs of DALI that begin with a loader."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal
from weakref import WeakKeyDictionary

from e2eio.dali.binding import Pipeline, build, fn, pipeline_def, types
from e2eio.dali.feed import Source
from e2eio.dali.steps import Step, apply
from e2eio.dataset import Dataset
from e2eio.errors import ConfigError
from e2eio.loader import Loader
from e2eio.options import at_least
from e2eio.transforms import Transform, preset

__all__ = ["inputs", "pipeline", "source_of"]

_DTYPES = {"float32": types.FLOAT, "float16": types.FLOAT16}
_CHOICES = {
    "dtype": tuple(_DTYPES),
    "layout": ("CHW", "HWC"),
    "device": ("cpu", "gpu"),
    "last_batch_policy": ("partial", "fill", "drop"),
}

# What a Loader that is given has of its own, with the defaults.
_LOADERS: dict[str, Any] = {
    **{"shuffle": False, "seed": 0, "transforms": ()},
    **dict.fromkeys(("fields", "channels", "resolution", "rank", "world_size")),
}

_SOURCES: WeakKeyDictionary[Any, Source] = WeakKeyDictionary()


def inputs(source: Source) -> tuple[Any, ...]:
    """Return the nodes of a source's fields, in their order: to be called where a graph is defined.

    DALI reads the loader's memory without a copy; the source keeps it for as long as the pipeline may.

    Parameters
    ----------
    source : Source
        Of a loader whose batches are no larger than the pipeline's.

    Returns
    -------
    tuple of DataNode
        On the CPU: images [C, H, W] or [H, W, C], scalars [].

    Examples
    --------
    >>> @pipeline_def(batch_size=64, num_threads=2, device_id=None)  # doctest: +SKIP
    ... def graph():
    ...     images, labels = e2eio.dali.inputs(source)
    ...     return e2eio.dali.flip_eta(images, (8, 125, 125), p=0.5), labels
    """
    if not isinstance(source, Source):
        raise ConfigError(f"source is {source!r}; expected what e2eio.dali.source returns")
    pipe = Pipeline.current()
    if pipe is None:
        raise ConfigError("no pipeline here: call e2eio.dali.inputs in a function of @pipeline_def")
    depth = pipe.prefetch_queue_depth
    source.hold(depth["cpu"] * depth["gpu"] if isinstance(depth, dict) else depth)
    _SOURCES[pipe] = source
    image = source.loader.dataset.schema.image.name
    layouts = [source.layout if name == image else "" for name in source.fed_fields]
    nodes = fn.external_source(
        source, num_outputs=len(layouts), batch_info=True, no_copy=True, layout=layouts
    )
    return tuple(nodes)


def source_of(pipe: Any) -> Source | None:
    """Return the source that feeds a pipeline through :func:`inputs`, or None."""
    return _SOURCES.get(pipe)


def pipeline(
    dataset: Dataset | Loader | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    fields: Sequence[str] | None = None,
    channels: Sequence[str | int] | None = None,
    resolution: Literal[1, 3, "x1", "x3"] | None = None,
    transforms: Sequence[Transform] = (),
    last_batch_policy: Literal["partial", "fill", "drop"] | Any = "partial",
    rank: int | None = None,
    world_size: int | None = None,
    augment: Sequence[Transform | Step] = (),
    augment_seed: int | None = None,
    normalise: str | Sequence[Transform] = (),
    dtype: Literal["float32", "float16"] = "float32",
    layout: Literal["CHW", "HWC"] = "CHW",
    device: Literal["cpu", "gpu"] = "cpu",
    device_id: int | None = None,
    num_threads: int | None = None,
    prefetch_queue_depth: int = 2,
    enable_checkpointing: bool = True,
    checkpoint: bytes | Sequence[bytes] | None = None,
    pass_by: bool = False,
) -> Any:
    """Return a DALI pipeline over a dataset: reading in e2eio's threads, augmentation in DALI's graph.

    Parameters
    ----------
    dataset : Dataset, path or Loader
        What to load. A Loader brings the arguments up to `world_size` itself: leave them out; it has to be made with
        float32 images in NCHW, and belongs to the pipeline from then on.
    batch_size : int
        Samples per batch and rank.
    shuffle, seed, fields, channels, resolution, transforms, rank, world_size
        As the :class:`e2eio.Loader`'s. `transforms` run in decode, on what is stored: the place for whatever
        need not be on the GPU.
    last_batch_policy : {"partial", "fill", "drop"} or LastBatchPolicy
        The last, smaller batch of a rank: as it is, filled by repeating its last sample, or left out. All ranks have equally
        many batches whichever it is: see ``drop_last`` of the Loader.
    augment : sequence of Transform or callable
        Done by the graph, on the device, in this order; nothing by default. FlipEta, RollPhi, Rot90, Crop, Pad,
        EnergySmear, DeadCells, ChannelDropout and the value transforms, with the same arguments and meaning as in
        decode; callables get the images and (C, H, W), as :func:`translate` and :func:`random_erase` do.
    augment_seed : int or None
        Of the graph's random draws; None: the loader's. Mixed with the rank, so that ranks draw differently.
    normalise : str or sequence of Transform
        A preset of :func:`e2eio.transforms.preset`, or transforms; after `augment`, on the device.
    dtype : {"float32", "float16"}
        Of the images delivered; the graph computes in float32.
    layout : {"CHW", "HWC"}
        Of the images delivered.
    device : {"cpu", "gpu"}
        Where the graph runs and all outputs are.
    device_id : int or None
        Which GPU. None: torch's current one, as ``Loader(device="cuda")``, if torch was imported; else 0.
    num_threads : int or None
        DALI's; the loader has its own. None: 2, or 1 where the graph has nothing to do on the CPU: DALI hands even that to
        its threads, and the cores are the loader's.
    prefetch_queue_depth : int
        Batches that DALI works on ahead of need; the loader's ring is larger by one more.
    enable_checkpointing : bool
        Keep what :meth:`Batches.checkpoints` needs.
    checkpoint : bytes or sequence of bytes, or None
        Go on from there: what ``checkpoints()`` or ``Pipeline.checkpoint()`` returned, with all other arguments as they were.
    pass_by : bool
        On the CPU, leave images that the graph does not touch out of it, since DALI copies what it puts out:
        :func:`iterator` adds them to its batches, lent as the Loader's are. It passes True; a pipeline that is run
        in another way would have no images. Of a given Loader, they pass by if its framework is torch.

    Returns
    -------
    nvidia.dali.Pipeline
        Its outputs are the fields, in their order; after StopIteration, ``reset()`` begins the next epoch.

    Raises
    ------
    ConfigError
        An argument is wrong, or there is no GPU for ``device="gpu"``.
    MissingDependencyError
        DALI is missing or too old.

    Examples
    --------
    >>> pipe = e2eio.dali.pipeline(  # doctest: +SKIP
    ...     "data/top", batch_size=64, shuffle=True, fields=("X_jets", "y"), device="gpu",
    ...     augment=(t.EnergySmear(stochastic={"hcal": 1.0}), t.FlipEta(0.5)), normalise="top-mass")
    """
    arguments = locals()
    asked = {name: arguments[name] for name in _LOADERS}
    steps = (*augment, *(preset(normalise) if isinstance(normalise, str) else normalise))
    policy = str(getattr(last_batch_policy, "name", last_batch_policy)).lower()
    _check_choices(dtype=dtype, layout=layout, device=device, last_batch_policy=policy)
    untouched = not (steps or device == "gpu" or policy == "fill")
    if isinstance(dataset, Loader):
        loader = _given(dataset, batch_size, policy, asked)
        # What a given loader makes has to be what is asked for.
        untouched = untouched and (dtype, layout) == ("float32", "CHW")
    else:
        # With nothing to do in the graph, decode does the rest as well: for less than a pass over the images.
        in_decode = {
            "dtype": "float32" if steps else dtype,
            "layout": "NCHW" if steps else f"N{layout}",
            "framework": "torch" if pass_by and untouched else "numpy",
        }
        at_least(1, "batch_size", batch_size)
        options = {**asked, **in_decode, "batch_size": batch_size, "drop_last": policy == "drop"}
        loader = Loader(dataset, **options)
    aside = pass_by and untouched and loader.framework == "torch"
    source = Source(
        loader,
        fill_last_batch=policy == "fill",
        aside=loader.dataset.schema.image.name if aside else None,
    )
    pipe = pipeline_def(partial(_outputs, source, steps, dtype, layout, device))(
        batch_size=loader.options["batch_size"],
        num_threads=_threads(num_threads, idle=untouched),
        device_id=_gpu(device_id) if device == "gpu" else None,
        seed=_graph_seed(loader, augment_seed),
        prefetch_queue_depth=at_least(1, "prefetch_queue_depth", prefetch_queue_depth),
        exec_dynamic=True,
        enable_checkpointing=enable_checkpointing,
        checkpoint=_one(checkpoint),
    )
    return build(pipe) if device == "gpu" else pipe


def _given(loader: Any, batch_size: int | None, policy: str, asked: Mapping[str, Any]) -> Any:
    own = loader.options
    if batch_size not in (None, own["batch_size"]):
        raise ConfigError(
            f"batch_size is {batch_size} and the Loader's {own['batch_size']}; leave it out"
        )
    if said := [name for name, default in _LOADERS.items() if asked[name] != default]:
        raise ConfigError(
            f"{', '.join(said)} given with a Loader, which has its own; give them where it is made"
        )
    if policy == "drop" and not own["drop_last"]:
        raise ConfigError("last_batch_policy is 'drop'; expected a Loader with drop_last=True")
    if (own["dtype"], own["layout"]) != ("float32", "NCHW"):
        raise ConfigError(
            f"the Loader delivers {own['dtype']} images in {own['layout']}; expected float32 in NCHW: "
            "give dtype= and layout= to the pipeline"
        )
    return loader


def _outputs(
    source: Source, steps: Sequence[Transform | Step], dtype: str, layout: str, device: str
) -> tuple[Any, ...]:
    """Define the graph: from the source's fields to the outputs."""
    loader = source.loader
    nodes = {
        name: node.gpu() if device == "gpu" else node
        for name, node in zip(source.fed_fields, inputs(source), strict=True)
    }
    image = loader.dataset.schema.image.name
    if image not in nodes:
        return tuple(nodes.values())
    images, _ = apply(nodes[image], loader, steps)
    if loader.options["dtype"] != dtype:
        images = fn.cast(images, dtype=_DTYPES[dtype])
    if source.layout != layout:
        images = fn.transpose(images, perm=[1, 2, 0])
    nodes[image] = images
    return tuple(nodes.values())


def _gpu(given: int | None) -> int:
    if given is not None:
        return at_least(0, "device_id", given)
    torch = sys.modules.get("torch")  # nobody can have chosen a device without it
    if torch is None or not torch.cuda.is_available():
        return 0
    return int(torch.cuda.current_device())


def _threads(given: int | None, *, idle: bool) -> int:
    if given is None:
        return 1 if idle else 2
    return at_least(1, "num_threads", given)


def _check_choices(**given: object) -> None:
    for name, value in given.items():
        if value not in _CHOICES[name]:
            known = ", ".join(map(repr, _CHOICES[name]))
            raise ConfigError(f"{name} is {value!r}; expected one of {known}")


def _graph_seed(loader: Loader, asked: int | None) -> int:
    """Return another seed for each rank: their graphs draw per batch, not per sample as decode does."""
    seed = loader.options["transform_key"] if asked is None else asked  # a function of the Loader's
    text = f"e2eio-dali-2\n{seed}\n{loader.rank}\n"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little") >> 1


def _one(checkpoint: bytes | Sequence[bytes] | None) -> bytes | None:
    if checkpoint is None or isinstance(checkpoint, bytes):
        return checkpoint
    if len(checkpoint) != 1:
        raise ConfigError(f"checkpoint has {len(checkpoint)} parts; expected that of one pipeline")
    return checkpoint[0]
