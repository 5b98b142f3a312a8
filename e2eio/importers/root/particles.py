"""Particle lists of ROOT files (PFNano), read as jet images of five channels.

Jets are counted from their own short branches; particles are read in blocks. What is drawn, and how, is in
`jets.images`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.detector_grid import PION_GEV
from e2eio.errors import ConfigError
from e2eio.importers.jets.images import (
    CHANNELS,
    Particles,
    axis_towers,
    draw,
    find_centres,
    hcal_towers,
)
from e2eio.importers.jets.recipe import inside_barrel
from e2eio.importers.root.table_source import CHUNK_BYTES, TableSource, merged, scalar_dtype
from e2eio.importers.source import Chunk, Geometry, ImportOptions, make_schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.importers.root.file import RootFile, Table

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

__all__ = ["ParticleSource"]

_NEEDED: Final = ("pt", "eta", "phi", "charge", "pdgId", "d0", "dz")
_JET: Final = ("pt", "eta", "phi")
_BLOCK_BYTES: Final = 8 << 20  # of one column of particles

# Scalar fields made of jet branches (where there), and event branches that are kept.
_JET_SCALARS: Final = {
    "pt": "pt",
    "eta": "eta",
    "phi": "phi",
    "m0": "mass",
    "hadron_flavour": "hadronFlavour",
    "n_b_hadrons": "nBHadrons",
    "n_c_hadrons": "nCHadrons",
}
_EVENT_SCALARS: Final = ("run", "luminosityBlock", "event")


class ParticleSource(TableSource):
    """A table of particle and jet lists, read as jet images; one thread at a time may use it."""

    def __init__(self, file: RootFile, table: Table, options: ImportOptions) -> None:
        super().__init__(file, table, options)
        self._recipe = options.jet_recipe()
        self._check_columns()
        edge = self._recipe.edge
        self._geometry = Geometry((len(CHANNELS), edge, edge), "CHW")
        if options.shape not in (None, self._geometry.shape):
            raise ConfigError(
                f"shape of images differs: {self.path}: found {self._geometry.shape} of the recipe, "
                f"expected {options.shape}; mend shape or resolution"
            )
        self._jets = self._read_jets()
        fields = [(name, str(values.dtype)) for name, values in self._jets.items()]
        fields += [("ieta", "int32"), ("iphi", "int32")]
        self._events = {
            name: dtype
            for name in _EVENT_SCALARS
            if name in table and (dtype := scalar_dtype(table.column(name))) is not None
        }
        fields += list(self._events.items())
        given = options
        if options.given_channels() is None:
            given = replace(options, channels=CHANNELS, preset=None)
        image = options.image or "X_jets"
        self._schema = make_schema(f"jets of {self.path}", image, self._geometry, fields, given)

    @staticmethod
    def fits(table: Table, options: ImportOptions) -> bool:
        """Return whether there are lists of particles or of AK8 jets."""
        return "PFCands_pt" in table or "FatJet_pt" in table

    def _check_columns(self) -> None:
        needed = [f"PFCands_{name}" for name in _NEEDED] + [f"FatJet_{name}" for name in _JET]
        missing = [name for name in needed if name not in self._table]
        if missing:
            prefixes = ("PFCands_", "FatJet_")
            found = [name for name in self._table.names if name.startswith(prefixes)]
            raise self._error(
                "missing columns",
                f"no {', '.join(missing)}, but {', '.join(found[:24])}",
                "all of them",
            )
        for name in needed:
            column = self._table.column(name)
            if column.dtype is None or column.dims != (None,):
                raise self._error(f"wrong type of column {name!r}", column.text, "lists of numbers")

    def _read_jets(self) -> dict[str, NDArray[Any]]:
        """Read all jets, and keep those whose image lies on the detector."""
        table = self._table
        lists = {
            name: self._read_lists(f"FatJet_{branch}", 0, table.n_entries)
            for name, branch in _JET_SCALARS.items()
            if f"FatJet_{branch}" in table
        }
        counts = lists["pt"][1]
        for name, (_, other) in lists.items():
            if not np.array_equal(other, counts):
                row = int(np.flatnonzero(other != counts)[0])
                raise self._error(
                    f"jets differ in number: column 'FatJet_{_JET_SCALARS[name]}'",
                    f"{other[row]}",
                    f"{counts[row]} as in 'FatJet_pt'",
                    row,
                )
        jets = {name: values for name, (values, _) in lists.items()}
        event = np.repeat(np.arange(len(counts)), counts)
        self._axis = axis_towers(jets["eta"].astype(float), jets["phi"].astype(float))
        on_detector = inside_barrel(self._axis[0])
        hard = jets["pt"] >= self._recipe.min_pt
        self._keep(event, on_detector, hard, counts)
        kept = on_detector & hard
        self._axis = (self._axis[0][kept], self._axis[1][kept])
        self._event = event[kept]
        after = np.searchsorted(self._event, table.cuts("PFCands_pt"))
        self._cuts = np.unique(np.append(after, 0)).astype(np.int64)
        return {name: values[kept] for name, values in jets.items()}

    def _keep(self, event: Ints, on_detector: Mask, hard: Mask, counts: Ints) -> None:
        n_outside, n_soft = int(np.sum(~on_detector)), int(np.sum(on_detector & ~hard))
        if n_outside:
            self._skipped.append(f"{n_outside} of {len(event)} jets: |ieta| of the axis above 16")
        if n_soft:
            self._skipped.append(
                f"{n_soft} of {len(event)} jets: pT below {self._recipe.min_pt:g} GeV"
            )
        if not np.any(on_detector & hard):
            raise self._error(
                "no jets", f"{len(event)} in {len(counts)} events", "one with |eta| < 1.4 or so"
            )

    def _read(self, begin: int, end: int) -> Iterator[Chunk]:
        first, last = int(self._event[begin]), int(self._event[end - 1]) + 1
        cuts, weights = self._table.segments("PFCands_pt")
        n_jets = max(1, CHUNK_BYTES // (4 * self._geometry.n_pixels))
        for low, high in merged(cuts, weights, first, last, _BLOCK_BYTES):
            particles = self._read_particles(low, high)
            events = {name: self._read_scalar(name, low, high) for name in self._events}
            start = max(begin, int(np.searchsorted(self._event, low)))
            stop = min(end, int(np.searchsorted(self._event, high)))
            towers = hcal_towers(particles)
            for jet in range(start, stop, n_jets):
                part = slice(jet, min(stop, jet + n_jets))
                yield self._draw(particles, towers, events, part, low)

    def _draw(
        self,
        particles: Particles,
        towers: Floats,
        events: dict[str, NDArray[Any]],
        part: slice,
        first_event: int,
    ) -> Chunk:
        event = self._event[part] - first_event
        centre = self._axis[0][part], self._axis[1][part]
        if self._recipe.centre == "hottest":
            centre = find_centres(towers, event, *centre)
        scalars = {name: values[part] for name, values in self._jets.items()}
        scalars["ieta"], scalars["iphi"] = (tower.astype(np.int32) for tower in centre)
        for name, dtype in self._events.items():
            scalars[name] = events[name][event].astype(dtype, copy=False)
        return draw(particles, event, *centre, self._recipe), scalars

    def _read_particles(self, first: int, last: int) -> Particles:
        columns: dict[str, NDArray[Any]] = {}
        counts: Ints | None = None
        for name in (*_NEEDED, "mass"):
            if name == "mass" and "PFCands_mass" not in self._table:
                continue
            values, found = self._read_lists(f"PFCands_{name}", first, last)
            counts = found if counts is None else counts
            if not np.array_equal(found, counts):
                row = int(np.flatnonzero(found != counts)[0])
                raise self._error(
                    f"particles differ in number: column 'PFCands_{name}'",
                    f"{found[row]}",
                    f"{counts[row]} as in 'PFCands_pt'",
                    first + row,
                )
            columns[name] = values.astype(np.int64 if name in ("charge", "pdgId") else float)
        assert counts is not None
        self._check_finite(columns, counts, first)
        kind = np.abs(columns.pop("pdgId"))
        mass = columns.pop("mass", None)
        if mass is None:
            mass = np.where(kind == 211, PION_GEV, 0.0)
        return Particles(counts, kind=kind, mass=mass, **columns)

    def _check_finite(self, columns: dict[str, NDArray[Any]], counts: Ints, first: int) -> None:
        """Refuse particles without a direction, as they have no pixel."""
        for name in ("pt", "eta", "phi"):
            bad = np.flatnonzero(~np.isfinite(columns[name]))
            if bad.size:
                row = first + int(np.searchsorted(np.cumsum(counts), bad[0], side="right"))
                raise self._error(
                    f"wrong value in column 'PFCands_{name}'",
                    f"{columns[name][bad[0]]}",
                    "a finite number",
                    row,
                )
