"""ROOT files: images in a TTree or an RNTuple, and what else a ROOT file may be.

A file is told by its branches: one of images (`RootSource`), one of hits of the whole detector as in CERN
Open Data record 12220 (`HitSource`), or one of particle lists (`ParticleSource`).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from e2eio.errors import ConfigError, E2eioError
from e2eio.importers.root.file import RootFile, Table
from e2eio.importers.root.hits import HitSource
from e2eio.importers.root.images import RootSource, image_columns
from e2eio.importers.root.particles import ParticleSource

if TYPE_CHECKING:
    from e2eio.importers.source import ImageSource, ImportOptions

__all__ = ["open_root"]


def open_root(path: str, options: ImportOptions) -> ImageSource:
    """Open a ROOT file of images, hits or particles.

    Raises
    ------
    ShardNotFoundError, ShardIOError
        The file is missing, or the system refused.
    ImporterError
        It is truncated or damaged, or holds nothing that images can be made of.
    ConfigError
        Which tree or column is meant is not clear, or what its images mean.

    Examples
    --------
    >>> source = open_root("cms_pfnano.root", ImportOptions())  # doctest: +SKIP
    >>> source.schema.channels, source.n_samples  # doctest: +SKIP
    (('track_pt', 'd0', 'dz', 'ecal', 'hcal'), 24)
    """
    file = RootFile(path)
    try:
        table = _table(file, options)
        if image_columns(table, options):
            return RootSource(file, table, options)
        for kind in (HitSource, ParticleSource):
            if kind.fits(table, options):
                return kind(file, table, options)
        return RootSource(file, table, options)  # says what is missing
    except BaseException:
        file.close()
        raise


def _table(file: RootFile, options: ImportOptions) -> Table:
    """Choose the tree, where several are left by the one that holds the image column."""
    try:
        return file.table(options.tree)
    except ConfigError:
        if options.tree is not None:
            raise
        holders = []
        for name in file.tables:
            with contextlib.suppress(E2eioError):  # a damaged one is not the one that is meant
                table = file.table(name)
                if image_columns(table, options):
                    holders.append(table)
        if len(holders) != 1:
            raise
        return holders[0]
