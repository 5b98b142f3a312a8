"""Whether a source is still what it was: files are written while they are read."""

from __future__ import annotations

from pathlib import Path

from e2eio.conversion.plan import PlanOptions, Task
from e2eio.errors import ImporterError, SchemaMismatchError
from e2eio.importers import ImageSource, open_source
from e2eio.importers.files import system_error
from e2eio.schema import Schema

__all__ = ["SourceWatch"]

#: Size in bytes, time of the last change in ns, device and inode.
_Stamp = tuple[int, int, int, int]


class SourceWatch:
    """Remembers what a task's source was when it was opened; one thread at a time may use it.

    A local file is told by its size, time of change and inode; everything else by its fingerprint,
    for which it is opened again.

    Parameters
    ----------
    source : ImageSource
        Just opened.
    task : Task
    schema : Schema
        Of the plan.

    Raises
    ------
    SchemaMismatchError, ImporterError
        It is not what the plan was made from.
    """

    def __init__(self, source: ImageSource, task: Task, schema: Schema) -> None:
        self._task = task
        self._schema = schema
        self._stamp = _stamp(task.path)
        self._require(source)

    def require_unchanged(self, options: PlanOptions) -> None:
        """Raise ImporterError if the source has changed since."""
        if self._stamp is not None:
            now = _stamp(self._task.path)
            if now != self._stamp:
                raise self._changed(
                    f"found size, time of change in ns, device and inode {now}, {self._stamp} before"
                )
            return
        source = open_source(self._task.path, self._task.imports(options))
        try:
            self._require(source)
        finally:
            source.close()

    def _require(self, source: ImageSource) -> None:
        task = self._task
        if source.schema != self._schema:
            raise SchemaMismatchError(
                f"source changed: {task.path}: found another schema than at the start; "
                "convert again when nobody writes it",
                task.path,
            )
        if source.n_bytes != task.n_source_bytes:
            raise self._changed(f"found {source.n_bytes} bytes, {task.n_source_bytes} at the start")
        if source.fingerprint != task.fingerprint:
            raise self._changed("found another fingerprint than at the start")

    def _changed(self, found: str) -> ImporterError:
        return ImporterError(
            f"source changed while it was read: {self._task.path}: {found}, expected no change; "
            "convert again when nobody writes it",
            self._task.path,
        )


def _stamp(path: str) -> _Stamp | None:
    if "://" in path:
        return None
    try:
        found = Path(path).stat()
    except OSError as error:
        raise system_error(path, error) from error
    return found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino
