"""Samples by number: a directory of shards, a shard, or a list of them."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from e2eio import _core, manifest
from e2eio.distributed import share_of_cores
from e2eio.errors import (
    ConfigError,
    CorruptShardError,
    SchemaMismatchError,
    ShardNotFoundError,
)
from e2eio.schema import Schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Dataset", "SampleArrays", "Samples", "join_datasets"]

SampleArrays = dict[str, Any]


class Samples(list[Any]):
    """Samples that were decoded together, and the arrays that they are views of.

    A list like any other; :func:`e2eio.default_collate` makes a batch of `columns` without copying it.

    Parameters
    ----------
    columns : dict of ndarray
        Each field, [n, ...].
    as_dict : bool
        Samples are dicts, else tuples.
    """

    def __init__(self, columns: dict[str, NDArray[Any]], *, as_dict: bool = True) -> None:
        parts = list(zip(*columns.values(), strict=True))
        super().__init__(
            [dict(zip(columns, part, strict=True)) for part in parts] if as_dict else parts
        )
        self.columns = columns
        self._parts = parts

    def intact(self) -> bool:
        """Say whether the samples are still those of `columns`: nobody put other values in their place."""
        return 0 < len(self) == len(self._parts) and all(
            isinstance(sample, dict)
            and tuple(sample) == tuple(self.columns)
            and all(map(operator.is_, sample.values(), part))
            for sample, part in zip(self, self._parts, strict=True)
        )


class Dataset:
    """Random access to the samples of one or several shards.

    Thread rule: any thread. Starts none, holds one open file per shard, and works in a forked child.
    Pickles as the paths that it was given; the shards are opened and compared again.

    Parameters
    ----------
    source : path or sequence of paths
        A directory made by :func:`e2eio.convert` or :func:`e2eio.write`, a shard ``*.e2e``, or several
        of either, in the order of the samples. A reader of :func:`e2eio.shards.open_shard` does as well; the
        way in which it reads is not pickled.

    Raises
    ------
    ShardNotFoundError
        There is no such file, or no shard in the directory.
    CorruptShardError
        A shard's frame is damaged, or a shard is not the one that ``dataset.json`` lists.
    SchemaMismatchError
        The shards hold different fields.

    Examples
    --------
    >>> ds = e2eio.Dataset("data/top")  # doctest: +SKIP
    >>> ds[17]["X_jets"].shape  # doctest: +SKIP
    (8, 125, 125)
    """

    def __init__(
        self,
        source: str
        | os.PathLike[str]
        | _core.ShardReader
        | Sequence[str | os.PathLike[str] | _core.ShardReader],
    ) -> None:
        if isinstance(source, str | os.PathLike | _core.ShardReader):
            source = [source]
        sources = list(source)
        if not sources:
            raise ConfigError("no dataset: found an empty list; expected at least one path")
        self._sources = [
            each.path if isinstance(each, _core.ShardReader) else os.fspath(each)
            for each in sources
        ]
        opened = [_open(each) for each in sources]
        self._readers = [reader for readers, _ in opened for reader in readers]
        _check_schemas(self._readers)
        self._schema = Schema.from_core(self._readers[0].schema)
        self._statistics = _merged([statistics for _, statistics in opened])
        counts = [reader.n_samples for reader in self._readers]
        self._source_sizes = tuple(sum(each.n_samples for each in readers) for readers, _ in opened)
        self._ends = np.cumsum(np.asarray(counts, dtype=np.int64))
        self._digest = manifest.dataset_digest(reader.digest for reader in self._readers)
        self._columns: dict[str, NDArray[Any]] = {}
        self._sample_reader: _core.SampleReader | None = None

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __repr__(self) -> str:
        channels, height, width = self._schema.image.shape
        scalars = ", ".join(field.name for field in self._schema.scalars)
        return (
            f"Dataset({len(self)} samples in {len(self._readers)} shards: "
            f"{self._schema.image.name} float32 [{channels}, {height}, {width}]; {scalars})"
        )

    @property
    def schema(self) -> Schema:
        """Fields, channels, units and sizes."""
        return self._schema

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the image's channels, in order."""
        return self._schema.channels

    @property
    def digest(self) -> str:
        """Hex digest of all shards: equal for equal samples in equal order."""
        return self._digest

    @property
    def source_sizes(self) -> tuple[int, ...]:
        """Samples of each source that the dataset was made of, in order."""
        return self._source_sizes

    @property
    def statistics(self) -> tuple[manifest.ChannelStatistics, ...] | None:
        """Sums over the stored pixels of each channel, from ``dataset.json``; None for single shards."""
        return self._statistics

    @property
    def readers(self) -> tuple[_core.ShardReader, ...]:
        """The open shards, for the loader."""
        return tuple(self._readers)

    def scalars(self, name: str) -> NDArray[Any]:
        """Return a scalar field of all samples, without touching image bytes.

        Parameters
        ----------
        name : str
            A scalar field of the schema.

        Returns
        -------
        ndarray
            [len(self)], of the field's dtype, read-only.

        Raises
        ------
        ConfigError
            There is no such field.
        CorruptShardError
            A column does not match its checksum.
        """
        if name not in self._columns:
            names = [field.name for field in self._schema.scalars]
            if name not in names:
                raise ConfigError(
                    f"unknown scalar field: found {name!r}; expected one of {', '.join(names)}"
                )
            index = names.index(name)
            column = np.concatenate([reader.column(index) for reader in self._readers])
            column.setflags(write=False)
            self._columns[name] = column
        return self._columns[name]

    def __getitem__(self, index: int) -> SampleArrays:
        """Return one sample: the image as float32 [C, H, W], each scalar as a numpy scalar."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[int]) -> list[SampleArrays]:
        """Return several samples by one native decode; a plain torch DataLoader calls this.

        Records are read in the order of the files, neighbours together, and decoded by a rank's share of the
        cores; in a worker process, by one thread. The threads end with the call.
        """
        ids = np.array([self._sample_id(index) for index in indices], dtype=np.int64)
        columns: dict[str, NDArray[Any]] = {self._schema.image.name: self._decode(ids)}
        for field in self._schema.scalars:
            columns[field.name] = self.scalars(field.name)[ids]
        return Samples(columns)

    def _sample_id(self, index: int) -> int:
        try:
            number = operator.index(index)
        except TypeError:
            raise TypeError(
                f"sample numbers are integers, found {type(index).__name__}; "
                "use a Loader for ranges of samples"
            ) from None
        wrapped = number + len(self) if number < 0 else number
        if not 0 <= wrapped < len(self):
            raise IndexError(f"sample {number} of a dataset of {len(self)}")
        return wrapped

    def _decode(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        if self._sample_reader is None:
            self._sample_reader = _core.SampleReader(self._readers)
        return self._sample_reader.read(ids, range(len(self.channels)), _threads_here())

    def __getstate__(self) -> dict[str, object]:
        return {
            "sources": self._sources,
            "digest": self._digest,
            "statistics": self._statistics,
            "source_sizes": self._source_sizes,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        Dataset.__init__(self, state["sources"])
        self._statistics = state["statistics"]
        self._source_sizes = state["source_sizes"]
        if self._digest != state["digest"]:
            raise CorruptShardError(
                f"dataset changed: {state['sources'][0]}: its shards are not those that were pickled; "
                "make the Dataset again",
                path=state["sources"][0],
            )


def _threads_here() -> int:
    """Return how many threads a decode may take: one in a worker process, whose siblings use the other cores."""
    multiprocessing = sys.modules.get("multiprocessing")  # not imported: nobody has forked with it
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        return 1
    return share_of_cores(_core.usable_cores())


def join_datasets(datasets: Sequence[Dataset]) -> Dataset:
    """Return one dataset of the samples of all, in order; of a single one, itself. Opens no file.

    Raises
    ------
    SchemaMismatchError
        They hold different fields.
    """
    if len(datasets) == 1:
        return datasets[0]
    joined = Dataset([reader for dataset in datasets for reader in dataset.readers])
    joined._statistics = _merged([dataset.statistics for dataset in datasets])
    return joined


_Statistics = tuple[manifest.ChannelStatistics, ...]
_Opened = tuple[list[_core.ShardReader], _Statistics | None]


def _merged(parts: Sequence[_Statistics | None]) -> _Statistics | None:
    known = [part for part in parts if part is not None]
    if len(known) != len(parts):
        return None
    return known[0] if len(known) == 1 else manifest.merge_statistics(known, len(known[0]))


def _open(source: str | os.PathLike[str] | _core.ShardReader) -> _Opened:
    if isinstance(source, _core.ShardReader):
        return [source], None
    text = os.fspath(source)
    if "://" in text:
        raise ConfigError(
            f"remote dataset: {text!r}: this version reads local files; copy it to a local directory"
        )
    path = Path(text)
    if not path.is_dir():
        return [_core.ShardReader(text)], None
    if (path / manifest.FILE_NAME).exists():
        return _open_listed(path)
    shards = sorted(path.glob("*.e2e"))
    if not shards:
        raise ShardNotFoundError(
            f"no dataset: {text}: found neither {manifest.FILE_NAME} nor *.e2e; "
            "make one with 'e2eio convert'",
            path=text,
        )
    return [_core.ShardReader(str(shard)) for shard in shards], None


def _open_listed(directory: Path) -> _Opened:
    listed = manifest.read(directory)
    readers = []
    for entry in listed.shards:
        reader = _core.ShardReader(str(directory / entry.file))
        if reader.digest != entry.digest or reader.n_samples != entry.n_samples:
            raise CorruptShardError(
                f"wrong shard: {reader.path}: found digest {reader.digest}, expected {entry.digest} "
                f"from {manifest.FILE_NAME}; convert the dataset again",
                path=reader.path,
            )
        readers.append(reader)
    if not readers:
        raise ShardNotFoundError(f"no dataset: {directory}: lists no shards", path=str(directory))
    return readers, listed.statistics


def _check_schemas(readers: Sequence[_core.ShardReader]) -> None:
    first = Schema.from_core(readers[0].schema)
    for reader in readers[1:]:
        if Schema.from_core(reader.schema) != first:
            raise SchemaMismatchError(
                f"schemas differ: {readers[0].path} and {reader.path}; "
                "load them as separate datasets",
                path=reader.path,
            )
