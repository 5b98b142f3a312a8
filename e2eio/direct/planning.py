"""Which sources are foreign, and what is to be made of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from e2eio.conversion.plan import Plan, PlanOptions
from e2eio.direct.child import PlanSources
from e2eio.direct.processes import Child
from e2eio.errors import E2eioError
from e2eio.importers import ImportOptions, recognise_format

__all__ = ["is_foreign", "plan_sources"]


def is_foreign(path: str) -> bool:
    """Say whether an importer reads the file; its first bytes tell."""
    try:
        recognise_format(path)
    except (E2eioError, OSError):
        return False
    return True


def plan_sources(paths: Sequence[str], imports: ImportOptions) -> tuple[Plan, Child]:
    """Return the shards to be made of some sources, and the process that has planned them.

    The plan depends on the sources and options alone, not on where the shards are kept.

    Raises
    ------
    ImporterError, ConfigError, SchemaMismatchError, ShardIOError, MissingDependencyError
        As :func:`e2eio.convert`.
    """
    names = tuple(os.fspath(path) for path in paths)
    child = Child()
    try:
        plan: Plan = child.ask(PlanSources(names, PlanOptions(imports)))
    except BaseException:
        child.close()
        raise
    return plan, child
