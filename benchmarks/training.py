"""Does physics come out right? The talk's three benchmarks, trained: electron/photon, quark/gluon, top.

Each part is made of runs (a training, a timing); each run that is finished is kept at once in training.json, and one
that is under way keeps a checkpoint for each epoch: after Ctrl-C, a kill, or on another day the same command goes on.
Jets are simulated (Pythia, FastJet) when they are first needed, and stay in --work.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from e2eio.errors import E2eioError
from harness.command import fail, make_parser
from harness.environment import count_cores, describe
from harness.results import RESULTS
from learning.launch import LaunchError, perform
from learning.page import PAGE, TABLES, insert, render
from learning.parts import PARTS, Options
from learning.plots import draw
from learning.roc import NoCurveError
from learning.store import Results
from learning.tables import write_table

__all__ = ["main"]

EXAMPLES = """\
examples:
  python benchmarks/training.py --quick                        every part on few jets: what it does, not what it reaches
  python benchmarks/training.py --only io,layers --jets 40960  hours on 2 cores; go on by the same command
  python benchmarks/training.py --list                         which runs there are, and which are done
  python benchmarks/training.py --render                       write docs/benchmarks.md from the newest result
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is not done yet; return the exit code."""
    told = _make_parser().parse_args(arguments)
    options, parts = _options(told), _chosen(told.only)
    try:
        if told.render or told.check:
            return _render(told.out or _newest(), told.page, check=told.check)
        trial = told.work / "trial" if told.quick or told.toy else None  # no result to publish
        results = Results(told.out or trial or _folder())
        if told.list:
            return _list(results, options, parts)
        results.begin(describe(), dataclasses.asdict(options))
        failed = [name for name in parts if not _do(name, results, options, told.work)]
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        return fail("training", error)
    print(f"results: {results.path}")
    return 1 if failed else 0


def _do(name: str, results: Results, options: Options, work: Path) -> bool:
    """Do the runs of a part that are not done; say why if they cannot be."""
    runs = PARTS[name].runs(options)
    results.plan(name, runs)
    for run in runs:
        if results.find(run) is not None:
            continue
        try:
            results.add(run, perform(run, work, options.threads))
        except (E2eioError, LaunchError, NoCurveError) as error:
            print(f"{PARTS[name].title}: {error}", file=sys.stderr)
            return False
    _show(name, results)
    return True


def _show(name: str, results: Results) -> None:
    """Print the table of a part and draw its pictures."""
    if found := results.of_part(name):
        print(f"\n{PARTS[name].title}\n\n{write_table(TABLES[name](found))}", flush=True)
        draw(name, found, results.path.parent)


def _list(results: Results, options: Options, parts: Sequence[str]) -> int:
    for name in parts:
        print(PARTS[name].title)
        for run in PARTS[name].runs(options):
            print(f"  {'done' if results.find(run) else '    '} {run.title}")
    return 0


def _render(folder: Path | None, page: Path, *, check: bool) -> int:
    """Write the page from a result, pictures first; or compare it."""
    results = None if folder is None else Results(folder)
    if results is not None and not check:
        for name in PARTS:
            draw(name, results.of_part(name), results.path.parent)
    text = insert(render(results, page), page)
    if check:
        return int(text != page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")
    return 0


def _newest() -> Path | None:
    found = sorted(path.parent for path in RESULTS.glob("*-training/training.json"))
    return found[-1] if found else None


def _folder() -> Path:
    """Return the newest results folder, to go on with, or a new one."""
    if (found := _newest()) is not None:
        return found
    return RESULTS / f"{str(describe()['date'])[:19].replace('T', '-').replace(':', '')}-training"


def _options(told: argparse.Namespace) -> Options:
    cuda = torch.cuda.is_available()
    device = ("cuda" if cuda else "cpu") if told.device == "auto" else told.device
    devices = ("cpu", "cuda") if cuda and told.device == "auto" else (device,)
    quick = told.quick
    return Options(
        top="toy" if told.toy else "top",
        jets=told.jets or (512 if quick else 40_960),
        jets_x3=told.jets_x3 or (128 if quick else 8192),
        valid=told.valid or (512 if quick else 4096),
        test=told.test or (512 if quick else 16_384),
        epochs=told.epochs or (1 if quick else 12),
        halve_every=told.halve_every,
        seeds=told.seeds or (1 if quick else 3),
        precision=_precision(device) if told.precision == "auto" else told.precision,
        device=device,
        devices=devices,
        threads=told.threads or count_cores(),
        seconds=told.seconds or (2.0 if quick else 20.0),
    )


def _precision(device: str) -> str:
    """Return bfloat16 where the processor multiplies in it, which is faster; areas are as those of float32."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if known.get("avx512_bf16") or known.get("amx_bf16") else "float32"


def _chosen(text: str | None) -> list[str]:
    return [name for name in PARTS if text is None or name in text.split(",")]


def _parts(text: str) -> str:
    if unknown := set(text.split(",")) - set(PARTS):
        expected = f"expected some of {','.join(PARTS)}"
        raise argparse.ArgumentTypeError(f"found {', '.join(sorted(unknown))}; {expected}")
    return text


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {value}, expected 1 or more")
    return value


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--only", type=_parts, metavar="PARTS", help=f"of {','.join(PARTS)} (default: all)")
    add("--quick", action="store_true", help="few jets, short timings")
    text = "toy jets for the top benchmark: no Pythia needed, no physics to learn"
    add("--toy", action="store_true", help=text)
    _add_runs(parser)
    _add_places(parser)
    return parser


def _add_runs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("runs")
    add = group.add_argument
    number = partial(add, type=_positive, metavar="N")
    number("--jets", help="to train on (default 40960; --quick: 512)")
    number("--jets-x3", help="the same at x3 (default 8192; --quick: 128)")
    number("--valid", help="to choose the epoch by (default 4096; --quick: 512)")
    number("--test", help="to tell areas of (default 16384; --quick: 512)")
    number("--epochs", help="of each training (default 12; --quick: 1)")
    text = "epochs after which the learning rate is halved (default 10, the talk's)"
    number("--halve-every", default=10, help=text)
    number("--seeds", help="trainings of each kind (default 3; --quick: 1)")
    text = "of convolutions (default: bfloat16 where the processor multiplies in it)"
    add("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help=text)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    number("--threads", help="for computing and reading (default: all usable cores)")
    add("--seconds", type=float, metavar="S", help="that each timing takes, about (default 20)")


def _add_places(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("results")
    add, add_folder = group.add_argument, partial(group.add_argument, type=Path, metavar="DIR")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    text = "keeps jets and checkpoints (default: e2eio-training in the user's cache)"
    add_folder("--work", default=cache / "e2eio-training", help=text)
    text = "default: the newest in benchmarks/results, or a new one; --quick and --toy: in --work"
    add_folder("--out", help=text)
    add("--list", action="store_true", help="show the runs and do none")
    add("--render", action="store_true", help="write docs/benchmarks.md from the results")
    add("--check", action="store_true", help="exit code 1 if the page is not what the results say")
    add("--page", type=Path, default=PAGE, metavar="FILE", help="in place of docs/benchmarks.md")


if __name__ == "__main__":
    sys.exit(main())
