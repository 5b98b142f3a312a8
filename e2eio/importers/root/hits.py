"""Hits of the whole detector in a ROOT tree (CERN Open Data record 12220), read as event or jet images.

Names of branches, sizes and the meaning of seeds: the public producer and converters of these files, GitHub
repositories ddyachkova/CMSSW_5_3_32-MLAnalyzer and mbandrews/MLAnalyzer; docs/importers/root.md says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.detector_grid import CRYSTALS, ETA_CRYSTALS, PHI_CRYSTALS, PHI_TOWERS, TOWER_CRYSTALS
from e2eio.errors import ConfigError
from e2eio.importers.jets.recipe import inside_barrel, window, window_index
from e2eio.importers.root.table_source import CHUNK_BYTES, TableSource, merged, scalar_dtype, sizes
from e2eio.importers.source import Chunk, Geometry, ImportOptions, make_schema
from e2eio.schema import DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.importers.jets.recipe import JetRecipe
    from e2eio.importers.root.file import RootFile, Table

    Ints = NDArray[np.int64]

__all__ = ["HitSource", "Hits"]

_SEEDS: Final = ("jetSeed_ieta", "jetSeed_iphi")
_EE_ROWS: Final = 55  # of each endcap, and one row of padding for pairs of rows


@dataclass(frozen=True, slots=True)
class Hits:
    """Where a channel comes from.

    Parameters
    ----------
    channel : str
    value : str
        Column of energies, or other values.
    index : str or None
        Column of their pixel numbers; None: `value` has all pixels.
    """

    channel: str
    value: str
    index: str | None = None


class HitSource(TableSource):
    """A table of whole-detector images or hit lists; one thread at a time may use it."""

    def __init__(self, file: RootFile, table: Table, options: ImportOptions) -> None:
        super().__init__(file, table, options)
        self._recipe = options.jet_recipe()
        self._hits = _find_hits(file.path, table, self._recipe)
        for column in self._columns():
            self._check_type(column)
        if table.n_entries == 0:
            raise self._error("no samples", "an empty tree", "at least one entry")
        self._is_jets = all(name in table for name in _SEEDS) and not self._recipe.whole
        self._lead = self._hits[0].value
        if self._is_jets:
            self._read_seeds()
        else:
            self._jets: dict[str, NDArray[Any]] = {}
            self._event = np.arange(table.n_entries)
            self._cuts = table.cuts(self._lead)
        self._make_schema()

    @staticmethod
    def fits(table: Table, options: ImportOptions) -> bool:
        """Return whether there are hits of a calorimeter, or branches were named."""
        named = options.jet_recipe().branches
        return bool(named) or "ECAL_energy" in table or "HBHE_energy" in table

    def _columns(self) -> list[str]:
        """Return the columns of hits, each once."""
        columns = (name for hits in self._hits for name in (hits.value, hits.index))
        return list(dict.fromkeys(name for name in columns if name is not None))

    def _check_type(self, name: str) -> None:
        column = self._table.column(name)
        if column.dtype not in DTYPES or column.dtype == "bool" or len(column.dims) != 1:
            raise self._error(f"wrong type of column {name!r}", column.text, "lists of numbers")

    def _make_schema(self) -> None:
        g = self._recipe.resolution
        height, width = (CRYSTALS, CRYSTALS) if self._is_jets else (ETA_CRYSTALS, PHI_CRYSTALS)
        self._geometry = Geometry((len(self._hits), height * g, width * g), "CHW")
        options = self._options
        if options.shape not in (None, self._geometry.shape):
            raise ConfigError(
                f"shape of images differs: {self.path}: found {self._geometry.shape} of the hits, "
                f"expected {options.shape}; mend shape or recipe"
            )
        used = self._columns()
        self._events = {}
        for name in self._table.names:
            column = self._table.column(name)
            dtype = scalar_dtype(column)
            if dtype is not None:
                self._events[name] = dtype
            elif name not in used and name not in self._jets:
                self._skipped.append(f"{name} ({column.text})")
        for name in self._table.counters() & self._events.keys():
            del self._events[name]
        fields = [(name, str(values.dtype)) for name, values in self._jets.items()]
        fields += list(self._events.items())
        if options.given_channels() is None:
            options = replace(options, channels=tuple(h.channel for h in self._hits), preset=None)
        image = options.image or ("X_jets" if self._is_jets else "X")
        where = f"hits of {self.path}"
        self._schema = make_schema(where, image, self._geometry, fields, options)

    def _read_seeds(self) -> None:
        """Read what there is of each jet, and keep those whose image lies on the detector."""
        n = self._table.n_entries
        lists = {name: self._read_lists(name, 0, n) for name in _SEEDS}
        row, counts = lists[_SEEDS[0]]
        column, others = lists[_SEEDS[1]]
        if not np.array_equal(counts, others):
            raise self._error("seeds differ in number", _SEEDS[1], f"as many as {_SEEDS[0]}")
        for name in self._table.names:
            kind = self._table.column(name)
            if name.startswith("jet") and name not in lists and kind.dims == (None,):
                if kind.dtype not in DTYPES:
                    continue
                values, found = self._read_lists(name, 0, n)
                if np.array_equal(found, counts):
                    lists[name] = values, found
        kept = inside_barrel(row) & (column >= 0) & (column < PHI_TOWERS)
        if not kept.all():
            self._skipped.append(
                f"{np.sum(~kept)} of {len(kept)} jets: |ieta| of the seed above 16, or no seed"
            )
        if not kept.any():
            raise self._error("no jets", f"{len(kept)} seeds", "one with |ieta| of at most 16")
        self._jets = {name: values[kept] for name, (values, _) in lists.items()}
        self._event = np.repeat(np.arange(n), counts)[kept]
        after = np.searchsorted(self._event, self._table.cuts(self._lead))
        self._cuts = np.unique(np.append(after, 0)).astype(np.int64)

    def _read(self, begin: int, end: int) -> Iterator[Chunk]:
        first, last = int(self._event[begin]), int(self._event[end - 1]) + 1
        cuts, weights = self._table.segments(self._lead)
        pixels = ETA_CRYSTALS * PHI_CRYSTALS * self._recipe.resolution**2 * len(self._hits)
        n_events = max(1, CHUNK_BYTES // (4 * pixels))
        for low, high in merged(cuts, weights, first, last, CHUNK_BYTES // len(self._hits)):
            read = {name: self._table.read(name, low, high) for name in self._columns()}
            lists = {name: (found.values, sizes(found)) for name, found in read.items()}
            scalars = {name: self._read_scalar(name, low, high) for name in self._events}
            for event in range(low, high, n_events):
                stop = min(high, event + n_events)
                start = max(begin, int(np.searchsorted(self._event, event)))
                finish = min(end, int(np.searchsorted(self._event, stop)))
                if start < finish:
                    whole = self._whole(lists, low, event, stop)
                    part = {name: values[event - low :] for name, values in scalars.items()}
                    yield self._cropped(whole, part, start, finish, event)

    def _whole(
        self, lists: dict[str, tuple[NDArray[Any], Ints]], low: int, first: int, last: int
    ) -> NDArray[np.float32]:
        """Return the images of the events [first, last), whole; lists begin with event `low`."""
        g = self._recipe.resolution
        shape = (last - first, len(self._hits), ETA_CRYSTALS * g, PHI_CRYSTALS * g)
        images = np.zeros(shape, np.float32)
        for channel, hits in enumerate(self._hits):
            values, counts = _cut(lists[hits.value], first - low, last - low)
            factor, n_pixels = self._factor(hits, counts, first)
            grid = (ETA_CRYSTALS * g // factor, PHI_CRYSTALS * g // factor)
            if hits.index is None:
                self._check_full(hits.value, counts, n_pixels, first)
                planes = values.reshape(-1, *grid)
            else:
                index = _cut(lists[hits.index], first - low, last - low)
                planes = self._scattered(hits, index, (values, counts), grid, first)
            planes = planes.astype(np.float32)
            if hits.channel == "ecal":
                planes = _share_endcaps(planes, self._recipe.endcap)
            shared = planes / np.float32(factor**2) if factor > 1 else planes
            images[:, channel] = np.repeat(np.repeat(shared, factor, axis=1), factor, axis=2)
        return images

    def _factor(self, hits: Hits, counts: Ints, row: int) -> tuple[int, int]:
        """Return how many pixels of the image a cell of a channel is wide, and its cells."""
        g = self._recipe.resolution
        cells = ETA_CRYSTALS * PHI_CRYSTALS
        if hits.channel == "hcal":
            factor = TOWER_CRYSTALS * g
        elif hits.channel == "ecal" or (hits.index is None and np.all(counts == cells)):
            factor = g
        else:
            factor = 1
        if factor == g > 1 and hits.channel != "ecal":
            raise self._error(
                f"wrong resolution of column {hits.value!r}",
                f"{cells} pixels",
                f"{cells * g * g}, as the recipe says resolution={g}",
                row,
            )
        return factor, cells * g * g // factor**2

    def _check_full(self, name: str, counts: Ints, n_pixels: int, first: int) -> None:
        wrong = np.flatnonzero(counts != n_pixels)
        if wrong.size:
            raise self._error(
                f"ragged image in column {name!r}",
                f"a list of {counts[wrong[0]]}",
                f"{n_pixels}; where it is a list of hits, say so: recipe branches INDEX:VALUE",
                first + int(wrong[0]),
            )

    def _scattered(
        self,
        hits: Hits,
        index: tuple[NDArray[Any], Ints],
        value: tuple[NDArray[Any], Ints],
        grid: tuple[int, int],
        first: int,
    ) -> NDArray[Any]:
        """Return planes filled with lists of hits; hits of one pixel are added."""
        (numbers, counts), (values, others) = index, value
        if not np.array_equal(counts, others):
            row = first + int(np.flatnonzero(counts != others)[0])
            raise self._error(
                "hits differ in number", f"column {hits.value!r}", f"as many as {hits.index!r}", row
            )
        n_pixels = grid[0] * grid[1]
        event = np.repeat(np.arange(len(counts)), counts)
        wrong = np.flatnonzero(~((numbers >= 0) & (numbers < n_pixels)))
        if wrong.size:
            raise self._error(
                f"no such pixel in column {hits.index!r}",
                f"{numbers[wrong[0]]}",
                f"0 to {n_pixels - 1}",
                first + int(event[wrong[0]]),
            )
        cells = event * n_pixels + numbers.astype(np.int64)
        planes = np.bincount(cells, values, len(counts) * n_pixels)
        return planes.reshape(len(counts), *grid)

    def _cropped(
        self,
        whole: NDArray[np.float32],
        events: dict[str, NDArray[Any]],
        begin: int,
        end: int,
        first: int,
    ) -> Chunk:
        """Return the samples [begin, end); `whole` and `events` are of the events from `first` on."""
        event = self._event[begin:end]
        scalars = {name: values[begin:end] for name, values in self._jets.items()}
        for name, dtype in self._events.items():
            scalars[name] = events[name][event - first].astype(dtype, copy=False)
        if not self._is_jets:
            return whole[event - first], scalars
        row, column = (self._jets[name][begin:end].astype(np.int64) for name in _SEEDS)
        g = self._recipe.resolution
        edge, n_columns = self._recipe.edge, PHI_CRYSTALS * g
        top, left = window(row, column)
        images = np.empty((end - begin, len(self._hits), edge, edge), np.float32)
        for number in range(end - begin):
            rows, columns = window_index(
                int(top[number]) * g, int(left[number]) * g, edge, n_columns
            )
            images[number] = whole[event[number] - first, :, rows][..., columns]
        return images, scalars


def _candidates(resolution: int) -> dict[str, tuple[str, ...]]:
    """Return the branches of each channel, the converters' choice first."""
    fine = f"ECALadj{{}}_{resolution}x{resolution}"

    def of_tracks(what: str) -> tuple[str, ...]:
        if resolution > 1:
            return (fine.format(f"_tracks{what}"),)
        projections = ("_atECALfixIP", "_atECALfixIPfromPV", "_atECAL", "")
        return tuple(f"ECAL_tracks{what}{projection}" for projection in projections)

    def of_layers(part: str, layer: int) -> tuple[str, ...]:
        if resolution > 1:
            return (f"{part}_layer{layer}_{fine.format('')}",)
        return tuple(f"{part}_layer{layer}_ECAL{projection}" for projection in ("_atPV", ""))

    channels = {
        "track_pt": of_tracks("Pt"),
        "d0": of_tracks("D0"),
        "dz": of_tracks("Dz"),
        "d0_significance": of_tracks("D0Sig"),
        "dz_significance": of_tracks("DzSig"),
        "ecal": ("ECAL_energy",),
        "hcal": ("HBHE_energy",),
    }
    channels.update({f"bpix{n}": of_layers("BPIX", n) for n in (1, 2, 3, 4)})
    for part in ("TIB", "TOB"):
        channels.update({f"{part.lower()}{n}": of_layers(part, n) for n in (1, 2)})
    return channels


