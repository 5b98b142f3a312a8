"""The door to uproot and awkward: ROOT files as tables of columns, columns as plain numpy arrays.

A table is a TTree or an RNTuple. Sizes that a file states are compared with what it holds before
anything is allocated by them: baskets and pages must lie within the file, a basket inflates to at most
`bounds.MAX_BASKET_BYTES`, and no block to more than its header says.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.errors import ConfigError, E2eioError, ImporterError, MissingDependencyError
from e2eio.importers.files import open_binary, system_error
from e2eio.importers.root.bounds import (
    INFLATERS,
    MAX_RATIO,
    BoundedStream,
    check_baskets,
    check_clusters,
    check_end,
    digest,
)

try:
    import awkward as ak
    import uproot
    import uproot.compression
except ImportError as error:  # pragma: no cover - exercised without the extra
    raise MissingDependencyError(
        "packages uproot and awkward are missing: they read ROOT files; "
        "run pip install 'e2eio[root]'"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

__all__ = ["Column", "Lists", "RootFile", "Table"]

_AGAIN: Final = "fetch the file again"
_TABLES: Final = ("TTree", "ROOT::RNTuple", "ROOT::Experimental::RNTuple")
_PREFERRED: Final = ("Events", "events", "RHTree")


# uproot's own let a block inflate to any size before they compare it with the header. These refuse only
# what uproot refuses afterwards, so other users of uproot in this process see no difference.
for _bounded in INFLATERS:
    if hasattr(uproot.compression, f"_decompress_{_bounded.name}"):
        setattr(uproot.compression, f"_decompress_{_bounded.name}", _bounded)


@dataclass(frozen=True, slots=True)
class Column:
    """A column, as the file describes it.

    Parameters
    ----------
    name : str
    text : str
        Its type in ROOT's words.
    dtype : str or None
        numpy name of its numbers; None: no numbers, or a structure that no array has.
    dims : tuple
        Sizes of the nested lists of one entry, outermost first; None where they may differ. Empty: one
        number per entry.
    """

    name: str
    text: str
    dtype: str | None
    dims: tuple[int | None, ...] = ()

    @property
    def is_scalar(self) -> bool:
        """Whether an entry is one number."""
        return self.dtype is not None and not self.dims


@dataclass(frozen=True, slots=True)
class Lists:
    """Entries of a column.

    Parameters
    ----------
    values : ndarray
        All numbers one after the other, in the machine's byte order.
    counts : tuple
        For each level of nesting the sizes of its lists, one after the other, or the one size of all.
    n : int
        Entries.
    """

    values: NDArray[Any]
    counts: tuple[Ints | int, ...]
    n: int


class RootFile:
    """A ROOT file, opened; one thread at a time may use it.

    Parameters
    ----------
    path : str

    Raises
    ------
    ShardNotFoundError, ShardIOError
        The file is missing, or the system refused.
    ImporterError
        It is truncated or damaged.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._stream = open_binary(path)
        weakref.finalize(self, self._stream.close)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        with _translated(self.path, "header"):
            self.n_bytes = self._stream.seek(0, os.SEEK_END)
            self.fingerprint = digest(self._stream, self.n_bytes)
            self._stream.seek(0)
            check_end(self.path, self._stream.read(20), self.n_bytes)
            self._root = uproot.open(
                BoundedStream(self._stream, self.n_bytes),
                object_cache=None,
                array_cache=None,
                use_threads=False,
            )
            classes = self._root.classnames(recursive=True, cycle=True)
            self._tables: dict[str, str] = {}
            for name, kind in classes.items():  # the newest cycle comes first
                if kind in _TABLES:
                    self._tables.setdefault(name.rpartition(";")[0], name)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the trees and ntuples, with their directories."""
        return tuple(self._tables)

    def table(self, name: str | None) -> Table:
        """Open a table.

        Parameters
        ----------
        name : str, optional
            Default: the only one, or else Events, events or RHTree in any directory.

        Raises
        ------
        ConfigError
            There is none of the name, or several and none was named.
        ImporterError
            There is none at all, or it is damaged.
        """
        if not self._tables:
            raise ImporterError(
                f"no tree: {self.path}: found no TTree or RNTuple, expected one of images or "
                "particles; check that this is a file of events",
                self.path,
            )
        chosen = self._choose(name)
        with _translated(self.path, f"tree {chosen!r}"):
            return Table(self.path, chosen, self._root[self._tables[chosen]], self.n_bytes)

    def _choose(self, name: str | None) -> str:
        found = list(self._tables)
        if name is not None:
            fitting = [n for n in found if name in (n, n.rpartition("/")[2])]
        elif len(found) == 1:
            fitting = found
        else:
            last = {n.rpartition("/")[2]: n for n in reversed(found)}
            fitting = [last[n] for n in _PREFERRED if n in last][:1]
        if len(fitting) != 1:
            wanted = "one of them; pass tree" if name is None else f"{name!r}; mend tree"
            raise ConfigError(
                f"{'several' if name is None or fitting else 'no such'} tree: {self.path}: "
                f"found {', '.join(found)}, expected {wanted}"
            )
        return fitting[0]

    def close(self) -> None:
        """Close the file; may be called again."""
        self._stream.close()


class Table:
    """A TTree or an RNTuple; one thread at a time may use it. Made by `RootFile.table`."""

    def __init__(self, path: str, name: str, opened: Any, n_bytes: int) -> None:
        self.path = path
        self.name = name
        self.opened = opened
        self.n_bytes = n_bytes
        self._is_tree = isinstance(opened, uproot.TTree)
        self.n_entries = int(opened.num_entries)
        if not 0 <= self.n_entries <= n_bytes * MAX_RATIO:
            raise ValueError(f"{self.n_entries} entries in {n_bytes} bytes")
        if self._is_tree:
            self._parts = dict(opened.iteritems(recursive=True))
        else:
            self._parts = dict(zip(opened.keys(recursive=False), opened.fields, strict=True))
        self._segments: dict[str, tuple[Ints, Ints]] = {}
        self._columns: dict[str, Column] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._parts)

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def column(self, name: str) -> Column:
        """Return what the file says of a column."""
        if name not in self._columns:
            with _translated(self.path, f"column {name!r}"):
                self._columns[name] = self._described(name)
        return self._columns[name]

    def _described(self, name: str) -> Column:
        part = self._parts[name]
        text = str(part.typename)
        try:
            if self._is_tree:
                form = part.interpretation.awkward_form(part.file)
            else:
                form = part.to_akform()[0]
                form = form.content(name) if isinstance(form, ak.forms.RecordForm) else form
        except (MemoryError, RecursionError):
            raise
        except Exception:  # uproot has many words for "no array"
            return Column(name, text, None)
        return Column(name, text, *_form(form))

    def counters(self) -> frozenset[str]:
        """Return the columns that say how long the lists of other columns are."""
        if not self._is_tree:
            return frozenset()
        with _translated(self.path, f"tree {self.name!r}"):
            counts = [part.count_branch for part in self._parts.values()]
            return frozenset(branch.name for branch in counts if branch is not None)

    def cuts(self, name: str) -> Ints:
        """Return the ascending entries, 0 to `n_entries`, at which a basket or a cluster begins."""
        return np.unique(np.append(self.segments(name)[0], [0, self.n_entries]))

    def segments(self, name: str) -> tuple[Ints, Ints]:
        """Return the first entries of baskets or clusters and the last's end, and inflated sizes.

        Raises
        ------
        ImporterError
            What the file states of them cannot be.
        """
        if name not in self._segments:
            with _translated(self.path, f"column {name!r}"):
                if self._is_tree:
                    found = check_baskets(self._parts[name], self.n_entries, self.n_bytes)
                else:
                    found = check_clusters(self.opened.ntuple, self.n_entries, self.n_bytes)
                self._segments[name] = found
        return self._segments[name]

    def read(self, name: str, begin: int, end: int) -> Lists:
        """Return the entries [begin, end) of a column of numbers.

        Raises
        ------
        ImporterError
            The file is damaged, or an entry is missing.
        """
        self.segments(name)
        with _translated(self.path, f"column {name!r}, entries {begin} to {end - 1}"):
            array = self._parts[name].array(
                entry_start=begin, entry_stop=end, library="ak", array_cache=None
            )
            if len(array) != end - begin:
                raise ValueError(f"{len(array)} entries, not {end - begin}")
            return _flatten(array.layout)


@contextmanager
def _translated(path: str, where: str) -> Iterator[None]:
    """Turn whatever a damaged file makes uproot raise into this package's errors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (E2eioError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # cramjam's PanicException is no Exception
        if isinstance(error, OSError) and error.errno is not None:
            raise system_error(path, error) from error
        found = (str(error).strip().splitlines() or [""])[0][:200]
        raise ImporterError(
            f"damaged ROOT file: {path}: {where}: found {type(error).__name__}: {found!r}, "
            f"expected readable data; {_AGAIN}",
            path,
        ) from error


