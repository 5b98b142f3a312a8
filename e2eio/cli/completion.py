"""``e2eio completion``: what a shell needs to complete commands, options, choices and files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from e2eio.errors import MissingDependencyError

__all__ = ["SHELLS", "add_parser"]

SHELLS: Final = ("bash", "zsh", "tcsh", "fish")

_EXAMPLES: Final = """\
examples:
  e2eio completion bash > ~/.local/share/bash-completion/completions/e2eio
  e2eio completion zsh > ~/.zfunc/_e2eio        (with: fpath+=~/.zfunc; autoload -U compinit; compinit)
  e2eio completion tcsh > ~/.e2eio.tcsh         (with: source ~/.e2eio.tcsh, in ~/.tcshrc)
  e2eio completion fish > ~/.config/fish/completions/e2eio.fish
"""

# What arguments are called in the help, of those that are files or directories.
_PATHS: Final = frozenset({"DATA", "DIR", "DST", "FILE", "OUT", "PATH", "SRC"})


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    whole: Callable[[], argparse.ArgumentParser],
) -> None:
    """Describe the command; `whole` makes the parser that is to be completed."""
    parser = commands.add_parser(
        "completion",
        help="print a script that completes commands in a shell",
        description="Print a script that completes commands, options, choices and files.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS, help="for which shell")
    parser.set_defaults(run=lambda args: _run(args, whole()))


def _run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        import shtab
    except ImportError:
        raise MissingDependencyError(
            "completion needs shtab: found none; install it: pip install 'e2eio[cli]'"
        ) from None
    _mark_files(parser, shtab.FILE)
    print(shtab.complete(parser, args.shell))
    return 0


def _mark_files(parser: argparse.ArgumentParser, files: object) -> None:
    """Say of all arguments that are paths that files complete them, in all commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                _mark_files(each, files)
        elif action.metavar in _PATHS:
            action.complete = files  # type: ignore[attr-defined]  # what shtab looks for
