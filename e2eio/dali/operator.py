"""The native operator in a graph: ``fn.e2eio.reader``, or the source in its place."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from e2eio.dali import binding
from e2eio.dali.feed import source
from e2eio.dali.graph import inputs
from e2eio.dali.plugin import cached_operator, identity, read_identity
from e2eio.dataset import Dataset
from e2eio.errors import ConfigError, MissingDependencyError
from e2eio.loader import Loader
from e2eio.options import checked_flag
from e2eio.transforms.target import SpecTuple

__all__ = ["load_operator", "reader"]

_DTYPES = {"float32": binding.types.FLOAT, "float16": binding.types.FLOAT16}

_loaded: list[Path] = []  # DALI keeps its operators until the process ends
_warned: set[str] = set()


def load_operator(path: str | os.PathLike[str] | None = None) -> Path:
    """Make ``nvidia.dali.fn.e2eio.reader`` exist; once per process, the rest of the calls do nothing.

    Parameters
    ----------
    path : path or None
        What ``e2eio build-dali-op`` has built, or the directory that it is in. None: ``$E2EIO_DALI_OPERATOR``, or
        the user's cache.

    Returns
    -------
    Path
        The operator that is loaded.

    Raises
    ------
    MissingDependencyError
        It is not built, or was built for another version of e2eio or DALI, or does not load.

    Examples
    --------
    >>> e2eio.dali.load_operator()  # doctest: +SKIP
    """
    if _loaded:
        return _loaded[0]
    chosen = path or os.environ.get("E2EIO_DALI_OPERATOR")
    place = Path(chosen) if chosen else cached_operator()
    if place.is_dir():
        place = place / cached_operator().name
    if not place.exists():
        raise MissingDependencyError(
            f"native DALI operator is not built: {place}: no such file; build it once with 'e2eio build-dali-op'"
        )
    found, fitting = read_identity(place), identity()
    if found != fitting:
        raise MissingDependencyError(
            f"native DALI operator is another one's: {place}: found {found}, expected {fitting}; build it again with "
            "'e2eio build-dali-op'"
        )
    try:
        binding.plugin_manager.load_library(str(place))
    except RuntimeError as error:
        raise MissingDependencyError(
            f"native DALI operator does not load: {place}: {str(error).strip()[:300]}; build it again with "
            "'e2eio build-dali-op --force'"
        ) from error
    _loaded.append(place)
    return place


def reader(
    loader: Loader,
    *,
    fill_last_batch: bool = False,
    cycle: Literal["raise", "quiet"] = "raise",
    name: str | None = None,
) -> tuple[Any, ...]:
    """Return the nodes of a loader's fields, in their order: to be called where a graph is defined.

    The batches are what the loader's are, bit by bit, from the operator ``fn.e2eio.reader``, which runs without Python.
    Where the operator is not built, or the loader selects or weighs samples, they come from
    :func:`e2eio.dali.source`, with one warning. The loader only describes what to read: the operator does not iterate
    over it, and it starts no thread.

    Parameters
    ----------
    loader : Loader
        Dense images, float32 or float16; its batch_size is the pipeline's.
    fill_last_batch : bool
        Repeat the last sample until the last batch is as large as the others.
    cycle : {"raise", "quiet"}
        "raise": StopIteration after each epoch, and ``reset()`` of the pipeline or its iterator goes on with the next.
        "quiet": the next epoch follows at once, as from DALI's own readers; with `fill_last_batch` an iterator can be
        given ``reader_name=name``. Needs the operator.
    name : str or None
        Of the operator, for ``reader_name``.

    Returns
    -------
    tuple of DataNode
        On the CPU: images [C, H, W] or [H, W, C], scalars [].

    Raises
    ------
    ConfigError
        The loader's batches are nothing that DALI knows, or their size is not the pipeline's; cycle="quiet" for
        an order that the operator does not know.
    MissingDependencyError
        The operator is needed and there is none.

    Examples
    --------
    >>> loader = e2eio.Loader("data/top", batch_size=64, fields=("X_jets", "y"))  # doctest: +SKIP
    >>> @pipeline_def(batch_size=64, num_threads=2, device_id=0)  # doctest: +SKIP
    ... def graph():
    ...     images, labels = e2eio.dali.reader(loader)
    ...     return images.gpu(), labels.gpu()
    """
    _check(loader, cycle)
    checked_flag("fill_last_batch", fill_last_batch)
    try:
        _load_for(loader)
    except (ConfigError, MissingDependencyError) as error:
        if cycle == "quiet":
            raise
        _warn_once(f"{error}; e2eio.dali.source takes its place: the same batches, through Python")
        return inputs(source(loader, fill_last_batch=fill_last_batch))
    image = loader.dataset.schema.image.name
    scalars = [field for field in loader.fields if field != image]
    arguments = {**_arguments(loader), **({} if name is None else {"name": name})}
    nodes = binding.fn.e2eio.reader(
        fields=scalars, fill_last_batch=fill_last_batch, cycle=cycle, **arguments
    )
    images, *columns = nodes if scalars else [nodes]
    by_name = {image: images, **dict(zip(scalars, columns, strict=True))}
    return tuple(by_name[field] for field in loader.fields)


def _load_for(loader: Loader) -> None:
    if loader.plain_order is None:
        raise ConfigError(
            "fn.e2eio.reader has no select, exclude, weights or windows, which this loader has"
        )
    load_operator()


def _check(loader: object, cycle: str) -> None:
    if not isinstance(loader, Loader):
        raise ConfigError(f"loader is {loader!r}; expected an e2eio.Loader")
    form, dtype = loader.options["form"], loader.options["dtype"]
    if form != "dense" or dtype not in _DTYPES:
        raise ConfigError(
            f"form is {form!r} and dtype is {dtype!r}; expected form='dense' and 'float32' or 'float16': DALI's "
            "readers have no other"
        )
    if cycle not in ("raise", "quiet"):
        raise ConfigError(f"cycle is {cycle!r}; expected 'raise' or 'quiet'")
    pipe = binding.Pipeline.current()
    if pipe is None:
        raise ConfigError("no pipeline here: call e2eio.dali.reader in a function of @pipeline_def")
    if pipe.max_batch_size != loader.options["batch_size"]:
        raise ConfigError(
            f"batch_size of the pipeline is {pipe.max_batch_size}; expected the loader's, "
            f"{loader.options['batch_size']}"
        )
    if cycle == "raise" and not pipe.exec_dynamic:
        raise ConfigError(
            "exec_dynamic of the pipeline is False; expected DALI's default executor: the others cannot end an epoch "
            "(or pass cycle='quiet')"
        )


def _arguments(loader: Loader) -> dict[str, Any]:
    """Return the operator's arguments: cpp/dali/schema.cpp has them."""
    options: Mapping[str, Any] = loader.options
    shuffle, key = loader.plain_order or (False, 0)
    same = ("drop_last", "channels", "rank", "world_size", "writable", "verify")
    machine = ("threads", "auto_threads", "prefetch", "auto_prefetch")
    return {
        **{name: options[name] for name in (*same, *machine)},
        "paths": _paths(loader.dataset),
        "shuffle": shuffle,
        "key": _signed(key),
        "transforms": [_text(spec) for spec in options["transforms"]],
        "transform_key": _signed(options["transform_key"]),
        "dtype": _DTYPES[options["dtype"]],
        "layout": options["layout"].lstrip("N"),
        "memory_limit": options["memory_limit_bytes"],
        "timeout": loader.timeout_s or 0.0,
    }


def _paths(dataset: Dataset) -> list[str]:
    paths = [each.path for each in dataset.readers]
    if len(paths) < len(dataset.shards):
        raise ConfigError(
            f"the native operator reads shards: found {dataset!r}; expected a converted dataset, or use "
            "e2eio.dali.source"
        )
    return paths


def _signed(key: int) -> int:
    """Return the same 64 bits as DALI's integers have them."""
    return key - 2**64 if key >= 2**63 else key


def _text(spec: SpecTuple) -> str:
    """Write a spec as cpp/dali/spec_text.hpp reads it."""
    op, number, p, channels, integers = spec
    words: Sequence[object] = [op, number, repr(float(p)), len(channels)]
    words = [*words, *(repr(word) for channel in channels for word in channel)]
    return " ".join(map(str, [*words, len(integers), *integers]))


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=3)