def _form(form: Any) -> tuple[str | None, tuple[int | None, ...]]:
    """Return dtype and dims of an awkward form."""
    dims: list[int | None] = []
    while True:
        if form.parameters.get("__array__") in ("string", "bytestring", "char", "byte"):
            return None, ()
        if isinstance(form, ak.forms.RegularForm):
            dims.append(int(form.size))
        elif isinstance(form, (ak.forms.ListOffsetForm, ak.forms.ListForm)):
            dims.append(None)
        elif isinstance(form, ak.forms.NumpyForm):
            dtype = np.dtype(form.primitive).newbyteorder("=")
            return str(dtype), (*dims, *form.inner_shape)
        else:
            return None, ()
        form = form.content


def _flatten(layout: Any) -> Lists:
    counts: list[Ints | int] = []
    n = len(layout)
    while not isinstance(layout, ak.contents.NumpyArray):
        if isinstance(layout, ak.contents.RegularArray):
            counts.append(int(layout.size))
            layout = layout.content[: len(layout) * layout.size]
        elif isinstance(layout, (ak.contents.ListOffsetArray, ak.contents.ListArray)):
            layout = layout.to_ListOffsetArray64(True)
            offsets = np.asarray(layout.offsets)
            if np.any(np.diff(offsets) < 0) or offsets[-1] > len(layout.content):
                raise ValueError("lists that overlap")
            counts.append(np.diff(offsets).astype(np.int64))
            layout = layout.content[: offsets[-1]]
        else:
            raise TypeError(f"a {type(layout).__name__}")
    values = np.asarray(layout.data)
    counts.extend(values.shape[1:])
    native = np.dtype(values.dtype.name)  # numpy's own object: the core compares by identity
    values = values.reshape(-1).astype(native, copy=False).view(native)
    _check_counts(counts, n, len(values))
    return Lists(values, tuple(counts), n)


def _check_counts(counts: Sequence[Ints | int], n: int, n_values: int) -> None:
    for count in counts:
        n = n * count if isinstance(count, int) else int(count.sum())
    if n != n_values:
        raise ValueError(f"lists of {n} numbers over {n_values}")
