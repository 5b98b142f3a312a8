"""``e2eio view``: pictures of a dataset."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2eio.cli.values import names_of
from e2eio.errors import ConfigError
from e2eio.plots import FORMATS, KINDS

if TYPE_CHECKING:
    from e2eio.dataset import Dataset
    from e2eio.plots import FigureData, Kind
    from e2eio.summary import Classes

__all__ = ["add_parser", "even_samples", "run"]

_EXAMPLES: Final = """\
examples:
  e2eio view data/top
  e2eio view data/top --samples 0,5-7 --what samples --out jets.pdf
  e2eio view data/top --by pt --channels ecal,hcal --what means,spectra --out pictures --format svg
  e2eio view data/top --limit 20000

Means, occupancy and spectra need one pass over the dataset (or over --limit samples of it), in bounded memory.
"""

_DEFAULT_SAMPLES: Final = 2
_MOST_SAMPLES: Final = 1000
_MOST_CHANNELS: Final = 64


@dataclass(frozen=True, slots=True)
class _Request:
    kinds: tuple[Kind, ...]
    samples: list[int]
    channels: list[int]
    classes: Classes


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "view",
        help="draw pictures of a dataset",
        description="Draw samples, class means, occupancy and spectra.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", metavar="DATA", help="a dataset directory or a shard")
    parser.add_argument(
        "--what",
        type=_kinds,
        default=KINDS,
        metavar="A,B,...",
        help=f"of {', '.join(KINDS)} (default: all)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--samples", type=_numbers, metavar="N,A-B,...", help="A-B includes B")
    which.add_argument(
        "--n", type=int, metavar="N", help="samples from all over the dataset (default 2)"
    )
    parser.add_argument(
        "--by",
        metavar="FIELD",
        help="scalar that tells classes apart; 'none': all are one (default: y, label, ...)",
    )
    parser.add_argument("--channels", metavar="A,B,...", help="names or numbers (default: all)")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="look at N samples of a large dataset, not at all"
    )
    _add_output(parser)
    parser.set_defaults(run=run)


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out",
        type=Path,
        metavar="OUT",
        help="a directory (default: DATA-pictures, here), a PDF of all pages, or a file of one picture",
    )
    group.add_argument("--format", choices=FORMATS, help="of files in a directory (default png)")
    group.add_argument("--label", default="", metavar="TEXT", help="what the data are, on top")
    group.add_argument("--overwrite", action="store_true", help="replace pictures that exist")
    group.add_argument("--quiet", action="store_true", help="show no progress")
    group.add_argument("--json", action="store_true", help="print what was made as JSON")


def run(args: argparse.Namespace) -> int:
    """Draw, and print the names of the files.

    Raises
    ------
    MissingDependencyError
        matplotlib or mplhep is not installed.
    """
    from e2eio.dataset import Dataset
    from e2eio.plots import figure_names, render, render_pages
    from e2eio.plots.files import refuse_existing, write_file

    dataset = Dataset(args.path)
    request = _request(dataset, args)
    names = figure_names(request.kinds, request.samples, request.classes)
    paths = _paths(args, names)
    refuse_existing(paths, overwrite=args.overwrite)
    import e2eio.plots.binding  # noqa: F401  # missing packages are told before the pass, not after it

    figures = _figures(dataset, request, args)
    if len(paths) < len(figures):
        write_file(paths[0], render_pages(figures, args.label))
    else:
        places = dict(zip(names, paths, strict=True))
        paths = [places[figure.name] for figure in figures]  # images too large have no means
        for figure, path in zip(figures, paths, strict=True):
            write_file(path, render(figure, path.suffix[1:].lower(), args.label))
    if args.json:
        print(json.dumps({"path": args.path, "files": [str(path) for path in paths]}))
    else:
        print("\n".join(map(str, paths)))
    return 0


def _request(dataset: Dataset, args: argparse.Namespace) -> _Request:
    from e2eio.options import at_least
    from e2eio.summary import make_classes

    if args.limit is not None:
        at_least(1, "--limit", args.limit)
    n = _DEFAULT_SAMPLES if args.n is None else at_least(0, "--n", args.n, most=_MOST_SAMPLES)
    samples = even_samples(len(dataset), n) if args.samples is None else list(args.samples)
    wrong = [number for number in samples if number >= len(dataset)]
    if wrong:
        raise ConfigError(f"no such sample: found {wrong[0]}, expected 0 to {len(dataset) - 1}")
    return _Request(
        args.what,
        samples if "samples" in args.what else [],
        _channels(dataset, args.channels),
        make_classes(dataset, args.by),
    )


def even_samples(n_samples: int, n: int) -> list[int]:
    """Return `n` numbers of samples, or all if there are fewer, at equal distances.

    Examples
    --------
    >>> even_samples(100, 4), even_samples(2, 4)
    ([0, 25, 50, 75], [0, 1])
    """
    n = min(n, n_samples)
    return [number * n_samples // n for number in range(n)]


def _channels(dataset: Dataset, text: str | None) -> list[int]:
    from e2eio.options import channel_indices

    if text is None:
        if len(dataset.channels) > _MOST_CHANNELS:
            raise ConfigError(
                f"too many channels: found {len(dataset.channels)}, expected at most "
                f"{_MOST_CHANNELS} in a picture; choose some with --channels"
            )
        return list(range(len(dataset.channels)))
    return channel_indices(
        dataset,
        [int(n) if n.isdecimal() and n not in dataset.channels else n for n in names_of(text)],
    )


def _paths(args: argparse.Namespace, names: Sequence[str]) -> list[Path]:
    """Return the file of each figure, or the one that holds all."""
    if args.out is not None and args.out.suffix[1:].lower() in FORMATS and not args.out.is_dir():
        suffix = args.out.suffix[1:].lower()
        if args.format not in (None, suffix):
            raise ConfigError(f"--format is {args.format!r} with --out {args.out}; leave one out")
        if suffix != "pdf" and len(names) != 1:
            raise ConfigError(
                f"--out is {args.out}: one picture, found {len(names)} to draw; "
                "give a directory or a .pdf, or ask for one (--what, --n)"
            )
        return [args.out]
    if args.out is not None and args.out.is_file():
        raise ConfigError(f"--out is the file {args.out}; expected a directory, .png, .pdf or .svg")
    directory = args.out or Path(f"{Path(args.path).resolve().stem}-pictures")
    return [directory / f"{name}.{args.format or 'png'}" for name in names]


def _figures(dataset: Dataset, request: _Request, args: argparse.Namespace) -> list[FigureData]:
    from e2eio.plots import gather, sample_figures, whole_figures
    from e2eio.progress import make_progress

    figures = list(sample_figures(dataset, request.samples, request.channels))
    if set(request.kinds) - {"samples"}:
        with make_progress(not args.quiet, verb="seen") as progress:
            content, maps = gather(dataset, request.classes, limit=args.limit, progress=progress)
        figures += whole_figures(
            dataset, request.classes, content, maps, request.channels, request.kinds
        )
    return figures


def _kinds(text: str) -> tuple[str, ...]:
    kinds = names_of(text)
    wrong = [kind for kind in kinds if kind not in KINDS]
    if wrong:
        raise argparse.ArgumentTypeError(f"found {wrong[0]!r}, expected one of {', '.join(KINDS)}")
    return kinds


def _numbers(text: str) -> tuple[int, ...]:
    numbers: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise argparse.ArgumentTypeError(f"found {part!r}, expected N or A-B with A <= B")
        begin, end = int(first), int(last or first)
        if not begin <= end < begin + _MOST_SAMPLES or len(numbers) >= _MOST_SAMPLES:
            raise argparse.ArgumentTypeError(
                f"found {part!r}, expected A <= B and at most {_MOST_SAMPLES} samples"
            )
        numbers.update(dict.fromkeys(range(begin, end + 1)))
    return tuple(numbers)
