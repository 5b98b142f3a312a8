"""``e2eio convert``: from foreign files to a dataset."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Final

from e2eio.presets import PRESETS

if TYPE_CHECKING:
    from e2eio.manifest import Manifest

__all__ = ["add_parser", "run"]

_EXAMPLES: Final = """\
examples:
  e2eio convert BoostedTop_x1_fixed_*.snappy.parquet data/top
  e2eio convert --preset quark-gluon QCDToGGQQ_*.test.snappy.parquet data/qg
  e2eio convert --shape 5,125,125 --channels track_pt,d0,dz,ecal,hcal jets.parquet.0 data/jets
  e2eio convert --exclude 259173-259199,451169 --precision float16 a.parquet b.parquet data/ab

The same command goes on where an interrupted one (Ctrl-C) has ended.
"""

_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "convert",
        help="make a dataset of Parquet files",
        description="Make a dataset of Parquet files: images as flat or nested lists, scalars.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sources", nargs="+", metavar="SRC", help="a Parquet file, of any name")
    parser.add_argument("out", metavar="DST", help="directory of the dataset")
    _add_meaning(parser)
    _add_output(parser)
    parser.set_defaults(run=run)


def _add_meaning(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the images are (else recognised)")
    group.add_argument("--preset", choices=sorted(PRESETS), help="a published set")
    group.add_argument(
        "--shape", type=_shape, metavar="C,H,W", help="of an image, whatever the order in the file"
    )
    group.add_argument("--layout", choices=("CHW", "HWC"), help="order in the file")
    group.add_argument("--channels", type=_names, metavar="A,B,...", help="names, in file order")
    group.add_argument("--units", type=_names, metavar="A,B,...", help="one per channel")
    group.add_argument("--image", metavar="COLUMN", help="column of the images")
    group.add_argument(
        "--exclude",
        type=_ranges,
        default=(),
        metavar="N,A-B,...",
        help="samples to leave out, counted over all sources from 0; A-B includes B",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--precision",
        choices=("float32", "float16"),
        default="float32",
        help="of pixels: bit for bit (default), or rounded",
    )
    group.add_argument("--compression-level", type=int, default=3, metavar="N", help="1 to 19")
    group.add_argument("--processes", type=int, metavar="N", help="default: all usable cores")
    group.add_argument("--shard-samples", type=int, metavar="N", help="samples of a shard, at most")
    group.add_argument(
        "--shard-bytes",
        type=_bytes,
        default=256 << 20,
        metavar="N[k|M|G]",
        help="size of a shard, about (default 256M)",
    )
    group.add_argument("--overwrite", action="store_true", help="replace what DST holds")
    group.add_argument("--no-resume", action="store_true", help="do not go on from finished shards")
    group.add_argument("--quiet", action="store_true", help="show no progress")
    group.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Convert, and print what was made."""
    from e2eio.conversion import convert

    content = convert(
        args.sources,
        args.out,
        preset=args.preset,
        shape=args.shape,
        layout=args.layout,
        channels=args.channels,
        units=args.units,
        image=args.image,
        precision=args.precision,
        compression_level=args.compression_level,
        processes=args.processes,
        shard_samples=args.shard_samples,
        shard_bytes=args.shard_bytes,
        overwrite=args.overwrite,
        resume=not args.no_resume,
        exclude=args.exclude,
        progress=not args.quiet,
    )
    if args.json:
        print(json.dumps(_result(content, args.out)))
    else:
        print(_sentence(content, args.out))
    return 0


def _result(content: Manifest, out: str) -> dict[str, object]:
    return {
        "path": out,
        "n_samples": content.n_samples,
        "n_shards": len(content.shards),
        "n_bytes": sum(shard.n_bytes for shard in content.shards),
        "n_rounded": content.provenance.n_rounded,
        "digest": content.digest,
        "schema": content.schema.to_json(),
    }


def _sentence(content: Manifest, out: str) -> str:
    n_bytes = sum(shard.n_bytes for shard in content.shards)
    rounded = content.provenance.n_rounded
    return (
        f"{out}: {content.n_samples} samples in {len(content.shards)} shard(s), {n_bytes} bytes, "
        f"{n_bytes / max(content.n_samples, 1):.0f} a sample"
        + (f", {rounded} float64 pixels rounded to float32" if rounded else "")
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) != 3:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected C,H,W as in 8,125,125")
    return sizes


def _ranges(text: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            begin = int(first)
            end = int(last) if dash else begin
        except ValueError:
            begin, end = 0, -1
        if not 0 <= begin <= end:
            raise argparse.ArgumentTypeError(f"found {part!r}, expected N or A-B with A <= B")
        numbers.extend(range(begin, end + 1))
    return tuple(numbers)


def _bytes(text: str) -> int:
    digits = text.rstrip("kKmMgG")
    unit = _UNITS.get(text[len(digits) :].lower())
    if unit is None or not digits.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected bytes as in 1000000 or 256M")
    return int(digits) * unit
