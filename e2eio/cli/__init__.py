"""The command line: ``e2eio COMMAND ...``."""

from __future__ import annotations

from e2eio.cli.main import main

__all__ = ["main"]
