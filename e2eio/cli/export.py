"""``e2eio export``: a dataset as files that other programs read."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Final

from e2eio.cli.values import arguments_of, names_of

__all__ = ["add_parser", "run"]

_EXAMPLES: Final = """\
examples:
  e2eio export data/top top.parquet                          lists of pixels, for pyarrow, awkward, polars
  e2eio export data/top top.h5 --form dense --layout CHW     whole images, for h5py
  e2eio export data/top x1.tfrecord --form dense --samples-per-file 3200
  e2eio export data/top high.npz --select 'pt > 500' --channels track_pt,ecal

The ending of OUT tells the format: .parquet, .h5, .hdf5, .tfrecord, .npz.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "export",
        help="write a dataset as Parquet, HDF5, TFRecord or npz",
        description="Write a dataset as files that other programs read by themselves, without loss.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("dataset", metavar="DATA", help="a dataset directory or a shard")
    add("out", metavar="OUT", help="file to write")
    add(
        "--format",
        choices=("parquet", "hdf5", "tfrecord", "npz"),
        help="whatever the ending of OUT",
    )
    add("--form", choices=("sparse", "dense"), default="sparse", help="pixels, or whole images")
    add("--layout", choices=("CHW", "HWC"), default="HWC", help="of dense images (default: HWC)")
    add("--channels", type=names_of, metavar="A,B,...", help="only these, in this order")
    add("--select", metavar="CONDITION", help="on scalar fields, as 'pt > 500 & y == 1'")
    add(
        "--compression",
        type=_compression,
        default="auto",
        metavar="NAME",
        help="of the format's; none: none",
    )
    add("--samples-per-file", type=int, metavar="N", help="write several files: OUT-00000, ...")
    add(
        "--group-samples",
        type=int,
        default=64,
        metavar="N",
        help="of a row group or chunk, at most",
    )
    add("--overwrite", action="store_true", help="replace files that are there")
    add("--quiet", dest="progress", action="store_false", help="show no progress")
    add("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export, and print what was written."""
    from e2eio.exporters import export

    report = export(**arguments_of(export, args))
    if args.json:
        print(json.dumps(asdict(report)))
    else:
        names = report.files[0] if len(report.files) == 1 else f"{report.files[0]} and so on"
        print(
            f"{names}: {report.n_samples} samples in {len(report.files)} file(s), {report.n_bytes} bytes, "
            f"{report.n_bytes / max(report.n_samples, 1):.0f} a sample"
        )
    return 0


def _compression(text: str) -> str | None:
    return None if text == "none" else text
