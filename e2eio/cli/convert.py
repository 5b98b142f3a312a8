"""``e2eio convert``: from foreign files to a dataset."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any, Final

from e2eio.presets import PRESETS

if TYPE_CHECKING:
    from e2eio.conversion import Plan
    from e2eio.manifest import Manifest

__all__ = ["add_parser", "names_of", "run", "size_of"]

_EXAMPLES: Final = """\
examples:
  e2eio convert BoostedTop_x1_fixed_*.snappy.parquet data/top
  e2eio convert --preset quark-gluon QCDToGGQQ_*.test.snappy.parquet data/qg
  e2eio convert --shape 5,125,125 --channels track_pt,d0,dz,ecal,hcal jets.parquet.0 data/jets
  e2eio convert jets.h5 data/jets
  e2eio convert --channels energy,time --labels 1,0 electrons.hdf5 photons.hdf5 data/egamma
  e2eio convert --rename jetPt=pt --scalars y,jetPt --nan error tfrecords/ data/jets
  e2eio convert images.npz samples.tar store.zarr ntuple.root data/mixed
  e2eio convert --exclude 259173-259199,451169 --precision float16 a.parquet b.parquet data/ab
  e2eio convert --skip-bad 10 @files.txt data/all
  e2eio convert --dry-run data/raw/ data/top
  e2eio convert BoostedTop_x1_*.parquet data/top --dask tcp://login:8786

