"""The report of samples that a conversion has left out (docs/format.md, section 7.2)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from e2eio import manifest

__all__ = ["REPORT_NAME", "SkippedSamples", "read_report", "shard_report", "write_report"]

#: Of the whole dataset, beside ``dataset.json``.
REPORT_NAME: Final = "dataset.skipped.json"

_FORMAT: Final = "e2eio-skipped"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class SkippedSamples:
    """Samples that are not in a shard although nobody has excluded them.

    Parameters
    ----------
    shard, shard_id : str
        Name, and id in hex, of the shard in which they would be.
    source : str
        File that they are from.
    begin, end : int
        Numbers within that file: [begin, end).
    reason : str
        What was wrong.
    not_finite : bool
        It could be read, but ``nan="skip"`` was asked for.
    """

    shard: str
    shard_id: str
    source: str
    begin: int
    end: int
    reason: str
    not_finite: bool = False

    @property
    def n_samples(self) -> int:
        """How many."""
        return self.end - self.begin


def shard_report(shard: Path) -> Path:
    """Return where a running conversion keeps the report of one shard."""
    return shard.with_name(f"{shard.name}.skipped.json")


def write_report(path: Path, skipped: Sequence[SkippedSamples]) -> None:
    """Write a report so that it is there complete or not at all; no report if nothing was skipped.

    Raises
    ------
    ShardIOError
        The system refused.
    """
    # As those of shards are named, so that the next run removes what a killed one leaves.
    stem = path.name.removesuffix(".skipped.json")
    temporary = path.with_name(f"{stem}.e2eio-tmp-{os.getpid()}-skipped")
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "skipped": [asdict(item) for item in skipped],
    }
    try:
        if not skipped:
            path.unlink(missing_ok=True)
            return
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps(content, indent=1) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise manifest.io_error("cannot write", path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_report(path: Path) -> tuple[SkippedSamples, ...]:
    """Return what a report says; nothing if there is none, or none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (_FORMAT, _VERSION):
            return ()
        return tuple(
            SkippedSamples(
                str(item["shard"]),
                str(item["shard_id"]),
                str(item["source"]),
                int(item["begin"]),
                int(item["end"]),
                str(item["reason"]),
                bool(item["not_finite"]),
            )
            for item in content["skipped"]
        )
    except (OSError, ValueError, TypeError, KeyError):
        return ()
