"""``e2eio simulate``: samples of a generator and a simulated detector, as a dataset."""

from __future__ import annotations

import argparse
import json
from typing import Final

from e2eio.cli.values import arguments_of

__all__ = ["add_parser", "run"]

_PROCESSES: Final = ("top", "quark-gluon", "electron-photon", "h4gamma", "ttbar")
_EXAMPLES: Final = """\
examples:
  e2eio simulate top data/top --n 40000
  e2eio simulate top data/top-x3 --n 4000 --resolution 3 --seed 7 --processes 8
  e2eio simulate quark-gluon data/qg --n 20000 --pileup 0
  e2eio simulate electron-photon data/eg --n 100000      no generator needed
  e2eio simulate h4gamma data/h4g --n 10000              whole events, 280 x 360
  pip install 'e2eio[sim]'                               Pythia and FastJet, which jets and events need

The same command goes on where an interrupted one (Ctrl-C) has ended. docs/simulate.md says more.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "simulate",
        help="make a dataset of simulated samples",
        description="Simulate samples of two classes, half of each, in a CMS-like detector: jets by Pythia 8 and FastJet "
        "with pile-up, whole events by Pythia 8, showers of single particles by numpy alone. They are no data of CMS.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_physics(parser)
    _add_work(parser)
    parser.set_defaults(run=run)


def _add_physics(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "process",
        choices=_PROCESSES,
        metavar="PROCESS",
        help="top: hadronic top quarks (y = 1) against other jets, 8 channels; quark-gluon: quarks (y = 1) "
        "against gluons, 3 channels; electron-photon: electrons (y = 1) against photons, 32 x 32 crystals, energy and "
        "time; h4gamma: H -> aa -> 4 photons (y = 1) against pairs of photons, ttbar: top pairs (y = 1) against other "
        "jets, both whole events, 8 channels",
    )
    add("out", metavar="OUT", help="directory of the dataset")
    add("--n", type=int, required=True, metavar="N", help="number of samples, 1 to 10^9")
    add("--seed", type=int, default=0, metavar="N", help="0 to 2^63 - 1 (default 0)")
    add(
        "--resolution",
        type=int,
        choices=(1, 3, 5),
        default=1,
        help="pixels per crystal edge: jets have 125, 375 or 625 pixels (default 1); events have 1 or 3, showers 1",
    )
    add(
        "--pileup",
        type=float,
        metavar="MEAN",
        help="other collisions, 0 to 200 (default 21; electron-photon: 0)",
    )


def _add_work(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("work").add_argument
    add("--processes", type=int, metavar="N", help="default: all usable cores")
    add("--shard-samples", type=int, default=2048, metavar="N", help="samples of a shard, at most")
    add("--compression-level", type=int, default=3, metavar="N", help="1 to 19")
    add("--overwrite", action="store_true", help="replace what OUT holds")
    add("--no-resume", dest="resume", action="store_false", help="do not go on from shards")
    add("--quiet", dest="progress", action="store_false", help="show no progress")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Simulate, and print what was made."""
    from e2eio.sim.production import simulate

    content = simulate(**arguments_of(simulate, args))
    n_bytes = sum(shard.n_bytes for shard in content.shards)
    if args.json:
        result = {
            "path": args.out,
            "n_samples": content.n_samples,
            "n_shards": len(content.shards),
            "n_bytes": n_bytes,
            "digest": content.digest,
            "content": content.content,
            "schema": content.schema.to_json(),
        }
        print(json.dumps(result))
    else:
        print(
            f"{args.out}: {content.n_samples} simulated samples in {len(content.shards)} shard(s), {n_bytes} bytes, "
            f"{n_bytes / content.n_samples:.0f} a sample"
        )
    return 0
