"""``e2eio verify``: whether every byte of a dataset is what was written."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2eio.cli.verify_physics import Judged, judge
from e2eio.errors import CorruptShardError, E2eioError, ShardNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2eio._core import ShardReader
    from e2eio.manifest import Manifest
    from e2eio.progress import Progress
    from e2eio.remote import RemoteUrl

__all__ = ["add_parser", "run"]

_EXAMPLES: Final = """\
examples:
  e2eio verify data/top
  e2eio verify data/top/shard-00000.e2e data/qg
  e2eio verify --json data/top
  e2eio verify --physics data/top

Reads every byte. Bad records go to standard output, one a line; the exit code is 1 if there is any. With --physics also
looks at the pixels: every finding is a note, a warning or a failure; failures alone make the exit code 1.
"""

_SLICE: Final = 64  # records checked between two looks at the progress


@dataclass(slots=True)
class _BadRecord:
    shard: str
    record: int
    error: str


@dataclass(slots=True)
class _Report:
    """What was found."""

    n_shards: int = 0
    n_samples: int = 0
    n_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    bad_records: list[_BadRecord] = field(default_factory=list)
    physics: list[Judged] | None = None

    @property
    def ok(self) -> bool:
        return not self.problems and not self.bad_records


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "verify",
        help="check every byte of a dataset",
        description="Check every record against its checksum and decode it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a dataset directory or a shard")
    parser.add_argument(
        "--physics", action="store_true", help="also check energies, tracks, channels and classes"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="with --physics: look at N samples, not at all"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check all paths, and print what is wrong with them.

    Raises
    ------
    ShardNotFoundError
        A path does not exist.
    CorruptShardError
        Something is wrong; it was printed.
    E2eioError
        A check of the physics failed; it was printed.
    """
    from e2eio.options import at_least
    from e2eio.progress import make_progress
    from e2eio.remote import public_url

    if args.limit is not None:
        at_least(1, "--limit", args.limit)
    report = _Report()
    shards: list[Path | RemoteUrl] = []
    for path in args.paths:
        shards += _shards(path, report)
    readers = [reader for reader in (_open(path, report) for path in shards) if reader is not None]
    with make_progress(not args.quiet, verb="verified") as progress:
        progress.start(sum(reader.n_samples for reader in readers))
        done = 0
        for reader in readers:
            _check_columns(reader, report)
            _check_records(reader, report, progress, done)
            done += reader.n_samples
    if args.physics and report.ok:
        report.physics = [judge(path, limit=args.limit, quiet=args.quiet) for path in args.paths]
    _print(report, args.json)
    if not report.ok:
        raise CorruptShardError(
            f"verification failed: {', '.join(map(public_url, args.paths))}: found {len(report.bad_records)} bad "
            f"records and {len(report.problems)} other problems in {report.n_shards} shard(s), "
            "expected none; convert again or restore the files"
        )
    failed = [judged.path for judged in report.physics or () if judged.failed]
    if failed:
        raise E2eioError(
            f"physics checks failed: {', '.join(failed)}: the bytes are as they were written, what they say is "
            "not as expected; see the findings for what to do"
        )
    return 0


def _print(report: _Report, as_json: bool) -> None:
    if as_json:
        result = {"ok": report.ok, **asdict(report)}
        if report.physics is None:
            del result["physics"]
        print(json.dumps(result))
        return
    for problem in report.problems:
        print(problem)
    for bad in report.bad_records:
        print(f"{bad.shard} record {bad.record}: {bad.error}")
    if report.ok:
        print(
            f"ok: {report.n_samples} samples in {report.n_shards} shard(s), {report.n_bytes} bytes"
        )
    for judged in report.physics or ():
        print("\n".join(judged.lines()))


def _shards(name: str, report: _Report) -> Sequence[Path | RemoteUrl]:
    """Return the shards to check, and report where a directory is not what its manifest says."""
    from e2eio import manifest
    from e2eio.remote import RemoteUrl, is_url
    from e2eio.shards import shard_paths

    if is_url(name):
        from e2eio.remote.opening import shard_urls

        listed_there, urls = shard_urls(RemoteUrl(name))
        return urls if listed_there is None else _compare(urls, listed_there, report)
    path = Path(name)
    if not path.exists():
        raise ShardNotFoundError(
            f"no such file: {path}: expected a dataset directory or a shard; check the path",
            str(path),
        )
    if not path.is_dir():
        return [path]
    there = shard_paths(path)
    try:
        listed = manifest.read(path)
    except ShardNotFoundError:
        if there:
            return there
        raise ShardNotFoundError(
            f"no dataset: {path}: found neither {manifest.FILE_NAME} nor *.e2e; "
            "make one with 'e2eio convert'",
            str(path),
        ) from None
    except CorruptShardError as error:
        report.problems.append(str(error))
        return there
    return _compare([path / entry.file for entry in listed.shards], listed, report)


def _compare(
    paths: Sequence[Path | RemoteUrl], listed: Manifest, report: _Report
) -> Sequence[Path | RemoteUrl]:
    from e2eio.schema import Schema
    from e2eio.shards import open_shard

    for entry, shard in zip(listed.shards, paths, strict=True):
        try:
            reader = open_shard(shard)
        except E2eioError:
            continue  # reported when it is opened for the check
        found = (reader.digest, reader.n_samples, reader.n_bytes)
        if found != (entry.digest, entry.n_samples, entry.n_bytes):
            report.problems.append(
                f"wrong shard: {shard}: found digest, samples and bytes {found}, expected "
                f"{(entry.digest, entry.n_samples, entry.n_bytes)} from dataset.json"
            )
        if Schema.from_core(reader.schema) != listed.schema:
            report.problems.append(
                f"wrong schema: {shard}: found another schema than in dataset.json"
            )
    return paths


def _open(path: Path | RemoteUrl, report: _Report) -> ShardReader | None:
    from e2eio.shards import open_shard

    report.n_shards += 1
    try:
        reader = open_shard(path)
    except E2eioError as error:
        report.problems.append(str(error))
        return None
    report.n_samples += reader.n_samples
    report.n_bytes += reader.n_bytes
    return reader


def _check_columns(reader: ShardReader, report: _Report) -> None:
    try:
        for index in range(len(reader.schema.scalar_names)):
            reader.column(index)
    except E2eioError as error:
        report.problems.append(str(error))


def _check_records(reader: ShardReader, report: _Report, progress: Progress, before: int) -> None:
    for begin in range(0, reader.n_samples, _SLICE):
        end = min(begin + _SLICE, reader.n_samples)
        if _error(reader, begin, end) is not None:
            for record in range(begin, end):  # a bad one hides those after it
                error = _error(reader, record, record + 1)
                if error is not None:
                    report.bad_records.append(_BadRecord(reader.path, record, error))
        progress.update(before + end)


def _error(reader: ShardReader, begin: int, end: int) -> str | None:
    try:
        reader.check(begin, end)
    except CorruptShardError as error:
        return str(error)
    return None
