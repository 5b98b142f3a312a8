"""``e2eio inspect``: what a dataset or a shard holds."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from e2eio.errors import CorruptShardError, ShardNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2eio._core import ShardReader
    from e2eio.manifest import ChannelStatistics, Manifest
    from e2eio.remote import RemoteUrl
    from e2eio.schema import Schema

__all__ = ["add_parser", "run"]

_EXAMPLES: Final = """\
examples:
  e2eio inspect data/top
  e2eio inspect data/top/shard-00000.e2e
  e2eio inspect --json data/top | python -m json.tool
  e2eio inspect --html top.html data/top

The statistics come from dataset.json; those of a shard alone by decoding it.
"""


@dataclass(frozen=True, slots=True)
class _Content:
    path: str
    schema: Schema
    readers: list[ShardReader]
    statistics: tuple[ChannelStatistics, ...]
    manifest: Manifest | None
    digest: str

    @property
    def n_samples(self) -> int:
        return sum(reader.n_samples for reader in self.readers)

    @property
    def n_bytes(self) -> int:
        return sum(reader.n_bytes for reader in self.readers)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "inspect",
        help="show what a dataset holds",
        description="Show schema, counts, sizes, occupancy and value ranges.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", metavar="PATH", help="a dataset directory or a shard")
    parser.add_argument("--json", action="store_true", help="print JSON")
    group = parser.add_argument_group("a page with pictures and checks")
    group.add_argument(
        "--html", type=Path, metavar="FILE", help="write one HTML page, complete in itself"
    )
    group.add_argument(
        "--limit", type=int, metavar="N", help="look at N samples of a large dataset, not at all"
    )
    group.add_argument("--overwrite", action="store_true", help="replace the page if it exists")
    group.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what is at the path."""
    content = _read(args.path)
    if args.html is not None:
        _write_page(content, args)
        print(args.html)
        return 0
    if args.json:
        print(json.dumps(_to_json(content)))
    else:
        print("\n".join(_lines(content)))
    return 0


def _write_page(content: _Content, args: argparse.Namespace) -> None:
    from e2eio.cli.inspect_page import write_page
    from e2eio.options import at_least

    if args.limit is not None:
        at_least(1, "--limit", args.limit)
    shards = [
        (Path(reader.path).name, reader.n_samples, reader.n_bytes, reader.digest)
        for reader in content.readers
    ]
    write_page(
        args.html,
        _to_json(content),
        shards,
        limit=args.limit,
        overwrite=args.overwrite,
        quiet=args.quiet,
    )


def _places(name: str) -> tuple[Manifest | None, Sequence[Path | RemoteUrl]]:
    from e2eio import manifest
    from e2eio.remote import RemoteUrl, is_url
    from e2eio.shards import shard_paths

    if is_url(name):
        from e2eio.remote.opening import shard_urls

        return shard_urls(RemoteUrl(name))
    path = Path(name)
    if not path.is_dir():
        return None, [path]
    if not (path / manifest.FILE_NAME).exists():
        return None, shard_paths(path)
    listed = manifest.read(path)
    return listed, [path / shard.file for shard in listed.shards]


def _read(name: str) -> _Content:
    from e2eio import manifest
    from e2eio.remote import public_url
    from e2eio.schema import Schema
    from e2eio.shards import decode_statistics, open_shard

    listed, paths = _places(name)
    path = public_url(name)
    if not paths:
        raise ShardNotFoundError(
            f"no dataset: {path}: found neither {manifest.FILE_NAME} nor *.e2e; "
            "make one with 'e2eio convert'",
            str(path),
        )
    readers = [open_shard(shard) for shard in paths]
    schema = Schema.from_core(readers[0].schema)
    digest = manifest.dataset_digest(reader.digest for reader in readers)
    if listed is not None and (digest, schema) != (listed.digest, listed.schema):
        raise CorruptShardError(
            f"wrong dataset: {path}: found digest {digest}, expected {listed.digest} from "
            f"{manifest.FILE_NAME}; run 'e2eio verify' on it",
            str(path),
        )
    if listed is None:
        parts = [decode_statistics(reader) for reader in readers]
        statistics = manifest.merge_statistics(parts, len(schema.channels))
    else:
        statistics = listed.statistics
    return _Content(str(path), schema, readers, statistics, listed, digest)


def _channel_rows(content: _Content) -> list[dict[str, Any]]:
    _, height, width = content.schema.image.shape
    n_pixels = content.n_samples * height * width
    return [
        {
            "name": channel.name,
            "unit": channel.unit,
            "occupancy": row.nonzero / n_pixels if n_pixels else 0.0,
            "nonzero_per_sample": row.nonzero / content.n_samples if content.n_samples else 0.0,
            **asdict(row),
        }
        for channel, row in zip(content.schema.image.channels, content.statistics, strict=True)
    ]


def _scalar_rows(content: _Content) -> list[dict[str, Any]]:
    import numpy as np

    rows = []
    for index, field in enumerate(content.schema.scalars):
        finite = [
            column[np.isfinite(column)]
            for column in (reader.column(index) for reader in content.readers)
        ]
        finite = [column for column in finite if column.size]
        rows.append(
            {
                **asdict(field),
                "min": min(column.min() for column in finite).item() if finite else None,
                "max": max(column.max() for column in finite).item() if finite else None,
            }
        )
    return rows


def _to_json(content: _Content) -> dict[str, object]:
    n_dense = 4
    for size in content.schema.image.shape:
        n_dense *= size
    whole = content.manifest.to_json() if content.manifest is not None else {}
    return {
        "path": content.path,
        "n_samples": content.n_samples,
        "n_shards": len(content.readers),
        "n_bytes": content.n_bytes,
        "bytes_per_sample": content.n_bytes / max(content.n_samples, 1),
        "dense_bytes_per_sample": n_dense,
        "digest": content.digest,
        "content": whole.get("content"),
        "schema": content.schema.to_json(),
        "channels": _channel_rows(content),
        "scalars": _scalar_rows(content),
        "provenance": whole.get("provenance"),
    }


def _lines(content: _Content) -> list[str]:
    data = _to_json(content)
    image = content.schema.image
    shape = ", ".join(map(str, image.shape))
    lines = [
        f"{content.path}: {content.n_samples} samples in {len(content.readers)} shard(s)",
        f"image {image.name}: {image.precision} [{shape}]",
        f"bytes: {content.n_bytes}, {data['bytes_per_sample']:.0f} a sample "
        f"({data['dense_bytes_per_sample']} dense)",
        f"digest: {content.digest}",
        *([f"content: {data['content']}"] if data["content"] else []),
        "",
    ]
    header = ["channel", "unit", "occupied", "pixels", "not finite", "min", "max"]
    rows = [
        [
            row["name"],
            row["unit"],
            f"{100 * row['occupancy']:.3f} %",
            f"{row['nonzero_per_sample']:.1f}",
            str(row["nonfinite"]),
            _value(row["min"]),
            _value(row["max"]),
        ]
        for row in _channel_rows(content)
    ]
    lines += _table(header, rows)
    scalars = [
        [row["name"], row["dtype"], row["unit"], _value(row["min"]), _value(row["max"])]
        for row in _scalar_rows(content)
    ]
    if scalars:
        lines += ["", *_table(["scalar", "dtype", "unit", "min", "max"], scalars)]
    return lines


def _value(value: float | int | bool | None) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
