"""Entry point: picks the command, and turns every error into one line and an exit code.

Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NoReturn

from e2eio.errors import ConfigError, E2eioError, SchemaMismatchError

__all__ = ["main"]

_SUCCESS: Final = 0
_FAILURE: Final = 1
_USAGE: Final = 2
_INTERRUPTED: Final = 130


class _Parser(argparse.ArgumentParser):
    """Takes options and paths in any order, and reports wrong usage in one line."""

    _is_mixing = False

    def parse_known_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        # As it is, argparse ends "SRC..." at the first option: SRC SRC --labels 1,0 DST is refused.
        # "--" is lost where they are mixed, and is seldom needed.
        if self._subparsers is not None or self._is_mixing or (args is not None and "--" in args):
            return super().parse_known_args(args, namespace)
        self._is_mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_mixing = False

    def error(self, message: str) -> NoReturn:
        _report(f"{message}; see '{self.prog} --help'")
        sys.exit(_USAGE)


def _make_parser() -> argparse.ArgumentParser:
    # Imported here, that Ctrl-C meanwhile finds main().
    from e2eio.cli import (
        build_dali_op,
        completion,
        convert,
        export,
        inspect,
        reshard,
        simulate,
        verify,
        view,
    )

    parser = _Parser(
        prog="e2eio",
        description="Detector images for neural networks: convert, inspect, view and verify datasets.",
        epilog="'e2eio COMMAND --help' shows the options of a command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"e2eio {_version()}")
    commands: argparse._SubParsersAction[argparse.ArgumentParser] = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, parser_class=_Parser
    )
    for command in (build_dali_op, convert, export, inspect, reshard, simulate, verify, view):
        command.add_parser(commands)
    completion.add_parser(commands, _make_parser)
    return parser


def _version() -> str:
    try:
        return version("e2eio")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+unknown"


def _report(message: str) -> None:
    line = " ".join(message.split())
    print(f"e2eio: {line}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; those of the process if not given.

    Returns
    -------
    int
        The exit code.

    Examples
    --------
    >>> main(["verify", "nowhere"])
    1
    """
    args = argparse.Namespace()
    try:
        args = _make_parser().parse_args(argv)
        _require_target(args)
        code = int(args.run(args))
        sys.stdout.flush()
    except SystemExit as end:  # by argparse: --help, --version, or wrong usage
        return end.code if isinstance(end.code, int) else _SUCCESS
    except Exception as error:
        if os.environ.get("E2EIO_DEBUG"):
            raise
        return _failed(error)
    except KeyboardInterrupt:
        goes_on = hasattr(args, "resume")
        _report(
            "interrupted: complete shards stay; run the same command again to go on"
            if goes_on
            else "interrupted: files that are complete stay"
        )
        return _INTERRUPTED
    return code


def _require_target(args: argparse.Namespace) -> None:
    """Raise ConfigError for the path of a variable that is not set, which pathlib takes for "."."""
    if getattr(args, "out", None) == "":
        raise ConfigError("no target: found an empty path, expected one; name it")


def _failed(error: Exception) -> int:
    if isinstance(error, BrokenPipeError):
        # The reader has gone; what Python flushes at exit must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILURE
    if isinstance(error, E2eioError):
        _report(str(error))
        wrong_usage = isinstance(error, ConfigError) and not isinstance(error, SchemaMismatchError)
        return _USAGE if wrong_usage else _FAILURE
    if isinstance(error, OSError):
        reason = (error.strerror or str(error)).lower()
        _report(f"system error: {error.filename or 'no file'}: {reason}")
        return _FAILURE
    if isinstance(error, MemoryError):
        _report("out of memory: use fewer processes")
        return _FAILURE
    _report(
        f"internal error: {type(error).__name__}: {error}; "
        "please report it, with what the same command prints with E2EIO_DEBUG=1"
    )
    return _FAILURE


if __name__ == "__main__":
    sys.exit(main())
