"""The dataset: its samples by number, its scalar fields, its shards."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from e2eio import _core, manifest
from e2eio.dataset.opening import check_schemas, open_parts
from e2eio.dataset.samples import SampleArrays, Samples
from e2eio.distributed import share_of_cores
from e2eio.errors import ConfigError, CorruptShardError
from e2eio.remote import RemoteUrl, StorageOptions, is_url

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.importers import ImportOptions
    from e2eio.schema import Schema
    from e2eio.shards import ShardPart

__all__ = ["Dataset", "dataset_of", "join_datasets"]


class Dataset:
    """Random access to the samples of one or several shards.

    Thread rule: any thread. Starts none, holds one open file per shard, and works in a forked child.
    Pickles as the paths that it was given; the shards are opened and compared again. URLs are read by one
    thread per process, which ends with the last dataset; credentials are pickled for processes that this one
    starts, and never else (docs/remote.md).

    Files of other formats (Parquet, HDF5, ...: all that :func:`e2eio.convert` reads) are a dataset too, without
    converting them: their samples are encoded by processes of their own when they are first touched
    (docs/direct.md). Threads that wait for these processes begin with the first sample, and end when
    all samples are encoded or the dataset is gone.

    Parameters
    ----------
    source : path, URL or sequence of them
        A directory made by :func:`e2eio.convert` or :func:`e2eio.write`, a shard ``*.e2e``, or several
        of either, in the order of the samples; also on servers: ``https://``, ``s3://``, ``root://`` and what
        else fsspec reads. A reader of :func:`e2eio.shards.open_shard` does as well; the
        way in which it reads is not pickled. Or files of other formats, and nothing else.
    cache : path, optional
        Directory in which copies of remote shards and encoded samples of files of other formats are kept, for
        the next epoch, the next program and other processes. None: nowhere, and in memory.
    import_options : ImportOptions, optional
        What files of other formats leave open: channels, shape and the rest, as :func:`e2eio.convert` takes it.
    storage_options : mapping, optional
        Arguments of fsspec's file systems, for URLs of shards: endpoints, credentials.

    Raises
    ------
    ConfigError
        An argument is wrong, or what the images of foreign files mean is not clear.
    ImporterError
        A file of another format is damaged, or not what it should be.
    ShardNotFoundError
        There is no such file, or no shard in the directory.
    ShardIOError
        The system, or a server after some tries, refused.
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
        *,
        cache: str | os.PathLike[str] | None = None,
        import_options: ImportOptions | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(source, str | os.PathLike | _core.ShardReader):
            source = [source]
        sources = [
            each if isinstance(each, _core.ShardReader) else _name_of(each) for each in source
        ]
        if not sources:
            raise ConfigError("no dataset: found an empty list; expected at least one path")
        self._sources = [_name_of(each) for each in sources]
        self._cache = None if cache is None else os.fspath(cache)
        self._import_options = import_options
        self._storage_options = StorageOptions(storage_options)
        self._take(open_parts(sources, cache, import_options, self._storage_options))

    def _take(self, parts: list[ShardPart]) -> None:
        check_schemas(parts)
        self._parts = parts
        self._schema = parts[0].schema
        self._statistics = _merged([part.statistics for part in parts])
        counts = [count for part in parts for count in part.counts]
        self._source_sizes = tuple(size for part in parts for size in part.source_sizes)
        self._ends = np.cumsum(np.asarray(counts, dtype=np.int64))
        self._digest = manifest.dataset_digest(each for part in parts for each in part.digests)
        self._columns: dict[str, NDArray[Any]] = {}
        self._sample_reader: _core.SampleReader | None = None
        self._pid = os.getpid()  # of the sample reader

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __repr__(self) -> str:
        channels, height, width = self._schema.image.shape
        scalars = ", ".join(field.name for field in self._schema.scalars)
        return (
            f"Dataset({len(self)} samples in {len(self._ends)} shards{self._to_make()}: "
            f"{self._schema.image.name} float32 [{channels}, {height}, {width}]; {scalars})"
        )

    def _to_make(self) -> str:
        n_missing = sum(part.n_missing for part in self._parts)
        return f", of which {n_missing} are to be made" if n_missing else ""

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that shards take which were made of files of other formats, without a cache."""
        return sum(part.held_bytes for part in self._parts)

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
        """Hex digest of all shards: equal for equal samples in equal order.

        That of files of other formats is known before they are read in full: it comes from their sizes, footers and
        the options, and differs from that of the converted dataset.
        """
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
    def shards(self) -> tuple[_core.ShardReader | _core.LateShard, ...]:
        """The shards, for the core; late ones come when :meth:`awaken` was called and they are touched."""
        return tuple(reader for part in self._parts for reader in part.readers)

    @property
    def readers(self) -> tuple[_core.ShardReader, ...]:
        """The shards that are files."""
        return tuple(each for each in self.shards if isinstance(each, _core.ShardReader))

    @property
    def n_bytes(self) -> int:
        """Stored size in bytes; about, for files of other formats."""
        return sum(part.n_bytes for part in self._parts)

    def awaken(self) -> None:
        """Have the shards made that are touched and not there; to be called before samples are asked of the core."""
        for part in self._parts:
            part.awaken()

    def path_of(self, sample: int) -> tuple[str, int]:
        """Return the file that holds a sample, or that its shard is made from, and its number in the shard."""
        for part in self._parts:
            for index, count in enumerate(part.counts):
                if sample < count:
                    return part.path_of(index), sample
                sample -= count
        raise IndexError(sample)

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
            column = np.concatenate([part.column(index) for part in self._parts])
            column.setflags(write=False)
            self._columns[name] = column
        return self._columns[name]

    def scalars_at(self, name: str, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return a scalar field of samples whose images were read: what :meth:`scalars` has at these numbers.

        Of files of other formats the rest is not read for it.
        """
        if name in self._columns or not any(part.n_missing for part in self._parts):
            return self.scalars(name)[ids]
        index = [field.name for field in self._schema.scalars].index(name)
        values = np.empty(len(ids), self._schema.scalars[index].dtype)
        for part, here, within in self._by_part(ids):
            values[here] = part.scalars_at(index, within)
        return values

    def _by_part(
        self, ids: NDArray[np.int64]
    ) -> Iterator[tuple[ShardPart, NDArray[np.bool_], NDArray[np.int64]]]:
        """Yield the parts that hold some of the samples, which they are, and their numbers in the part."""
        begin = 0
        for part in self._parts:
            end = begin + sum(part.counts)
            here = (ids >= begin) & (ids < end)
            if here.any():
                yield part, here, ids[here] - begin
            begin = end

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
            columns[field.name] = self.scalars_at(field.name, ids)
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
        if self._sample_reader is None or self._pid != os.getpid():
            self._sample_reader = _core.SampleReader(self.shards)
            self._pid = os.getpid()
        for part, _, within in self._by_part(ids):
            part.wait(within)
        return self._sample_reader.read(ids, range(len(self.channels)), _threads_here())

    def __getstate__(self) -> dict[str, object]:
        return {
            "sources": self._sources,
            "digest": self._digest,
            "statistics": self._statistics,
            "source_sizes": self._source_sizes,
            "cache": self._cache,
            "import_options": self._import_options,
            "storage_options": self._storage_options,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        Dataset.__init__(
            self,
            state["sources"],
            cache=state["cache"],
            import_options=state["import_options"],
            storage_options=state["storage_options"],
        )
        if state["statistics"] is not None:
            self._statistics = state["statistics"]
        self._source_sizes = state["source_sizes"]
        if self._digest != state["digest"]:
            raise CorruptShardError(
                f"dataset changed: {state['sources'][0]}: its shards are not those that were pickled; "
                "make the Dataset again",
                path=state["sources"][0],
            )


def _name_of(source: str | os.PathLike[str] | _core.ShardReader) -> str:
    name = source.path if isinstance(source, _core.ShardReader) else os.fspath(source)
    return RemoteUrl(name) if is_url(name) else name


def _threads_here() -> int:
    """Return how many threads a decode may take: one in a worker process, whose siblings use the other cores."""
    multiprocessing = sys.modules.get("multiprocessing")  # not imported: nobody has forked with it
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        return 1
    return share_of_cores(_core.usable_cores())


def dataset_of(source: Any, cache: str | os.PathLike[str] | None) -> Dataset:
    """Return the dataset that a loader was given, or given the path of."""
    if not isinstance(source, Dataset):
        return Dataset(source, cache=cache)
    if cache is not None:
        raise ConfigError(f"cache is {cache!r} with a Dataset; expected it as an argument of that")
    return source


def join_datasets(datasets: Sequence[Dataset]) -> Dataset:
    """Return one dataset of the samples of all, in order; of a single one, itself. Opens no file.

    Raises
    ------
    SchemaMismatchError
        They hold different fields.
    """
    if len(datasets) == 1:
        return datasets[0]
    joined = Dataset.__new__(Dataset)
    joined._sources = [source for dataset in datasets for source in dataset._sources]
    joined._cache, joined._import_options = datasets[0]._cache, datasets[0]._import_options
    joined._storage_options = StorageOptions()
    for dataset in datasets:
        joined._storage_options |= dataset._storage_options
    joined._take([part for dataset in datasets for part in dataset._parts])
    return joined


def _merged(
    parts: Sequence[tuple[manifest.ChannelStatistics, ...] | None],
) -> tuple[manifest.ChannelStatistics, ...] | None:
    known = [part for part in parts if part is not None]
    if len(known) != len(parts):
        return None
    return known[0] if len(known) == 1 else manifest.merge_statistics(known, len(known[0]))