def _find_hits(path: str, table: Table, recipe: JetRecipe) -> tuple[Hits, ...]:
    """Return where each channel comes from, in the order of the 8-channel images."""
    named = {channel: text.split(":") for channel, text in recipe.branches.items()}
    found = []
    for channel, branches in _candidates(recipe.resolution).items():
        if channel in named:
            continue
        there = [name for name in branches if name in table]
        if len(there) > 1 and there[0] != branches[0]:
            raise ConfigError(
                f"several branches: {path}: channel {channel!r}: found {', '.join(there)}, "
                f"expected one, or {branches[0]}; say which: recipe branches {channel}=BRANCH"
            )
        if there:
            found.append(Hits(channel, there[0]))
    for channel, parts in named.items():
        if len(parts) > 2 or not all(part in table for part in parts):
            raise ConfigError(
                f"no such branch: {path}: channel {channel!r}: found columns "
                f"{', '.join(table.names[:24])}, expected {' and '.join(parts)}; mend recipe branches"
            )
        found.append(Hits(channel, parts[-1], parts[0] if len(parts) == 2 else None))
    order = {name: number for number, name in enumerate(_candidates(recipe.resolution))}
    return tuple(sorted(found, key=lambda hits: order.get(hits.channel, len(order))))


def _cut(lists: tuple[NDArray[Any], Ints], first: int, last: int) -> tuple[NDArray[Any], Ints]:
    """Return the lists [first, last)."""
    values, counts = lists
    ends = np.append(0, np.cumsum(counts))
    return values[ends[first] : ends[last]], counts[first:last]


def _share_endcaps(planes: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    """Return [n, 280, 360] with the 55 rows of each endcap shared among 2 x 2 pixels.

    An endcap has an empty row added at its outer edge, so that its rows make pairs.
    """
    if how == "kept":
        return planes
    shared: NDArray[np.float32] = planes.copy()
    for rows, padded in (
        (slice(0, _EE_ROWS), slice(1, None)),
        (slice(-_EE_ROWS, None), slice(0, -1)),
    ):
        endcap = np.zeros((len(planes), _EE_ROWS + 1, planes.shape[2]), np.float32)
        endcap[:, padded] = planes[:, rows]
        blocks = endcap.reshape(len(planes), (_EE_ROWS + 1) // 2, 2, -1, 2)
        sums = blocks.sum(axis=(2, 4), keepdims=True) / np.float32(4 if how == "shared" else 16)
        spread = np.broadcast_to(sums, blocks.shape).reshape(endcap.shape)
        shared[:, rows] = spread[:, padded]
    return shared
