"""`merge`, `split`, `shuffle` and `repack`: from datasets to datasets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2eio import _core
from e2eio.errors import ConfigError
from e2eio.manifest import Manifest
from e2eio.options import plan_key, resolve_threads
from e2eio.plan.selection import selected_ids
from e2eio.progress import make_progress
from e2eio.reshard.parents import Parents, Paths, open_parents
from e2eio.reshard.parts import make_parts
from e2eio.reshard.plan import Output, ShardOptions, listed, plan_output, shown_schema
from e2eio.reshard.work import write_outputs
from e2eio.schema import Precision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["merge", "repack", "shuffle", "split"]


def merge(
    sources: Paths,
    out: str | os.PathLike[str],
    *,
    shard_bytes: int | None = None,
    shard_samples: int | None = None,
    compression_level: int = 3,
    threads: int | None = None,
    overwrite: bool = False,
    resume: bool = True,
    progress: bool = True,
) -> Manifest:
    """Make one dataset of several: the samples of the first in their order, then those of the next.

    What is said here holds for `split`, `shuffle` and `repack`, too. Pixels and scalar fields stay what
    they are, bit for bit. The result depends on the samples and the arguments alone, not on the number
    of threads. Each shard is read back and compared when it is written. ``dataset.json`` names the
    sources of the parents, the parents themselves and what was done, here and before. An interrupted
    call (Ctrl-C) leaves complete shards, and the same call goes on from them; a failed one leaves
    nothing under a final name, and the same call goes on from what it has kept.

    Memory: 8 MiB of pixels and the beginning of a shard per thread; and 8 bytes a sample for each of
    the places of the shards' records, the scalar fields, and, if samples are selected, their numbers.

    Parameters
    ----------
    sources : path or iterable of paths
        Datasets or shards.
    out : path
        Directory of the new dataset, made if it does not exist.
    shard_bytes : int, optional
        Size of a shard, about, at most, by the mean size of a sample in the sources.
    shard_samples : int, optional
        Samples of a shard, at most. If neither is given: 256 MiB, or less where that makes fewer than 64
        shards, but not under 4,096 samples for that reason. Shards are of equal sizes.
    compression_level : int
        Of zstd, 1 to 19.
    threads : int, optional
        As many as there are usable cores, if not given; more hide the waiting for slow storage.
    overwrite : bool
        Replace the dataset in `out`.
    resume : bool
        Go on from shards that an earlier run of the same call has finished.
    progress : bool
        Show the progress on standard error.

    Returns
    -------
    Manifest
        The content of ``dataset.json``.

    Raises
    ------
    ConfigError
        An argument is wrong, or `out` is one of the sources.
    SchemaMismatchError
        The sources hold different fields; the message says what differs.
    CorruptShardError
        A sample is damaged, or a shard does not hold what was written into it.
    ShardExistsError
        `out` holds something else, and `overwrite` is False.
    ShardIOError
        The system refused to read or write.

    Examples
    --------
    >>> merge(["data/top", "data/qcd"], "data/both")  # doctest: +SKIP
    """
    options = ShardOptions(shard_bytes, shard_samples, compression_level)
    parents = open_parents(sources)
    order = (_core.Order.in_file_order(len(parents.dataset)), "file order")
    output = _whole(parents, Path(out), order, options)
    operation = {"operation": "merge"}
    return _write(parents, {"": output}, {"": operation}, threads, overwrite, resume, progress)[""]


def shuffle(
    sources: Paths,
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    shard_bytes: int | None = None,
    shard_samples: int | None = None,
    compression_level: int = 3,
    threads: int | None = None,
    overwrite: bool = False,
    resume: bool = True,
    progress: bool = True,
) -> Manifest:
    """Write all samples in a random order: that of epoch 0 of ``Loader(sources, shuffle=True, seed=seed)``.

    Every order of the samples is as likely, whatever their number: no buffer is shuffled. They are
    read at random places, 16 or so at a time and thread; from disks and servers that take long to
    begin a read, use more threads than cores. The order depends on the shards of `sources` and on
    `seed` alone.

    Parameters
    ----------
    sources, out, shard_bytes, shard_samples, compression_level, threads, overwrite, resume, progress
        As for `merge`.
    seed : int
        From 0.

    Returns
    -------
    Manifest

    Raises
    ------
    ConfigError, CorruptShardError, SchemaMismatchError, ShardExistsError, ShardIOError
        As for `merge`.

    Examples
    --------
    >>> shuffle("data/top", "data/top-shuffled", seed=7)  # doctest: +SKIP
    """
    options = ShardOptions(shard_bytes, shard_samples, compression_level)
    parents = open_parents(sources)
    key = plan_key(parents.dataset.digest, seed)
    order = (_core.Order.shuffled(len(parents.dataset), key), f"shuffled by {key}")
    output = _whole(parents, Path(out), order, options)
    operation = {"operation": "shuffle", "seed": int(seed)}
    return _write(
        parents, {"": output}, {"": operation}, threads, overwrite, resume, progress, ordered=False
    )[""]


def repack(
    sources: Paths,
    out: str | os.PathLike[str],
    *,
    precision: Precision | None = None,
    channels: Sequence[str] | None = None,
    select: str | None = None,
    exclude: ArrayLike | str | os.PathLike[str] | None = None,
    shard_bytes: int | None = None,
    shard_samples: int | None = None,
    compression_level: int = 3,
    threads: int | None = None,
    overwrite: bool = False,
    resume: bool = True,
    progress: bool = True,
) -> Manifest:
    """Store samples otherwise: other shards, fewer channels, fewer samples, another precision; in their order.

    Parameters
    ----------
    sources, out, shard_bytes, shard_samples, compression_level, threads, overwrite, resume, progress
        As for `merge`.
    precision : {"float32", "float16"}, optional
        Of the stored pixels; as it is if not given. To float16 they are rounded to nearest even; the
        values of float16 are float32 values, so that the way back loses nothing.
    channels : sequence of str, optional
        Those to keep, in this order.
    select : str, optional
        A condition on scalar fields, as in ``"pt > 500 & y == 1"``.
    exclude : sequence of int or path, optional
        Numbers of samples to leave out, or a text file of them, as for `Loader`.

    Returns
    -------
    Manifest

    Raises
    ------
    ConfigError, CorruptShardError, SchemaMismatchError, ShardExistsError, ShardIOError
        As for `merge`.

    Examples
    --------
    >>> repack("data/top", "data/calo", channels=["ecal", "hcal"], select="pt > 500")  # doctest: +SKIP
    """
    options = ShardOptions(shard_bytes, shard_samples, compression_level)
    names = _names("channels", channels)
    parents = open_parents(sources)
    schema, numbers = shown_schema(parents.dataset.schema, names, precision)
    ids = selected_ids(parents.dataset, select, exclude)
    in_file = (_core.Order.in_file_order(len(parents.dataset)), "file order")
    order = in_file if ids is None else listed(ids)
    output = plan_output(parents.dataset, Path(out), order, schema, numbers, options)
    operation = {
        "operation": "repack",
        "precision": schema.image.precision,
        "channels": list(schema.channels),
        "select": select,
        "n_excluded": len(parents.dataset) - output.n_samples if exclude is not None else 0,
    }
    return _write(parents, {"": output}, {"": operation}, threads, overwrite, resume, progress)[""]


def split(
    sources: Paths,
    out: str | os.PathLike[str],
    *,
    fractions: Mapping[str, float] | None = None,
    samples: int | Mapping[str, int] | None = None,
    by: str | None = None,
    stratify: str | None = None,
    group: str | Sequence[str] = (),
    seed: int = 0,
    shard_bytes: int | None = None,
    shard_samples: int | None = None,
    compression_level: int = 3,
    threads: int | None = None,
    overwrite: bool = False,
    resume: bool = True,
    progress: bool = True,
) -> dict[str, Manifest]:
    """Make several datasets of one: each sample is in one of them at most, and keeps its place among the others.

    Exactly one of `fractions`, `samples` and `by` says how. Fractions and named numbers of samples are
    drawn at random by `seed`; part sizes are exact, as far as groups allow. If fractions add up to
    less than 1, or numbers to less than there is, the rest is in no part.

    Parameters
    ----------
    sources, shard_bytes, shard_samples, compression_level, threads, overwrite, resume, progress
        As for `merge`.
    out : path
        Directory in which each part gets one of its own.
    fractions : mapping of str to float, optional
        As in ``{"train": 0.8, "valid": 0.1, "test": 0.1}``.
    samples : int or mapping of str to int, optional
        A number: parts of so many samples in file order, ``part-00000`` and so on, the last one
        smaller. A mapping: the sizes of the parts.
    by : str, optional
        A scalar field: one part for each of its values, ``y=0`` and so on.
    stratify : str, optional
        A scalar field: its values are distributed alike over the parts, to within one sample for each
        part and one more.
    group : str or sequence of str
        Scalar fields, as in ``["run", "event"]``: samples that agree in all of them are in the same part.
    seed : int
        From 0.

    Returns
    -------
    dict of str to Manifest
        Of each part.

    Raises
    ------
    ConfigError, CorruptShardError, SchemaMismatchError, ShardExistsError, ShardIOError
        As for `merge`; a part without samples is an error.

    Examples
    --------
    >>> split("data/top", "data/parts", fractions={"train": 0.9, "test": 0.1}, stratify="y")  # doctest: +SKIP
    """
    options = ShardOptions(shard_bytes, shard_samples, compression_level)
    groups = (group,) if isinstance(group, str) else tuple(group)
    parents = open_parents(sources)
    parts, arguments = make_parts(parents.dataset, fractions, samples, by, stratify, groups, seed)
    outputs = {
        name: _whole(parents, Path(out) / name, listed(ids), options) for name, ids in parts.items()
    }
    operations = {name: {"operation": "split", "part": name, **arguments} for name in parts}
    return _write(parents, outputs, operations, threads, overwrite, resume, progress)


def _names(what: str, names: Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(names, str):
        raise ConfigError(f"{what} is the text {names!r}; expected a sequence of names")
    return None if names is None else tuple(names)


def _stored(options: ShardOptions) -> dict[str, object]:
    return {
        "shard_bytes": options.shard_bytes,
        "shard_samples": options.shard_samples,
        "compression_level": options.compression_level,
    }


def _whole(
    parents: Parents, out: Path, order: tuple[_core.Order, str], options: ShardOptions
) -> Output:
    """Plan a dataset of whole samples."""
    schema, channels = shown_schema(parents.dataset.schema, None, None)
    return plan_output(parents.dataset, out, order, schema, channels, options)


def _write(
    parents: Parents,
    outputs: dict[str, Output],
    operations: Mapping[str, Mapping[str, Any]],
    threads: int | None,
    overwrite: bool,
    resume: bool,
    progress: bool,
    ordered: bool = True,
) -> dict[str, Manifest]:
    for output in outputs.values():
        parents.refuse_target(output.path)
    schema = parents.dataset.schema
    same = {
        name: each.n_samples == len(parents.dataset) and each.schema == schema
        for name, each in outputs.items()
    }
    provenances = [
        parents.provenance({**operations[name], **_stored(each.options)}, all_pixels=same[name])
        for name, each in outputs.items()
    ]
    first = next(iter(outputs))
    with make_progress(progress, verb="written") as shown:
        made = write_outputs(
            parents.dataset,
            list(outputs.values()),
            provenances,
            threads=resolve_threads("auto" if threads is None else threads),
            overwrite=overwrite,
            resume=resume,
            progress=shown,
            content=parents.content() if ordered and same[first] else None,
        )
    return dict(zip(outputs, made, strict=True))
