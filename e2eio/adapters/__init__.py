"""One module per framework; each is imported when it is asked for."""

from __future__ import annotations

__all__: list[str] = []
