"""Jet images of particles and of hits, whatever file they come from."""

from __future__ import annotations

__all__: list[str] = []
