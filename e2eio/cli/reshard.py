"""``e2eio merge``, ``split``, ``shuffle`` and ``repack``: from datasets to datasets."""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from e2eio.cli.values import arguments_of, names_of, size_of

if TYPE_CHECKING:
    from e2eio.manifest import Manifest

__all__ = ["add_parser"]

_COMMON: Final = """
No bit of a sample changes, each shard is read back, and dataset.json says what it was made of. The
same command goes on where an interrupted one (Ctrl-C) has ended.
"""
_MERGE: Final = f"""\
examples:
  e2eio merge data/top data/qcd data/both
  e2eio merge run*/shard-*.e2e data/all --shard-bytes 1G
{_COMMON}"""
_SPLIT: Final = f"""\
examples:
  e2eio split data/top data/parts --fractions train=0.8,valid=0.1,test=0.1 --stratify y
  e2eio split data/top data/parts --fractions train=0.9,test=0.1 --group run,event --seed 3
  e2eio split data/top data/parts --samples train=2560000,valid=102400
  e2eio split data/top data/chunks --samples 100000
  e2eio split data/top data/classes --by y

Parts go to directories of their names in OUT; their samples keep their order.
{_COMMON}"""
_SHUFFLE: Final = f"""\
examples:
  e2eio shuffle data/both data/shuffled --seed 7

The order is that of epoch 0 of a Loader with shuffle=True and this seed.
{_COMMON}"""
_REPACK: Final = f"""\
examples:
  e2eio repack data/top data/half --precision float16 --compression-level 9
  e2eio repack data/top data/calo --channels ecal,hcal --select "pt > 500 & y == 1"
  e2eio repack data/top data/large --shard-bytes 1G
{_COMMON}"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the four commands and their options."""
    _command(commands, "merge", "make one dataset of several", _MERGE)
    parser = _command(commands, "split", "make several datasets of one", _SPLIT)
    _add_split(parser)
    text = "store the samples in a random order"
    parser = _command(commands, "shuffle", text, _SHUFFLE)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the order (default 0)")
    text = "store samples otherwise: shards, channels, precision, a selection"
    parser = _command(commands, "repack", text, _REPACK)
    _add_repack(parser)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    verb: str,
    text: str,
    examples: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        verb,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sources", nargs="+", metavar="DATA", help="a dataset or a shard")
    parser.add_argument("out", metavar="OUT", help="directory to make")
    group = parser.add_argument_group("output")
    group.add_argument(
        "--shard-bytes", type=size_of, metavar="N[k|M|G]", help="size of a shard, about, at most"
    )
    if verb != "split":  # where --samples has another meaning beside it
        group.add_argument("--shard-samples", type=int, metavar="N", help="samples of a shard")
    group.add_argument("--compression-level", type=int, default=3, metavar="N", help="1 to 19")
    group.add_argument("--threads", type=int, metavar="N", help="default: all usable cores")
    group.add_argument("--overwrite", action="store_true", help="replace what OUT holds")
    off = partial(group.add_argument, action="store_false")
    off("--no-resume", dest="resume", help="do not go on from finished shards")
    off("--quiet", dest="progress", help="show no progress")
    group.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_run)
    return parser


def _add_split(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--fractions", type=_fractions, metavar="NAME=F,...", help="parts drawn at random, exact"
    )
    how.add_argument(
        "--samples",
        type=_counts,
        metavar="N | NAME=N,...",
        help="parts of N samples in file order, or drawn at random",
    )
    how.add_argument("--by", metavar="FIELD", help="a part for each value of a scalar field")
    parser.add_argument("--stratify", metavar="FIELD", help="distribute its values alike")
    parser.add_argument(
        "--group",
        type=names_of,
        default=(),
        metavar="FIELD,...",
        help="keep samples together that agree in these, as in run,event",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw (default 0)")


def _add_repack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision", choices=("float32", "float16"), help="of pixels; default: as they are"
    )
    parser.add_argument("--channels", type=names_of, metavar="A,B,...", help="keep these")
    parser.add_argument("--select", metavar="CONDITION", help='keep these, as in "pt > 500"')
    parser.add_argument("--exclude", metavar="FILE", help="leave these out: one number a line")


def _run(args: argparse.Namespace) -> int:
    from e2eio import reshard

    verb = getattr(reshard, args.command)
    made = verb(**arguments_of(verb, args))
    parts = (
        {f"{args.out}/{name}": part for name, part in made.items()}
        if args.command == "split"
        else {args.out: made}
    )
    return _print(parts, args.json)


def _print(made: dict[str, Manifest], as_json: bool) -> int:
    found = [
        {
            "path": path,
            "n_samples": content.n_samples,
            "n_shards": len(content.shards),
            "n_bytes": sum(shard.n_bytes for shard in content.shards),
            "digest": content.digest,
            "content": content.content,
        }
        for path, content in made.items()
    ]
    if as_json:
        print(json.dumps(found))
        return 0
    for each in found:
        print(
            f"{each['path']}: {each['n_samples']} samples in {each['n_shards']} shard(s), "
            f"{each['n_bytes']} bytes"
        )
    return 0


def _pairs(text: str, kind: type, expected: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        try:
            number = kind(value)
        except ValueError:
            equals = ""
        if not equals or name.strip() in found:
            raise argparse.ArgumentTypeError(f"found {part!r} in {text!r}, expected {expected}")
        found[name.strip()] = number
    return found


def _fractions(text: str) -> dict[str, float]:
    return _pairs(text, float, "parts as in train=0.8,test=0.2, each once")


def _counts(text: str) -> int | dict[str, int]:
    if text.isdecimal():
        return int(text)
    return _pairs(text, int, "a number, or parts as in train=8000,test=2000, each once")
