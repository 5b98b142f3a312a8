"""``python -m e2eio`` is ``e2eio``."""

from __future__ import annotations

import sys

from e2eio.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
