"""Files that people ask for: there complete or not at all, and never in the place of another one unasked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from e2eio.errors import ShardExistsError, ShardIOError

__all__ = ["refuse_existing", "write_file"]


def refuse_existing(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Raise if one of the files exists; asked before the work is done.

    Raises
    ------
    ShardExistsError
        It does, and may not be overwritten.
    """
    for path in paths:
        if not overwrite and os.path.lexists(path):
            raise ShardExistsError(
                f"file exists: {path}: expected none; pass --overwrite, or write somewhere else",
                str(path),
            )


def write_file(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it; makes the directory.

    Raises
    ------
    ShardIOError
        The system refused.
    """
    temporary = path.with_name(f".{path.name}.e2eio-tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ShardIOError(
            f"cannot write: {path}: {reason}", str(path), errno=error.errno
        ) from error
