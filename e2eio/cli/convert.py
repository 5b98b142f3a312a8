"""``e2eio convert``: from foreign files to a dataset."""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import TYPE_CHECKING, Final

from e2eio.cli.values import (
    arguments_of,
    names_by_name,
    names_of,
    numbers_of,
    ranges_of,
    scheduler_of,
    shape_of,
    size_of,
)
from e2eio.presets import PRESETS

if TYPE_CHECKING:
    from e2eio.conversion import Plan
    from e2eio.manifest import Manifest

__all__ = ["add_parser", "run"]

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
        "--shape",
        type=shape_of,
        metavar="C,H,W",
        help="of an image, whatever the order in the file",
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
        type=numbers_of,
        metavar="N,N,...",
        help="one per SRC: a field for files of a class",
    )
    group.add_argument("--label-field", default="y", metavar="NAME", help="of --labels (default y)")
    group.add_argument("--rename", type=names_by_name, metavar="OLD=NEW,...", help="fields")
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
        type=ranges_of,
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
        type=scheduler_of,
        metavar="SCHEDULER",
        help="on a Dask cluster: of this machine, or tcp://HOST:PORT or a scheduler file *.json",
    )
    off = partial(group.add_argument, action="store_false")
    off("--no-check", dest="check", help="do not decode shards again to compare them")
    off(
        "--no-isolate",
        dest="isolate",
        help="open sources in this process, which then a library that crashes takes along",
    )
    off("--no-resume", dest="resume", help="do not go on from finished shards")
    off("--quiet", dest="progress", help="show no progress")
    group.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Convert, and print what was made."""
    if args.dry_run:
        _print_plan(args)
        return 0
    from e2eio.conversion import convert

    content = convert(**arguments_of(convert, args))
    if args.json:
        print(json.dumps(_result(content, args.out)))
    else:
        print(_sentence(content, args.out))
    return 0


def _print_plan(args: argparse.Namespace) -> None:
    """Print what a conversion would do; it writes nothing."""
    from e2eio.conversion import OPTION_NAMES, make_options, plan_conversion

    options = make_options(**{name: getattr(args, name) for name in OPTION_NAMES})
    plan = plan_conversion(options=options, **arguments_of(plan_conversion, args))
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
