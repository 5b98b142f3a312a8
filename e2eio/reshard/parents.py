"""The datasets that a dataset is made of: opened, compared, and named in its provenance."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2eio import _core, manifest
from e2eio.dataset import Dataset, join_datasets
from e2eio.errors import ConfigError, E2eioError, SchemaMismatchError
from e2eio.manifest import Manifest, Provenance, SourceEntry
from e2eio.schema import difference

__all__ = ["Parents", "Paths", "open_parents"]

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass(frozen=True)
class Parents:
    """Datasets of one schema, in the order of their samples.

    Parameters
    ----------
    dataset : Dataset
        All of them as one.
    parts : tuple of (str, Dataset, Manifest or None)
        Path as given, dataset, and what its ``dataset.json`` says if it has one.
    """

    dataset: Dataset
    parts: tuple[tuple[str, Dataset, Manifest | None], ...]

    def content(self) -> str | None:
        """Return the digest of all samples in their order; None: not known."""
        contents = []
        for _, dataset, listed in self.parts:
            if listed is None or listed.content is None:
                return None
            contents.append((len(dataset), listed.content))
        return manifest.join_contents(contents)

    def refuse_target(self, out: Path) -> None:
        """Raise ConfigError if shards of the parents lie in `out`."""
        if not out.exists():
            return
        for path, dataset, _ in self.parts:
            for directory in {Path(each.path).parent for each in _shards_of(path, dataset)}:
                if directory.exists() and directory.samefile(out):
                    raise ConfigError(
                        f"target is a source: {out}: it holds shards of {path}; choose another directory"
                    )

    def provenance(self, operation: Mapping[str, object], *, all_pixels: bool) -> Provenance:
        """Return the provenance of a dataset that `operation` has made of these.

        Parameters
        ----------
        operation : mapping
            Name and arguments, in JSON's types.
        all_pixels : bool
            The new dataset holds all that its parents hold, so that their counts are its counts.
        """
        listed = [each.provenance for _, _, each in self.parts if each is not None]
        sources: dict[SourceEntry, None] = {}
        for provenance in listed:
            sources.update(dict.fromkeys(provenance.sources))
        return Provenance(
            tuple(sources),
            manifest.converter_name(),
            {**operation, "parents": self._described(), "history": self._history()},
            manifest.creation_time(),
            _total([p.n_rounded for p in listed], all_pixels),
            _total([p.n_zeroed for p in listed], all_pixels),
            sum(int(p.n_skipped) for p in listed),
        )

    def _described(self) -> list[object]:
        return [
            {"path": path, "n_samples": len(dataset), "digest": dataset.digest}
            for path, dataset, _ in self.parts
        ]

    def _history(self) -> list[object]:
        """Return what made the parents, and theirs, oldest first: flat, so that it may grow."""
        steps: list[object] = []
        for _, dataset, listed in self.parts:
            if listed is None:
                continue
            options = dict(listed.provenance.options)
            older = options.pop("history", [])
            step = {
                "digest": dataset.digest,
                "converter": listed.provenance.converter,
                "created": listed.provenance.created,
                "options": options,
            }
            steps += [each for each in (*_listed(older), step) if each not in steps]
        return steps


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


def _total(counts: Sequence[int | None], all_pixels: bool) -> int | None:
    known = [count for count in counts if count is not None]
    if len(known) != len(counts) or (any(known) and not all_pixels):
        return None
    return sum(known)


def open_parents(sources: Paths) -> Parents:
    """Open datasets that are to be made into others.

    Raises
    ------
    ConfigError
        There is none.
    SchemaMismatchError
        They hold different fields; the message says what differs.
    ShardNotFoundError, ShardIOError, CorruptShardError, UnsupportedFormatError
        One cannot be read.
    """
    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    if not given:
        raise ConfigError("no dataset: found an empty list; expected at least one path")
    parts = [(os.fspath(path), Dataset(path), _manifest(path)) for path in given]
    for path, dataset, _ in parts:
        _shards_of(path, dataset)
    first, expected, _ = parts[0]
    for path, dataset, _ in parts:
        found = difference(dataset.schema, expected.schema)
        if found is not None:
            raise SchemaMismatchError(
                f"schemas differ: {path} and {first}: found {found} as in the latter; keep them "
                "apart, or repack one of them",
                path,
            )
    return Parents(join_datasets([dataset for _, dataset, _ in parts]), tuple(parts))


def _shards_of(path: str, dataset: Dataset) -> list[_core.ShardReader]:
    """Return the dataset's shards; raise ConfigError if it is a file of another format."""
    shards = list(dataset.readers)
    if len(shards) < len(dataset.shards):
        raise ConfigError(
            f"no dataset: {path}: found a file of another format, expected shards; convert it first"
        )
    return shards


def _manifest(path: str | os.PathLike[str]) -> Manifest | None:
    try:
        return manifest.read(path)
    except E2eioError:
        return None  # a shard, or a directory of shards: they tell for themselves