The same command goes on where an interrupted one (Ctrl-C) has ended. docs/convert.md says more.
"""

_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "convert",
        help="make a dataset of files in other formats",
        description="Make a dataset of files in other formats: images and scalar fields.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SRC",
        help="a file of any name, whose bytes tell the format; a directory: all files of known "
        "formats in it, by name; @list.txt: the files that its lines name",
    )
    parser.add_argument("out", metavar="DST", help="directory of the dataset")
    _add_meaning(parser)
    _add_choice(parser)
    _add_output(parser)
    _add_work(parser)
    parser.set_defaults(run=run)


def _add_meaning(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the images are (else recognised)")
    group.add_argument("--preset", choices=sorted(PRESETS), help="a published set")
    group.add_argument(
        "--shape", type=_shape, metavar="C,H,W", help="of an image, whatever the order in the file"
    )
    group.add_argument("--layout", choices=("CHW", "HWC"), help="order in the file")
    group.add_argument("--channels", type=names_of, metavar="A,B,...", help="names, in file order")
    group.add_argument("--units", type=names_of, metavar="A,B,...", help="one per channel")
    group.add_argument("--image", metavar="COLUMN", help="column of the images")
    group.add_argument("--tree", metavar="NAME", help="tree or ntuple of ROOT files")
    group.add_argument(
        "--recipe",
        default="",
        metavar="NAME=VALUE,...",
        help="how particles and hits become images, as resolution=3,centre=axis",
    )
    group.add_argument(
        "--meta", type=names_of, metavar="A,B,...", help="columns of *_meta, - for none"
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("scalar fields, and which samples")
    group.add_argument(
        "--labels",
        type=_numbers,
        metavar="N,N,...",
        help="one per SRC: a field for files of a class",
    )
    group.add_argument("--label-field", default="y", metavar="NAME", help="of --labels (default y)")
    group.add_argument("--rename", type=_pairs, metavar="OLD=NEW,...", help="fields")
    group.add_argument(
        "--scalars", type=names_of, metavar="A,B,...", help="fields to keep, as SRC names them"
    )
    group.add_argument(
        "--nan",
        choices=("keep", "error", "zero", "skip"),
        default="keep",
        help="NaN and infinities: kept bit for bit (default), an error, made 0, the sample left out",
    )
    group.add_argument(
        "--skip-bad",
        type=int,
        default=0,
        metavar="N",
        help="leave out up to N samples that cannot be read (default 0), and report them in "
        "DST/dataset.skipped.json",
    )
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
    group.add_argument("--shard-samples", type=int, metavar="N", help="samples of a shard, at most")
    group.add_argument(
        "--shard-bytes",
        type=size_of,
        default=256 << 20,
        metavar="N[k|M|G]",
        help="size of a shard, about (default 256M)",
    )
    group.add_argument("--overwrite", action="store_true", help="replace what DST holds")


def _add_work(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("work")
    group.add_argument("--dry-run", action="store_true", help="print what would be done, and stop")
    group.add_argument("--processes", type=int, metavar="N", help="default: all usable cores")
    group.add_argument(
        "--dask",
        nargs="?",
        const=True,
        type=_scheduler,
        metavar="SCHEDULER",
        help="on a Dask cluster: of this machine, or tcp://HOST:PORT or a scheduler file *.json",
    )
    group.add_argument(
        "--no-check", action="store_true", help="do not decode shards again to compare them"
    )
    group.add_argument(
        "--no-isolate",
        action="store_true",
        help="open sources in this process, which then a library that crashes takes along",
    )
    group.add_argument("--no-resume", action="store_true", help="do not go on from finished shards")
    group.add_argument("--quiet", action="store_true", help="show no progress")
    group.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Convert, and print what was made."""
    if args.dry_run:
        _print_plan(args)
        return 0
    from e2eio.conversion import convert

    content = convert(
        args.sources,
        args.out,
        **_options(args),
        labels=args.labels,
        label_field=args.label_field,
        processes=args.processes,
        overwrite=args.overwrite,
        resume=not args.no_resume,
        isolate=not args.no_isolate,
        dask=args.dask,
        progress=not args.quiet,
    )
    if args.json:
        print(json.dumps(_result(content, args.out)))
    else:
        print(_sentence(content, args.out))
    return 0


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Return what decides the content of the shards."""
    names = (
        *("preset", "shape", "layout", "channels", "units", "image", "meta", "tree", "recipe"),
        *("precision", "rename"),
        *("scalars", "nan", "skip_bad", "compression_level", "shard_samples", "shard_bytes"),
        "exclude",
    )
    return {**{name: getattr(args, name) for name in names}, "check": not args.no_check}


def _print_plan(args: argparse.Namespace) -> None:
    """Print what a conversion would do; it writes nothing."""
    from e2eio.conversion import make_options, plan_conversion

    plan = plan_conversion(
        args.sources,
        make_options(**_options(args)),
        labels=args.labels,
        label_field=args.label_field,
        processes=args.processes,
        isolate=not args.no_isolate,
        progress=not args.quiet,
    )
    print(json.dumps(_planned(plan)) if args.json else "\n".join(_lines(plan, args.out)))


def _planned(plan: Plan) -> dict[str, object]:
    return {
        "n_samples": plan.n_samples,
        "n_shards": len(plan.tasks),
        "n_bytes_about": plan.n_bytes_about,
        "schema": plan.schema.to_json(),
        "sources": [
            {"path": file.path, "n_samples": file.n_samples, "n_bytes": file.n_bytes}
            for file in plan.sources
        ],
        "skipped_columns": sorted({name for file in plan.sources for name in file.skipped}),
    }


def _lines(plan: Plan, out: str) -> list[str]:
    image = plan.schema.image
    lines = [
        f"{file.path}: {file.n_samples} samples, {file.n_bytes} bytes"
        + (f", {file.label[0]} = {file.label[1]}" if file.label is not None else "")
        for file in plan.sources
    ]
    scalars = ", ".join(f"{field.name} ({field.dtype})" for field in plan.schema.scalars)
    skipped = sorted({name for file in plan.sources for name in file.skipped})
    return [
        *lines,
        f"image {image.name}: {image.precision} [{', '.join(map(str, image.shape))}]: "
        + ", ".join(channel.name for channel in image.channels),
        f"scalars: {scalars or 'none'}",
        *([f"left out, as not numeric: {', '.join(skipped)}"] if skipped else []),
        f"{out}: would get {plan.n_samples} samples in {len(plan.tasks)} shard(s), about "
        f"{plan.n_bytes_about} bytes",
    ]


def _result(content: Manifest, out: str) -> dict[str, object]:
    return {
        "path": out,
        "n_samples": content.n_samples,
        "n_shards": len(content.shards),
        "n_bytes": sum(shard.n_bytes for shard in content.shards),
        "n_rounded": content.provenance.n_rounded,
        "n_zeroed": content.provenance.n_zeroed,
        "n_skipped": content.provenance.n_skipped,
        "digest": content.digest,
        "content": content.content,
        "schema": content.schema.to_json(),
    }


def _sentence(content: Manifest, out: str) -> str:
    n_bytes = sum(shard.n_bytes for shard in content.shards)
    made = content.provenance
    return (
        f"{out}: {content.n_samples} samples in {len(content.shards)} shard(s), {n_bytes} bytes, "
        f"{n_bytes / max(content.n_samples, 1):.0f} a sample"
        + (f", {made.n_rounded} float64 pixels rounded to float32" if made.n_rounded else "")
        + (f", {made.n_zeroed} values made 0" if made.n_zeroed else "")
        + (f", {made.n_skipped} samples skipped" if made.n_skipped else "")
    )


def names_of(text: str) -> tuple[str, ...]:
    """Return the names in ``A,B``."""
    return tuple(part.strip() for part in text.split(","))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(_number(part.strip()) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected numbers as in 0,1") from None


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _pairs(text: str) -> dict[str, str]:
    pairs = [part.strip().partition("=") for part in text.split(",")]
    names = {old: new for old, _, new in pairs}
    if not all(old and new for old, new in names.items()) or len(names) != len(pairs):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected OLD=NEW as in jetPt=pt")
    return names


def _shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) != 3:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected C,H,W as in 8,125,125")
    return sizes


def _scheduler(text: str) -> str:
    if "://" not in text and not text.endswith(".json"):
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected a scheduler as in tcp://HOST:8786, or its file *.json; "
            "for a cluster of this machine write --dask last"
        )
    return text


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


def size_of(text: str) -> int:
    """Return the bytes of ``256M``."""
    digits = text.rstrip("kKmMgG")
    unit = _UNITS.get(text[len(digits) :].lower())
    if unit is None or not digits.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected bytes as in 1000000 or 256M")
    return int(digits) * unit
